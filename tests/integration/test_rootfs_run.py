"""`run --rootfs DIR`: a folder as the root, without an image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.integration.engine import Engine


def test_runs_on_a_folder(engine: Engine, rootfs: Path) -> None:
    """The folder is the root; the first argument is the program."""
    done = engine.box("--rootfs", str(rootfs), "sh", "-c", "ls /; cat /etc/passwd | head -n 1")
    assert done.code == 0
    assert "bin" in done.out.split()
    assert "root:x:0:0" in done.out


def test_what_is_written_stays(engine: Engine, rootfs: Path) -> None:
    """There is no layer between: what the container writes is in the folder, and --rm removes none of it."""
    assert engine.box("--rootfs", str(rootfs), "sh", "-c", "echo kept >/file").code == 0
    assert (rootfs / "file").read_text() == "kept\n"
    assert (rootfs / "bin" / "busybox").exists()


def test_no_mount_of_it_is_left_in_the_folder(engine: Engine, rootfs: Path) -> None:
    """Mounts, device nodes and links of the container are not in the folder afterwards, nor in the host's mount table."""
    assert engine.box("--rootfs", str(rootfs), "true").code == 0
    with open("/proc/self/mountinfo") as f:
        assert str(rootfs) not in f.read()
    assert os.listdir(rootfs / "proc") == []
    assert os.listdir(rootfs / "dev") == []


def test_read_only(engine: Engine, rootfs: Path) -> None:
    """--read-only holds for a folder too, and the folder on the host stays writable."""
    done = engine.box("--read-only", "--rootfs", str(rootfs), "touch", "/x")
    assert done.code == 1
    assert "Read-only file system" in done.err
    (rootfs / "x").touch()


def test_relative_path(engine: Engine, rootfs: Path) -> None:
    """A relative folder is relative to where the command stands."""
    old = os.getcwd()
    os.chdir(rootfs.parent)
    try:
        assert engine.box("--rootfs", "rootfs", "true").code == 0
    finally:
        os.chdir(old)


def test_several_at_once(engine: Engine, rootfs: Path) -> None:
    """One folder can be the root of several containers: each has its own mounts on it."""
    names = [engine.detached("--rootfs", str(rootfs), "sleep", "600") for _ in range(3)]
    for name in names:
        assert engine.ok("exec", name, "hostname") == f"{name[:12]}\n"


def test_detached_and_started_again(engine: Engine, rootfs: Path) -> None:
    """It can be stopped and started like any other."""
    name = engine.detached("--rootfs", str(rootfs), "sh", "-c", "echo x >>/count; exit $(wc -l </count)")
    assert engine.ok("wait", name) == "1\n"
    engine.ok("start", name)
    assert engine.ok("wait", name) == "2\n"
    assert engine.ok("ps", "-a", "--format", "{{.Image}}").strip() == str(rootfs)


def test_without_folders_for_mounts(engine: Engine, rootfs: Path) -> None:
    """Mount points that the folder lacks are made."""
    for name in ("proc", "sys", "dev"):
        os.rmdir(rootfs / name)
    assert engine.box("--rootfs", str(rootfs), "ls", "/proc/self/status").code == 0


def test_folder_with_odd_characters(engine: Engine, rootfs: Path) -> None:
    """Commas, colons, backslashes and spaces in its path are part of its name."""
    odd = rootfs.parent / "a, b:c\\d é"
    os.rename(rootfs, odd)
    assert engine.box("--rootfs", str(odd), "true").code == 0
    os.rename(odd, rootfs)


def test_data_root_with_odd_characters(engine: Engine, tarball: str) -> None:
    """Nor do they disturb overlayfs when the data root has them."""
    odd = f"{engine.directory}/a, b:c\\d é"
    roots = ("--root", odd)
    try:
        engine.ok(*roots, "import", tarball, "odd")
        assert engine.ok(*roots, "run", "--rm", "--network", "none", "odd", "sh", "-c", "echo x >/file; cat /file") == "x\n"
    finally:
        shutil.rmtree(odd)
