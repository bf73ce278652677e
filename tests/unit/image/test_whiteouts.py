"""Whiteouts of an image's layer become overlayfs' own, whatever the order of the entries."""

from __future__ import annotations

import os
import stat

import pytest

from minicontainer.errors import ImageError
from minicontainer.image import tar
from minicontainer.image.limits import Limits
from minicontainer.image.unpack import OVERLAY, Unpacker
from tests.unit.image.archives import archive, directory, file, hardlink, header, pax, symlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts need root")


@pytest.fixture
def unpack(tmp_path):
    """unpack(*members) -> the layer's directory."""
    layer, bin_path = tmp_path / "layer", tmp_path / "trash"
    layer.mkdir()
    bin_path.mkdir()

    def run(*members: bytes):
        root, bin_fd = os.open(layer, os.O_RDONLY), os.open(bin_path, os.O_RDONLY)
        try:
            Unpacker(root, bin_fd, Limits(), OVERLAY).run(tar.Reader([archive(*members)]))
        finally:
            os.close(root)
            os.close(bin_fd)
        return layer
    return run


def is_whiteout(path) -> bool:
    info = os.lstat(path)
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path) and os.getxattr(path, "trusted.overlay.opaque") == b"y"


def test_whiteout(unpack):
    layer = unpack(file(b"etc/.wh.passwd", b""))
    assert is_whiteout(layer / "etc/passwd")
    assert os.listdir(layer / "etc") == ["passwd"]


@pytest.mark.parametrize("members", [[file(b"d/f"), file(b"d/.wh..wh..opq", b"")], [file(b"d/.wh..wh..opq", b""), file(b"d/f")],
                                     [file(b"d/.wh..wh..opq", b""), directory(b"d"), file(b"d/f")]])
def test_opaque_hides_only_what_is_below(members, unpack):
    layer = unpack(*members)
    assert is_opaque(layer / "d")
    assert os.listdir(layer / "d") == ["f"]


@pytest.mark.parametrize("order", [1, -1])
def test_own_file_outlives_its_whiteout(order, unpack):
    assert (unpack(*[file(b"f"), file(b".wh.f", b"")][::order]) / "f").read_text() == "content\n"


@pytest.mark.parametrize("order", [1, -1])
def test_own_directory_of_a_whiteout_is_opaque(order, unpack):
    """The directory below is deleted, this layer's has its name: they must not be merged."""
    layer = unpack(*[directory(b"d"), file(b".wh.d", b"")][::order])
    assert is_opaque(layer / "d")


def test_directory_through_a_symlink_over_a_whiteout_is_opaque(unpack):
    layer = unpack(directory(b"real"), symlink(b"l", b"real"), file(b"real/.wh.d", b""), directory(b"l/d"))
    assert is_opaque(layer / "real/d")


def test_other_aufs_files_are_ignored(unpack):
    assert os.listdir(unpack(directory(b".wh..wh.plnk"), file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs", b""))) == []


@pytest.mark.parametrize("members, message", [
    ([file(b".wh.", b"")], "a whiteout that names nothing"),
    ([file(b"d/.wh..", b"")], "a whiteout that names nothing"),
    ([file(b"d/.wh...", b"")], "a whiteout that names nothing"),
    ([file(b".wh.d/f", b"")], "a whiteout that names nothing"),
    ([file(b".wh.x/.wh.y", b"")], "a whiteout can't be a directory"),
    ([header(b"w", b"3")], "character device 0:0"),
    ([file(b".wh.f", b""), hardlink(b"g", b"f")], "which is no file"),
])
def test_refused(members, message, unpack):
    with pytest.raises(ImageError, match=message):
        unpack(*members)


def test_overlay_xattrs_are_no_data(unpack):
    layer = unpack(pax({b"SCHILY.xattr.trusted.overlay.opaque": b"y"}), directory(b"d"))
    assert os.listxattr(layer / "d") == []
