"""`run`: the root, binds, volumes and tmpfs, read from inside the container."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.integration.engine import IMAGE, Engine


def test_read_only(engine: Engine) -> None:
    """--read-only: the root can't be written, /dev/shm and a --tmpfs can."""
    out = engine.sh("touch /x 2>&1; touch /etc/hosts 2>&1; touch /dev/shm/x /tmp/x && echo ok", "--read-only", "--tmpfs", "/tmp")
    assert out.splitlines() == ["touch: /x: Read-only file system", "touch: /etc/hosts: Read-only file system", "ok"]


def test_tmpfs(engine: Engine) -> None:
    """--tmpfs with options: size and mode are as asked, docker's guards are on."""
    out = engine.sh(
        "stat -c %a /scratch; df -k /scratch | tail -1 | awk '{print $2}'; grep ' /scratch ' /proc/mounts",
        "--tmpfs",
        "/scratch:size=1m,mode=700",
    )
    mode, size, mount = out.splitlines()
    assert (mode, size) == ("700", "1024")
    assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[3].split(","))


def test_bind(engine: Engine, tmp_path: Path) -> None:
    """-v shares a folder both ways; :ro only one way."""
    (tmp_path / "file").write_text("from the host\n")
    out = engine.sh(
        "cat /data/file; echo back >/data/new; touch /ro/x 2>&1 || true", "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/ro:ro"
    )
    assert out == "from the host\ntouch: /ro/x: Read-only file system\n"
    assert (tmp_path / "new").read_text() == "back\n"


def test_bind_of_a_file(engine: Engine, tmp_path: Path) -> None:
    """A single file can be mounted, over one of the image or where there is none."""
    (tmp_path / "file").write_text("mine\n")
    assert (
        engine.sh("cat /etc/passwd /new/place", "-v", f"{tmp_path}/file:/etc/passwd", "-v", f"{tmp_path}/file:/new/place")
        == "mine\nmine\n"
    )


def test_bind_makes_a_missing_folder(engine: Engine, tmp_path: Path) -> None:
    """-v makes the folder on the host, as docker does; --mount refuses."""
    assert engine.box("-v", f"{tmp_path}/made/here:/data", IMAGE, "true").code == 0
    assert (tmp_path / "made" / "here").is_dir()
    done = engine.box("--mount", f"type=bind,source={tmp_path}/not,target=/data", IMAGE, "true")
    assert done.code == 125
    assert "does not exist" in done.err


def test_mount(engine: Engine, tmp_path: Path) -> None:
    """--mount: bind read-only, tmpfs with a size."""
    out = engine.sh(
        "touch /data/x 2>&1; df -k /t | tail -1 | awk '{print $2}'",
        "--mount",
        f"type=bind,source={tmp_path},target=/data,readonly",
        "--mount",
        "type=tmpfs,target=/t,tmpfs-size=2m",
    )
    assert out == "touch: /data/x: Read-only file system\n2048\n"


def test_a_read_only_bind_is_read_only_below(engine: Engine, tmp_path: Path) -> None:
    """:ro holds for mounts below the folder too."""
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "below"], check=True)
    try:
        done = engine.box("-v", f"{tmp_path}:/data:ro", IMAGE, "touch", "/data/below/x")
        assert done.code == 1
        assert "Read-only file system" in done.err
    finally:
        subprocess.run(["umount", tmp_path / "below"], check=True)


def test_a_named_volume_lives_on(engine: Engine) -> None:
    """A named volume is filled from the image the first time, and outlives its container."""
    try:
        assert engine.sh("head -n 1 /etc/passwd; echo kept >/etc/mine", "-v", "testvolume:/etc").startswith("root:")
        assert engine.sh("cat /vol/mine; head -n 1 /vol/group", "-v", "testvolume:/vol") == "kept\nroot:x:0:\n"
    finally:
        shutil.rmtree(f"{engine.directory}/root/volumes/testvolume")


def test_an_anonymous_volume_goes_with_its_container(engine: Engine) -> None:
    """-v /path is a volume without a name; --rm and `rm -v` remove it. (The fixture finds what is left of it.)"""
    assert engine.sh("touch /vol/x; grep -c ' /vol ' /proc/mounts", "-v", "/vol") == "1\n"
    name = engine.detached("-v", "/vol", IMAGE, "sh", "-c", "ls /vol; touch /vol/kept")
    assert engine.ok("wait", name) == "0\n"
    engine.ok("start", name)
    assert engine.ok("wait", name) == "0\n"
    assert engine.ok("logs", name) == "kept\n"  # the second start found the first one's volume
    engine.ok("rm", "-v", name)


def test_rm_keeps_an_anonymous_volume(engine: Engine) -> None:
    """As docker does: what is in it may be all that mattered of the container."""
    name = engine.detached("-v", "/vol", IMAGE, "touch", "/vol/kept")
    engine.ok("wait", name)
    engine.ok("rm", name)
    (volume,) = os.listdir(f"{engine.directory}/root/volumes")
    assert os.listdir(f"{engine.directory}/root/volumes/{volume}/_data") == ["kept"]
    shutil.rmtree(f"{engine.directory}/root/volumes/{volume}")


def test_resolver_that_is_a_link_to_nothing(engine: Engine, rootfs: Path) -> None:
    """Images of systems with systemd-resolved have /etc/resolv.conf as a link into /run: its target is made and used, inside."""
    os.symlink("../run/systemd/resolve/stub-resolv.conf", rootfs / "etc" / "resolv.conf")
    done = engine.box("--rootfs", str(rootfs), "sh", "-c", "cat /etc/resolv.conf; grep -c resolv.conf /proc/mounts")
    assert done.code == 0, done
    assert done.out.endswith("\n1\n")
    assert (rootfs / "run" / "systemd" / "resolve" / "stub-resolv.conf").is_file()


def test_files_are_for_all_users(engine: Engine) -> None:
    """Whatever the caller's umask is, other users than root read the network's files and enter volumes."""
    old = os.umask(0o077)
    try:
        out = engine.sh(
            "cat /etc/hosts /etc/hostname >/dev/null && cd /vol && cat /etc/resolv.conf >/dev/null && echo ok",
            "-u",
            "nobody",
            "-v",
            "/vol",
        )
    finally:
        os.umask(old)
    assert out == "ok\n"


def test_a_file_on_a_folder(engine: Engine) -> None:
    """A file can't be mounted on a folder: the error says which step, and what is possible."""
    done = engine.box("-v", "/etc/passwd:/etc", IMAGE, "true")
    assert done.code == 125
    assert done.err.splitlines()[1].startswith("a file can be mounted on a file only, and a folder on a folder")
