"""Hostile root file systems and volumes against the OCI runtime: what is mounted or made for a container lands in it, or nowhere.

test_hostile_images.py does the like with the engine's flags; here are what only config.json can ask for, and races.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.engine import SLOW, Done, Terminal
from tests.integration.oci import Oci


@pytest.fixture
def outside(oci: Oci) -> Iterator[Path]:
    """A folder of the host beside the bundle, with a secret. Nothing may be made in it, mounted on it or read of it."""
    folder = oci.folder / "outside"
    for name in ("here", "proc", "dev", "pts"):
        (folder / name).mkdir(parents=True)
    (folder / "secret").write_text("secret")
    before = _all(folder)
    yield folder
    assert _all(folder) == before


def _all(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every path below with its inode, its mode, and what it holds."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            s = os.lstat(path)
            found[path] = (s.st_ino, s.st_mode, Path(path).read_bytes() if os.path.isfile(path) else b"")
    return found


def _clear(oci: Oci, name: str) -> Path:
    """The place of a name in the root, where there is nothing now."""
    path = oci.rootfs / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def _refused_or(oci: Oci, done: Done) -> bool:
    """Whether the container ran; if not, one line says why."""
    if done.code == 0:
        return True
    assert done.code == 1 and done.err.count("\n") == 1 and "Traceback" not in done.err and "internal error" not in done.err, done
    return False


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """While two names change places."""
    program = [sys.executable, "-IS", str(Path(__file__).with_name("swapper.py")), str(one), str(other)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"swapping\n"
        yield
    finally:
        process.kill()
        process.communicate()


WAYS_OUT = ["absolute", "relative", "chain"]


def _link(oci: Oci, link: Path, to: Path, way: str) -> None:
    """A symlink that leads to a path of the host, for who follows it there."""
    up = "../" * 30
    if way == "absolute":
        link.symlink_to(to)
    elif way == "relative":
        link.symlink_to(f"{up}{to}")
    else:
        (oci.rootfs / "hop").symlink_to(f"/hop2/..{to}")
        (oci.rootfs / "hop2").symlink_to("..")
        link.symlink_to("/hop")


@pytest.mark.parametrize("way", WAYS_OUT)
def test_everything_that_is_made_at_a_link_of_the_image(oci: Oci, outside: Path, way: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: mounts, mount points, devices, the working directory, masked and read-only paths, all through a
    symlink of the image to a folder of the host."""
    _link(oci, oci.rootfs / "link", outside, way)
    (oci.folder / "volume").mkdir()
    oci.mount("/link/here", "tmpfs")
    oci.mount("/link/made/new", "tmpfs")
    oci.mount("/link/bound", oci.folder / "volume")
    oci.mount("/link/file/name", oci.bundle / "config.json")
    oci.config["linux"]["devices"] = [
        {"path": "/link/node", "type": "c", "major": 1, "minor": 3},
        {"path": "/link/pipe", "type": "p"},
    ]
    oci.config["linux"]["maskedPaths"] += ["/link/secret", "/link/pts"]
    oci.config["linux"]["readonlyPaths"] += ["/link/secret", "/link/here"]
    done = oci.run(
        "sh", "-c", "pwd; cat /link/secret; grep -c /link /proc/self/mountinfo; ls /link/here /link/node", cwd="/link/work"
    )
    assert "secret" not in done.out
    if _refused_or(oci, done):
        assert "/link" not in done.out.splitlines()[0] or way != "absolute"


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "dev/pts", "dev/shm", "etc"])
def test_system_folder_that_is_a_link_to_the_host(oci: Oci, outside: Path, name: str, way: str) -> None:
    """CVE-2019-19921, CVE-2026-41579, CVE-2026-47766: /proc, /sys or /dev of the image is a symlink: nothing is mounted or made there."""
    if "/" in name:  # what is below a tmpfs can't be the image's
        oci.config["mounts"] = [m for m in oci.config["mounts"] if m["destination"] != "/dev"]
    _link(oci, _clear(oci, name), outside, way)
    oci.mount("/etc/hosts", oci.bundle / "config.json")
    done = oci.run("sh", "-c", "ls -d /proc/self /proc/sys; cat /proc/self/mountinfo")
    if _refused_or(oci, done) and name in ("proc", "sys"):
        pytest.fail(f"/{name} is a link: what is masked in it could be swapped afterwards\n{done}")


def test_dev_of_the_image_without_a_tmpfs(oci: Oci, outside: Path) -> None:
    """A config without a mount on /dev: nodes are made in the image's folder, not where its links lead."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if not m["destination"].startswith("/dev")]
    _clear(oci, "dev").mkdir()
    for name in ("null", "zero", "tty", "fd", "stdin", "ptmx"):
        (oci.rootfs / "dev" / name).symlink_to(outside / name)
    _refused_or(oci, oci.run("sh", "-c", "ls -l /dev; echo x >/dev/null"))


@pytest.mark.parametrize("kind", ["link", "file", "folder", "fifo", "other device"])
def test_masks_with_a_false_null_device(oci: Oci, kind: str) -> None:
    """CVE-2025-31133: what masks a file is the host's /dev/null, whatever the image has in its place, so no mask shows a file."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if not m["destination"].startswith("/dev")]
    null = _clear(oci, "dev") / "null"
    null.parent.mkdir()
    if kind == "link":
        null.symlink_to("/proc/sys/kernel/core_pattern")
    elif kind == "file":
        null.write_text("not null")
    elif kind == "folder":
        null.mkdir()
    elif kind == "fifo":
        os.mkfifo(null)
    else:
        os.mknod(null, 0o020666, os.makedev(1, 5))
    (oci.rootfs / "masked").write_text("hidden")
    oci.config["linux"]["maskedPaths"] += ["/masked", "/proc/sys/kernel/core_pattern"]
    done = oci.run(
        "sh", "-c", "stat -c '%F %t %T' /masked /proc/keys /proc/sys/kernel/core_pattern; cat /masked /proc/sys/kernel/core_pattern"
    )
    assert done.out == "character special file 1 3\n" * 3, done


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
def test_console_is_not_what_the_image_says(oci: Oci, outside: Path, kind: str) -> None:
    """CVE-2025-52565: /dev/console of the image is a symlink to a masked file, and /dev/pts/0 too: the terminal is bound inside, or not at all."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if m["destination"] != "/dev"]
    _clear(oci, "dev")
    (oci.rootfs / "dev/pts").mkdir(parents=True)
    console = oci.rootfs / "dev/console"
    if kind == "link":
        console.symlink_to("/proc/sys/kernel/core_pattern")
    elif kind == "dangling link":
        console.symlink_to(outside / "console")
    elif kind == "folder":
        console.mkdir()
    else:
        os.mkfifo(console)
    (oci.rootfs / "dev/pts/0").symlink_to("/etc/passwd")
    with open("/proc/sys/kernel/core_pattern") as f:
        pattern = f.read()
    oci.write(
        "sh",
        "-c",
        "echo '|/x' >/proc/sys/kernel/core_pattern",
        terminal=True,
    )
    terminal = Terminal(oci.command("run", "--bundle", str(oci.bundle), "one"))
    try:
        assert terminal.wait() in (0, 1)
    finally:
        terminal.close()
    shown = terminal.shown.decode()
    assert "Traceback" not in shown and "internal error" not in shown
    if "link" in kind:
        assert "/dev/console must be no link" in shown
    with open("/proc/sys/kernel/core_pattern") as f:
        assert f.read() == pattern


@pytest.mark.parametrize("kind", ["file", "link", "node", "fifo"])
def test_terminals_are_of_a_devpts(oci: Oci, kind: str) -> None:
    """Without a devpts in the container, nothing of the image poses as one: no terminal is made from what lies there, by run or exec."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if not m["destination"].startswith("/dev")]
    _clear(oci, "dev")
    (oci.rootfs / "dev/pts").mkdir(parents=True)
    ptmx = oci.rootfs / "dev/pts/ptmx"
    if kind == "file":
        ptmx.write_text("x")
    elif kind == "link":
        ptmx.symlink_to("/proc/sys/kernel/core_pattern")
    elif kind == "node":
        os.mknod(ptmx, 0o020666, os.makedev(5, 2))
    else:
        os.mkfifo(ptmx)
    oci.running(terminal=False)
    commands = [oci.command("exec", "-t", "one", "echo", "it has a terminal")]
    oci.config["process"]["terminal"] = True
    oci.config["linux"]["cgroupsPath"] += "-two"
    oci.write("echo", "it has a terminal")
    commands.append(oci.command("run", "--bundle", str(oci.bundle), "two"))
    for command in commands:
        terminal = Terminal(command)
        try:
            assert terminal.wait() in (1, 255), terminal.shown
            assert b"it has a terminal" not in terminal.shown and b"Traceback" not in terminal.shown
        finally:
            terminal.close()


@pytest.mark.parametrize("way", ["relative", "absolute"])
def test_volume_whose_folders_are_swapped_meanwhile(oci: Oci, outside: Path, way: str) -> None:
    """CVE-2021-30465 as a race: in a volume shared with another container a folder and a symlink to the host change places all the time.
    Whatever is to be mounted, made or hidden below it lands in the container, where its mount table shows it, or create fails."""
    volume = oci.folder / "volume"
    (volume / "dir").mkdir(parents=True)
    (volume / "link").symlink_to(f"{'../' * 30 if way == 'relative' else ''}{outside}")
    oci.mount("/volume", volume)
    oci.mount("/volume/dir/here", "tmpfs", "size=4k")
    oci.mount("/volume/dir/made/new", "tmpfs", "size=8k")
    oci.mount("/volume/dir/file", oci.bundle / "config.json")
    oci.config["linux"]["devices"] = [{"path": "/volume/dir/node", "type": "p"}]
    oci.config["linux"]["maskedPaths"] += ["/volume/dir/secret", "/volume/dir/pts"]
    oci.config["linux"]["readonlyPaths"] += ["/volume/dir/here"]
    oci.write("sh", "-c", "grep -c -e size=4k -e size=8k /proc/self/mountinfo; cat /volume/*/secret", cwd="/volume/dir/work")
    outcomes = {True: 0, False: 0}
    with swapping(volume / "dir", volume / "link"):
        for turn in range(25):
            if SLOW and turn >= 4 and outcomes[True]:
                break  # most of its starts lose the race and are refused: one that comes up is waited for
            done = oci.do("run", "one")
            assert "secret" not in done.out
            if done.out:
                assert int(done.out.split()[0]) >= 2, f"a mount is not in the container: {done}"
            outcomes[bool(done.out)] += 1
            assert "Traceback" not in done.err and "internal error" not in done.err, done
            assert not oci.left()
    assert outcomes[True], f"no container came up at all: {done}"


def test_container_without_a_mount_namespace_changes_no_mount_of_the_host(oci: Oci) -> None:
    """All of what config.json may ask for, in the host's own mount namespace: what is mounted stays out of the host's table."""
    before = {name: os.stat(name).st_dev for name in ("/", "/proc", "/sys", "/dev", "/dev/pts", "/tmp")}
    linux = oci.config["linux"]
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "mount"]
    for masked in (False, True):
        if not masked:
            del linux["maskedPaths"], linux["readonlyPaths"]
        else:
            linux["maskedPaths"], linux["readonlyPaths"] = ["/proc/keys", "/sys/firmware", "/proc/acpi"], ["/proc/sys"]
        oci.write("true")
        done = oci.fenced("run", "one")
        assert "the mounts of the host are changed" not in done.err, done
        _refused_or(oci, done)
        assert not oci.left()
    assert {name: os.stat(name).st_dev for name in before} == before


def test_mount_namespace_of_the_host_by_path_is_no_way_to_change_it(oci: Oci) -> None:
    """The same with linux.namespaces giving the host's by path."""
    oci.config["linux"]["namespaces"] = [
        {**n, **({"path": "/proc/self/ns/mnt"} if n["type"] == "mount" else {})} for n in oci.config["linux"]["namespaces"]
    ]
    oci.write("true")
    done = oci.fenced("run", "one")
    assert "the mounts of the host are changed" not in done.err, done
    _refused_or(oci, done)
