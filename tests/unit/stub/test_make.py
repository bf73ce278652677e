"""The op that makes a path where it is missing: no link leads out of its root. No root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minicontainer.kernel.flags import RESOLVE_NO_SYMLINKS
from minicontainer.stub.ops import Slot, make
from tests.unit.stub.interpreter import close, run


@pytest.mark.parametrize(("path", "made"), [
    ("a", "a"), ("a/b/c", "a/b/c"), ("there/b", "there/b"), ("link/b", "there/b"), ("absolute/b", "there/b"), ("up/x", "x"), ("deep/../b", "b"),
    ("there", "there"), (".", "."), ("a//b/", "a/b"),
])  # fmt: skip
def test_make(tmp_path: Path, path: str, made: str) -> None:
    """A path is made where it is missing; links are followed within the root, and `..` never leads above it."""
    top = tmp_path / "root"
    (top / "there").mkdir(parents=True)
    (top / "deep").mkdir()
    os.symlink("there", top / "link")
    os.symlink("/there", top / "absolute")
    os.symlink("../../..", top / "up")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, path, out=slot, why="", mode=0o750), fds={root: folder})
    assert failed == -1
    assert os.path.realpath(f"/proc/self/fd/{p.descriptor(slot)}") == os.path.realpath(top / made)
    assert sorted(os.listdir(tmp_path)) == ["root"]
    close(p, slot)
    os.close(folder)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("nowhere/at/all", "etc/nowhere/at/all"),
        ("/run/x", "run/x"),
        ("../run/systemd/resolv.conf", "run/systemd/resolv.conf"),
        ("../../../../../tmp/x", "tmp/x"),
        ("second", "third/x"),
        ("/there/new", "there/new"),
    ],
)
def test_make_behind_a_link_to_nothing(tmp_path: Path, target: str, made: str, file: bool) -> None:
    """The target of a link that leads to nothing is made, within the root: /etc/resolv.conf is often one into /run."""
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "there").mkdir()
    os.symlink(target, top / "etc" / "link")
    os.symlink("/third/x", top / "etc" / "second")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, "etc/link", out=slot, why="", file=file), fds={root: folder})
    assert failed == -1
    assert os.path.realpath(f"/proc/self/fd/{p.descriptor(slot)}") == str(top / made)
    assert (top / made).is_file() == file
    assert sorted(os.listdir(tmp_path)) == ["root"]
    close(p, slot)
    os.close(folder)


def test_make_below_a_link_to_nothing(tmp_path: Path) -> None:
    """Also in the middle of a path: /var/run/x, where /var/run leads to a /run that is not there."""
    (tmp_path / "var").mkdir()
    os.symlink("/run", tmp_path / "var" / "run")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, "var/run/docker.sock", out=slot, why="", file=True), fds={root: folder})
    assert failed == -1
    assert (tmp_path / "run" / "docker.sock").is_file()
    close(p, slot)
    os.close(folder)


def test_make_a_file(tmp_path: Path) -> None:
    """The last part is a file, the ones before are folders; what is there is left as it is."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root, first, second = Slot("root"), Slot("first"), Slot("second")
    (tmp_path / "kept").write_text("content")
    _, _, p = run(
        make(root, "a/b/file", out=first, why="", file=True, mode=0o640),
        make(root, "kept", out=second, why="", file=True),
        fds={root: folder},
    )
    assert (tmp_path / "a" / "b" / "file").is_file()
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "kept").read_text() == "content"
    close(p, first, second)
    os.close(folder)


@pytest.mark.parametrize(("path", "error"), [("file/below", errno.ENOTDIR), ("loop/x", errno.ELOOP), ("x" * 300, errno.ENAMETOOLONG),
                                             ("/".join(["y" * 100] * 50), errno.ENAMETOOLONG), ("up", errno.ELOOP)])  # fmt: skip
def test_make_refuses(tmp_path: Path, path: str, error: int) -> None:
    """A file in the way, a loop of links, a path too long: an error, and nothing outside is made."""
    top = tmp_path / "root"
    top.mkdir()
    (top / "file").touch()
    os.symlink("loop", top / "loop")
    os.symlink("up", top / "up")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root = Slot("root")
    failed, results, _ = run(make(root, path, out=Slot("made"), why=""), fds={root: folder})
    os.close(folder)
    assert (failed, results[0].errno) == (0, error)
    assert os.listdir(tmp_path) == ["root"]


def test_made_without_links(tmp_path: Path) -> None:
    """With RESOLVE_NO_SYMLINKS what is missing is made, and a link in the way, to something or to nothing, is ELOOP."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nothing")
    root, out = Slot("root"), Slot("out")
    for path, error in (("new/er", 0), ("real", 0), ("link", errno.ELOOP), ("link/x", errno.ELOOP), ("dangling", errno.ELOOP)):
        fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        _, results, p = run(make(root, path, out=out, resolve=RESOLVE_NO_SYMLINKS, why=""), fds={root: fd})
        os.close(fd)
        assert results[0].errno == error, path
        if not error:
            os.close(p.descriptor(out))
    assert (tmp_path / "new" / "er").is_dir() and not (tmp_path / "nothing").exists() and os.listdir(tmp_path / "real") == []
