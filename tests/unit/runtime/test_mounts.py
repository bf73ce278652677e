"""Mount options as the new mount API takes them, and copies by descriptor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.kernel.flags import MOUNT_ATTR, MOUNT_ATTR_ATIME, MS
from minicontainer.runtime.copyup import copy
from minicontainer.runtime.mounts import MountOptions

RDONLY, NOSUID, NOATIME = (MOUNT_ATTR[f"MOUNT_ATTR_{n}"] for n in ("RDONLY", "NOSUID", "NOATIME"))


def test_the_last_of_a_kind_wins() -> None:
    """An option takes back its opposite, and the three times are one field (mount_setattr(2))."""
    options = MountOptions(["ro", "rw", "suid", "nosuid", "strictatime", "noatime"])
    assert (options.attr_set, options.attr_clr) == (NOSUID | NOATIME, RDONLY | MOUNT_ATTR_ATIME)


def test_r_is_of_all_below() -> None:
    """rro is ro recursively; rslave is slave recursively; remount and relatime only begin with r."""
    options = MountOptions(["rro", "rslave", "relatime", "remount"])
    assert (options.rec_set, options.attr_set, options.rec_propagation, options.propagation) == (RDONLY, 0, MS["MS_SLAVE"], 0)
    assert options.remount and options.attr_clr == MOUNT_ATTR_ATIME


def test_data() -> None:
    """What is no option of mounts is the file system's, flags without a value; what has no effect any more is left out."""
    options = MountOptions(["size=64k", "newinstance", "sync", "defaults", "iversion", "silent", "upperdir=/a=b"])
    assert options.data == [("size", "64k"), ("newinstance", None), ("sync", None), ("upperdir", "/a=b")]


@pytest.mark.parametrize(
    ("options", "tied"), [(["rshared"], True), (["slave"], True), (["rprivate"], False), (["unbindable"], False), ([], False)]
)
def test_tied(options: list[str], tied: bool) -> None:
    """Whether copies keep up with the host's mounts."""
    assert MountOptions(options).tied() == tied


# -- tmpcopyup ---------------------------------------------------------------------------------------------------------------


def copied(source: Path, target: Path) -> None:
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (source, target)]
    try:
        copy(*fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_copy(tmp_path: Path) -> None:
    """Files with content, mode and times, folders, links as links, FIFOs; a link that leads out is not followed."""
    source, target, outside = (tmp_path / name for name in ("source", "target", "outside"))
    for folder in (source / "sub", target, outside):
        folder.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (source / "sub" / "file").write_bytes(b"x" * 3_000_000)
    (source / "sub" / "file").chmod(0o4711)
    os.utime(source / "sub" / "file", ns=(1_000_000_007, 2_000_000_008))
    (source / "out").symlink_to(outside)
    os.mkfifo(source / "fifo", 0o640)
    (source / "sub").chmod(0o1750)
    copied(source, target)
    assert sorted(os.listdir(target)) == ["fifo", "out", "sub"]
    s = (target / "sub" / "file").stat()
    assert (s.st_size, s.st_mode & 0o7777, s.st_atime_ns, s.st_mtime_ns) == (3_000_000, 0o4711, 1_000_000_007, 2_000_000_008)
    assert os.readlink(target / "out") == str(outside) and (target / "sub").stat().st_mode & 0o7777 == 0o1750
    assert (target / "fifo").is_fifo() and os.listdir(outside) == ["secret"]


def test_copy_into_what_is_not_empty(tmp_path: Path) -> None:
    """Nothing that is there is written to."""
    for folder in ("source", "target"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(folder)
    with pytest.raises(FileExistsError):
        copied(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "target"
