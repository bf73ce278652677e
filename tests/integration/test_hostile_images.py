"""Hostile images and volumes: links where mounts go, false devices, files that are none."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from tests.integration.engine import IMAGE, Engine

# -- mount destinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/tmp/victim", "../../../../../../tmp/victim", "/proc/self/root/tmp/victim", "/proc/1/cwd"])
def test_mount_on_a_link_of_the_image(engine: Engine, rootfs: Path, tmp_path: Path, target: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: a destination that is a symlink in the image is found or made inside its root, never outside."""
    os.symlink(target, rootfs / "data")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("shared\n")
    assert not os.path.lexists("/tmp/victim")
    done = engine.box("--rootfs", str(rootfs), "-v", f"{tmp_path}/shared:/data/below", "cat", "/data/below/file")
    assert not os.path.lexists("/tmp/victim")
    assert done.out in ("", "shared\n")
    with open("/proc/self/mountinfo") as f:
        assert str(tmp_path / "shared") not in f.read()


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc"])
@pytest.mark.parametrize("target", ["/etc", "../outside", "/proc/self/root"])
def test_system_folder_that_is_a_link(engine: Engine, rootfs: Path, tmp_path: Path, name: str, target: str) -> None:
    """CVE-2026-41579, CVE-2026-47766: /dev, /proc or /sys as a symlink in the image never leads out of it, and no node is made there."""
    outside = rootfs.parent / "outside"
    outside.mkdir()
    before = sorted(os.listdir("/etc")), os.listdir(outside)
    shutil.rmtree(rootfs / name)
    os.symlink(target, rootfs / name)
    engine.box("--rootfs", str(rootfs), "true")
    assert (sorted(os.listdir("/etc")), os.listdir(outside)) == before


def test_proc_that_is_not_proc(engine: Engine, rootfs: Path) -> None:
    """CVE-2019-19921, CVE-2025-52881: settings are written through the container's own proc mount, not through what the image puts in its place."""
    shutil.rmtree(rootfs / "proc")
    (rootfs / "fake").mkdir()
    os.symlink("/fake", rootfs / "proc")
    done = engine.box("--rootfs", str(rootfs), "--sysctl", "kernel.msgmax=4097", "cat", "/proc/sys/kernel/msgmax")
    assert done.code != 0 or done.out == "4097\n"
    with open("/proc/sys/kernel/msgmax") as f:
        assert f.read() != "4097\n"


def test_masks_with_a_false_null_device(engine: Engine, rootfs: Path) -> None:
    """CVE-2025-31133: /dev/null of the image is not what files are hidden behind: a symlink there opens nothing."""
    os.symlink("/proc/sys/kernel/core_pattern", rootfs / "dev" / "null")
    os.symlink("/proc/sys/kernel/core_pattern", rootfs / "dev" / "console")
    done = engine.box(
        "--rootfs", str(rootfs), "sh", "-c", "cat /proc/keys /proc/timer_list; (echo x >/proc/sys/kernel/core_pattern) 2>&1; true"
    )
    assert done.out.splitlines() == ["sh: can't create /proc/sys/kernel/core_pattern: Read-only file system"]


def test_masks_with_a_bind_of_dev(engine: Engine, tmp_path: Path) -> None:
    """The same with -v DIR:/dev, where no /dev of ours covers the image's: the mask is the host's own null device."""
    os.symlink("/proc/sys/kernel/core_pattern", tmp_path / "null")
    done = engine.box(
        "-v",
        f"{tmp_path}:/dev",
        IMAGE,
        "sh",
        "-c",
        "cat /proc/keys; stat -c '%F %t:%T' /proc/keys; (echo x >/proc/sys/kernel/core_pattern) 2>&1; true",
    )
    if os.path.exists("/proc/keys"):
        assert "character special file 1:3" in done.out
    assert "Read-only file system" in done.out


def test_console_is_not_the_images(engine: Engine, rootfs: Path) -> None:
    """CVE-2025-52565: with -t, /dev/console is bound to the terminal by descriptor: what the image has there is not opened or mounted on."""
    os.symlink("/etc/passwd", rootfs / "dev" / "console")
    (rootfs / "dev" / "pts").mkdir(exist_ok=True)
    os.symlink("/etc/passwd", rootfs / "dev" / "pts" / "0")
    done = engine.box("--rootfs", str(rootfs), "-t", "sh", "-c", "stat -c '%F' /dev/console; head -n 1 /etc/passwd")
    assert done.out.splitlines()[0].strip() == "character special file"
    assert done.out.splitlines()[1].startswith("root:")


def test_destination_swapped_by_another_container(engine: Engine, tmp_path: Path) -> None:
    """CVE-2021-30465 as a race: while a program in a shared volume swaps a folder with a symlink to /, mounts below it never land on the host."""
    (tmp_path / "volume" / "a").mkdir(parents=True)
    (tmp_path / "canary").mkdir()
    swap = "cd /v; ln -s / link; while :; do mv a b; mv link a; mv a link; mv b a; done 2>/dev/null"
    engine.detached("-v", f"{tmp_path}/volume:/v", IMAGE, "sh", "-c", swap)
    for _ in range(15):
        done = engine.box("-v", f"{tmp_path}/volume:/v", "-v", f"{tmp_path}/canary:/v/a/mc-canary", IMAGE, "true")
        assert "Traceback" not in done.err
        assert not os.path.lexists("/mc-canary")
    with open("/proc/self/mountinfo") as f:
        assert "mc-canary" not in f.read()


def test_volume_that_is_a_link_is_the_users_choice_alone(engine: Engine) -> None:
    """A link that a program puts in the place of a named volume's folder does not lead a later container to the host."""
    try:
        engine.ok("run", "--rm", "--network", "none", "-v", "swapped:/v", IMAGE, "true")
        folder = f"{engine.directory}/root/volumes/swapped"
        assert os.listdir(folder) == ["_data"]
        assert stat.S_IMODE(os.stat(f"{engine.directory}/root").st_mode) == 0o700
        # From inside, _data itself is a mount point: it can't be renamed or replaced.
        done = engine.box("-v", "swapped:/v", IMAGE, "sh", "-c", "mv /v /w || rmdir /v || ln -sfn / /v")
        assert os.path.isdir(f"{folder}/_data")
        assert not os.path.islink(f"{folder}/_data")
        assert "busy" in done.err
    finally:
        shutil.rmtree(f"{engine.directory}/root/volumes/swapped")


# -- users -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["fifo", "link", "device", "directory", "huge"])
def test_passwd_that_is_no_file(engine: Engine, rootfs: Path, spoil: str) -> None:
    """CVE-2024-9676: /etc/passwd as a FIFO, a link out of the image, a device, a folder or without end neither hangs nor reads the host."""
    passwd = rootfs / "etc" / "passwd"
    passwd.unlink()
    if spoil == "fifo":
        os.mkfifo(passwd)
    elif spoil == "link":
        (rootfs.parent / "secret").write_text("secret:x:4242:4242::/:/bin/sh\n")
        os.symlink("../../secret", passwd)
    elif spoil == "device":
        os.mknod(passwd, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    elif spoil == "directory":
        passwd.mkdir()
    else:
        with open(passwd, "wb") as f:
            f.truncate(1 << 40)
    begin = time.monotonic()
    done = engine.box("--rootfs", str(rootfs), "-u", "secret", "id")
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "4242" not in done.out
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "user",
    ["4294967296", "-1", "2147483648", "4294967295:0", "0:4294967296", "99999999999999999999", "a:b:c", "root\nx", "0x0", " 0"],
)
def test_users_that_wrap_round(engine: Engine, user: str) -> None:
    """CVE-2024-40635, CVE-2026-30892: a number too large, or what is no user, never becomes root by accident."""
    for done in (
        engine.box("-u", user, IMAGE, "id", "-u"),
        engine.do("exec", "-u", user, engine.detached(IMAGE, "sleep", "600"), "id", "-u"),
    ):
        assert done.code != 0, (user, done)
        assert done.out == ""
        assert "Traceback" not in done.err


def test_numeric_user_in_exec(engine: Engine) -> None:
    """CVE-2026-30892: exec -u UID:GID takes exactly these, and drops capabilities with them."""
    name = engine.detached(IMAGE, "sleep", "600")
    out = engine.ok("exec", "-u", "1000:2000", name, "sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status")
    assert out.splitlines() == ["1000", "2000", "2000", "CapEff:\t0000000000000000"]


def test_groups_can_not_be_shed(engine: Engine) -> None:
    """CVE-2022-36109: the primary group is among the supplementary ones, so a "negative" group permission can't be dodged."""
    assert engine.sh("grep Groups: /proc/self/status", "-u", "1000:2000").split()[1:] == ["2000"]


def test_group_file_of_the_image(engine: Engine, rootfs: Path) -> None:
    """Supplementary groups are those of the image's group file; entries out of range are refused."""
    with open(rootfs / "etc" / "passwd", "a") as f:
        f.write("alice:x:1000:1000::/home/alice:/bin/sh\n")
    with open(rootfs / "etc" / "group", "a") as f:
        f.write("audio:x:29:alice,bob\nvideo:x:44:alice\n")
    assert engine.box("--rootfs", str(rootfs), "-u", "alice", "id", "-G").out == "1000 29 44\n"
    with open(rootfs / "etc" / "group", "a") as f:
        f.write("evil:x:4294967296:alice\n")
    done = engine.box("--rootfs", str(rootfs), "-u", "alice", "id", "-G")
    assert done.code != 0
    assert "Traceback" not in done.err


def test_inheritable_capabilities(engine: Engine) -> None:
    """CVE-2022-24769, CVE-2022-29162: inheritable and ambient sets are empty for run and exec, also for another user with --cap-add."""
    name = engine.detached("--cap-add", "NET_RAW", "-u", "1000", IMAGE, "sleep", "600")
    for words in (
        ("exec", name),
        ("exec", "-u", "0", name),
        ("run", "--rm", "--network", "none", "--cap-add", "SYS_ADMIN", "-u", "1000", IMAGE),
    ):
        out = engine.ok(*words, "grep", "-e", "CapInh", "-e", "CapAmb", "/proc/self/status")
        assert [int(line.split()[1], 16) for line in out.splitlines()] == [0, 0]
