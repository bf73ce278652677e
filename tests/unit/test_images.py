"""The recipes below images/: what they put in, and that the same inputs give the same bytes."""

from __future__ import annotations

import importlib.util
import marshal
import os
import shutil
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from images.rootfs_tar import EPOCH, RootfsTar

IMAGES = Path(__file__).resolve().parents[2] / "images"
BUSYBOX = "/bin/busybox"

needs_busybox = pytest.mark.skipif(not shutil.which(BUSYBOX), reason="busybox-static is not installed")


def recipe(name: str) -> ModuleType:
    """images/NAME/build.py as a module (a folder's name need not be an identifier)."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", IMAGES / name / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_busybox
def test_the_same_busybox_gives_the_same_bytes(tmp_path: Path) -> None:
    build = recipe("busybox").build
    build(BUSYBOX, str(tmp_path / "one.tar"))
    os.utime(tmp_path / "one.tar", (0, 0))
    build(BUSYBOX, str(tmp_path / "two.tar"))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@needs_busybox
def test_busybox_has_its_applets_accounts_and_modes_and_nothing_of_this_machine(tmp_path: Path) -> None:
    recipe("busybox").build(BUSYBOX, str(tmp_path / "rootfs.tar"))
    with tarfile.open(tmp_path / "rootfs.tar") as tar:
        members = {os.path.normpath(m.name): m for m in tar}
        passwd = tar.extractfile(members["etc/passwd"])
        assert passwd and passwd.read().startswith(b"root:x:0:0:root:/root:/bin/sh\n")
    for applet in ("bin/sh", "bin/ls", "bin/sleep", "usr/bin/env", "usr/bin/wget"):
        assert members[applet].issym() and members[applet].linkname == BUSYBOX
    assert members["tmp"].mode == 0o1777 and members["root"].mode == 0o700 and members["bin/busybox"].mode == 0o755
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", EPOCH)}
    for name in members:  # a folder comes before what is in it
        assert os.path.dirname(name) in ("", *members)


def test_a_tarball_that_is_not_closed_never_gets_its_name(tmp_path: Path) -> None:
    tar = RootfsTar(str(tmp_path / "rootfs.tar"))
    tar.directory("bin")
    assert not (tmp_path / "rootfs.tar").exists()


def test_a_python_module_comes_with_bytecode_that_is_never_checked(tmp_path: Path) -> None:
    source = b"answer = 6 * 7\n"
    tar = RootfsTar(str(tmp_path / "rootfs.tar"))
    tar.module("usr/lib/thing.py", source)
    tar.close()
    with tarfile.open(tmp_path / "rootfs.tar") as done:
        pyc = done.extractfile("./" + importlib.util.cache_from_source("usr/lib/thing.py"))
        assert pyc
        data = pyc.read()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01  # PEP 552: by hash, not checked
    names: dict[str, object] = {}
    exec(marshal.loads(data[16:]), names)
    assert names["answer"] == 42


@pytest.mark.parametrize(("path", "kept"), [
    ("usr/bin/python3", True), ("usr/bin/python3.11", True), ("usr/bin/tar", False), ("usr/sbin/rmt-tar", False),
    ("lib64", True), ("usr/lib/python3.11/json/decoder.py", True), ("usr/lib/python3.11/pydoc_data/topics.py", False),
    ("usr/lib/python3.11/json/__pycache__/decoder.cpython-311.pyc", False),
    ("usr/lib/x86_64-linux-gnu/libc.so.6", True), ("usr/lib/x86_64-linux-gnu/gconv/IBM1399.so", False),
    ("etc/resolv.conf", False), ("etc/hostname", False), ("var/lib/dpkg/status", False), ("usr/share/doc", False),
])
def test_the_python_image_keeps_python_and_nothing_of_this_machine(path: str, kept: bool) -> None:
    """mmdebstrap copies the machine's resolv.conf and hostname: they must not get into an image."""
    assert recipe("python").is_kept(path) is kept


@pytest.mark.parametrize("name", ["busybox", "python", "example-service"])
def test_every_image_says_what_a_tarball_cannot(name: str) -> None:
    lines = (IMAGES / name / "changes").read_text().splitlines()
    assert lines and all(line.split()[0] in ("CMD", "ENV", "USER", "EXPOSE", "STOPSIGNAL") for line in lines)
