"""Hostile tarballs: each is refused with a message that names the defect, or unpacked without reaching outside.

Every test also proves that nothing outside the layer changed (fixture `outside`), and every refusal that nothing is left
in the store.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess

import pytest
import zstandard

from minicontainer.errors import ImageError
from minicontainer.image.importer import import_rootfs
from minicontainer.image.limits import Limits
from tests.unit.image.archives import (
    BLOCK,
    END,
    archive,
    directory,
    file,
    hardlink,
    header,
    long_name,
    octal,
    padded,
    pax,
    symlink,
)
from tests.unit.image.conftest import leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking sets owners: needs root")


def run(store, data: bytes, tmp_path, **options) -> str:
    path = tmp_path / "hostile.tar"
    path.write_bytes(data)
    return import_rootfs(store, str(path), "hostile", **options)


def sparse_pax(segments: bytes, size: bytes, data: bytes) -> bytes:
    return pax({b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"1", b"GNU.sparse.map": segments,
                b"GNU.sparse.size": size, b"GNU.sparse.name": b"sparse"}) + file(b"x", data)


def old_sparse(fields: dict[int, bytes], data: bytes) -> bytes:
    return header(b"sparse", b"S", len(data), raw={257: b"ustar  \0", 345: bytes(155), **fields}) + padded(data)


REFUSED = {
    # names
    "parent in the name": (archive(file(b"x/../../outside/secret")), "'..' in its name"),
    "only a parent": (archive(file(b"..")), "'..' in its name"),
    "parent in a pax name": (archive(pax({b"path": b"../outside/secret"}), file(b"x")), "'..' in its name"),
    "parent in a GNU long name": (archive(long_name(b"a/../../x"), file(b"x")), "'..' in its name"),
    "NUL in a pax name": (archive(pax({b"path": b"etc/passwd\0.txt"}), file(b"x")), "a NUL byte"),
    "NUL in a long link": (archive(long_name(b"a\0b", b"K"), symlink(b"l", b"x")), "a NUL byte"),
    "a path past PATH_MAX": (archive(long_name(b"d/" * 2100 + b"f"), file(b"x")), "longer than 4095"),
    "a component past NAME_MAX": (archive(long_name(b"n" * 300), file(b"x")), "255 bytes"),
    "too deep": (archive(long_name(b"d/" * 600 + b"f"), file(b"x")), "more than 512 directories deep"),
    "a file as directory": (archive(file(b"f"), file(b"f/x")), "Not a directory"),
    "a dangling symlink as directory": (archive(symlink(b"l", b"nowhere"), file(b"l/x")), "symlink to nothing"),
    "a loop of symlinks as directory": (archive(symlink(b"a", b"b"), symlink(b"b", b"a"), file(b"a/x")), "symbolic link"),
    "the root as symlink": (archive(symlink(b"./", b"/etc")), "the root of the archive is not a directory"),
    "the root as file": (archive(header(b".", b"0")), "the root of the archive is not a directory"),
    "an empty symlink": (archive(symlink(b"l", b"")), "a symlink to nothing"),
    # hard links
    "hard link outside": (archive(hardlink(b"h", b"../../outside/secret")), "'..' would lead outside"),
    "hard link to an absolute path": (archive(hardlink(b"h", b"/etc/hostname")), "hard link to '/etc/hostname'"),
    "hard link to a directory": (archive(directory(b"d"), hardlink(b"h", b"d")), "which is no file"),
    "hard link to the root": (archive(hardlink(b"h", b".")), "which is no file"),
    "hard link into what it replaces": (archive(file(b"d/f"), hardlink(b"d", b"d/f")), "which is not there"),
    # kinds
    "overlay's whiteout as device": (archive(header(b"w", b"3")), "character device 0:0"),
    "a device number beyond dev_t": (archive(header(b"w", b"3", major=0o777777)), "there is no device"),
    "a whiteout": (archive(file(b"etc/.wh.passwd", b"")), "deletes a file of the layer below"),
    "an opaque marker": (archive(file(b"etc/.wh..wh..opq", b"")), "deletes a file of the layer below"),
    "an unknown type": (archive(header(b"x", b"Q")), "unknown type"),
    "a multi-volume piece": (archive(header(b"x", b"M")), "multi-volume"),
    "a socket or volume label": (archive(header(b"x", b"V")), "volume label"),
    # numbers
    "a negative size": (archive(header(b"x", raw={124: b"\xff" * 11 + b"\x00"})), "its size is -256 bytes"),
    "a size of 2**63": (archive(header(b"x", raw={124: b"\x80\0\0\0" + b"\x80" + bytes(7)})), "its size is"),
    "a size beyond 64 bits": (archive(header(b"x", raw={124: b"\x81" + bytes(11)})), "beyond 64 bits"),
    "a huge size": (archive(header(b"x", raw={124: b"\x80\0\0\0\0\0" + b"\x7f" + bytes(5)})), "are allowed"),
    "a size that is not octal": (archive(header(b"x", raw={124: b"0000000009\0\0"})), "not an octal number"),
    "a size with a sign": (archive(header(b"x", raw={124: b"-0000000001\0"})), "not an octal number"),
    "a negative pax size": (archive(pax({b"size": b"-1"}), file(b"x")), "its size is -1"),
    "a uid of -1": (archive(header(b"x", raw={108: b"\xff" * 8})), "uid -1 is not in"),
    "a uid of 2**32-1": (archive(pax({b"uid": b"4294967295"}), file(b"x")), "uid 4294967295 is not in"),
    "a uid that wraps to root": (archive(pax({b"uid": b"4294967296"}), file(b"x")), "uid 4294967296 is not in"),
    "an absurd time": (archive(header(b"x", raw={136: b"\x80\0\0\0" + b"\x7f" * 8})), "its time is"),
    "a time that is no number": (archive(pax({b"mtime": b"1e400"}), file(b"x")), "is not a number"),
    # structure
    "empty input": (b"", "it is empty"),
    "not a tar": (b"#!/bin/sh\necho hello\n" * 100, "is no tar archive"),
    "a bad checksum": (archive(file(b"f"), header(b"x", checksum=b"000000\0 ")), "the checksum is wrong"),
    "cut off in a header": (file(b"x") + bytes(100), "cut off"),
    "cut off in the data": (header(b"x", b"0", 5000) + b"some", "member 'x': the archive is cut off"),
    "cut off between members": (file(b"x") + file(b"y"), "without the two zero blocks"),
    "a lone zero block": (file(b"x") + bytes(BLOCK) + file(b"y") + END, "a lone zero block"),
    "extended headers without end": (b"".join(long_name(b"x") for _ in range(100)) + archive(file(b"x")), "in a row"),
    "an extended header of 2 MiB": (archive(header(b"x", b"x", 2 << 20), bytes(2 << 20)), "an extended header of"),
    "a pax record of length 0": (archive(header(b"p", b"x", 8) + padded(b"0 a=bcd\n")), "malformed pax record"),
    "a pax record past its end": (archive(header(b"p", b"x", 8) + padded(b"99 a=bc\n")), "malformed pax record"),
    "a pax record of no number": (archive(header(b"p", b"x", 8) + padded(b"-8 a=bc\n")), "malformed pax record"),
    # sparse maps
    "sparse segments that overlap": (archive(sparse_pax(b"0,6,4,2", b"100", b"x" * 8)), "begins before the one before"),
    "sparse data past the end": (archive(sparse_pax(b"98,8", b"100", b"x" * 8)), "its segments end at 106"),
    "a sparse map for other data": (archive(sparse_pax(b"0,9", b"100", b"x" * 8)), "its segments hold 9 bytes"),
    "an odd sparse map": (archive(sparse_pax(b"0,8,9", b"100", b"x" * 8)), "odd count"),
    "a negative sparse offset": (archive(sparse_pax(b"-1,8", b"100", b"x" * 8)), "is not a number"),
    "a sparse file of 2**62": (archive(sparse_pax(b"0,8", str(1 << 62).encode(), b"x" * 8)), "are allowed"),
    "a sparse map without end": (archive(pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0",
                                              b"GNU.sparse.realsize": b"9"}), file(b"x", b"9" * 2048)), "does not end"),
    "a sparse map past the data": (archive(pax({b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"9"}),
                                           file(b"x", padded(b"5\n1\n"))), "runs past the data"),
    "an old sparse map that is wrong": (archive(old_sparse({386: octal(90, 12) + octal(20, 12), 483: octal(100, 12)},
                                                           b"x" * 20)), "its segments end at"),
    # a common slip
    "an image archive": (archive(file(b"manifest.json", b"[]"), file(b"abc.json", b"{}")), "as `docker save` writes it"),
    # compressed streams
    "cut-off gzip": (gzip.compress(archive(file(b"x", os.urandom(9000))))[:-20], "cut off"),
    "gzip with a wrong sum": (gzip.compress(archive(file(b"x")))[:-8] + bytes(8), "damaged gzip"),
    "gzip with a tail": (gzip.compress(archive(file(b"x"))) + b"something else", "something else follows"),
    "cut-off xz": (lzma.compress(archive(file(b"x", os.urandom(9000))))[:-20], "cut off"),
    "damaged xz": (lzma.compress(archive(file(b"x")))[:40] + bytes(200), "damaged xz"),
    "cut-off zstd": (zstandard.compress(archive(file(b"x", os.urandom(9000))))[:-20], "cut off"),
    "damaged zstd": (zstandard.compress(archive(file(b"x")))[:10] + b"\xff" * 90, "damaged zstd"),
    "cut-off bzip2": (bz2.compress(archive(file(b"x", os.urandom(9000))))[:-20], "cut off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_and_leaves_nothing(name, store, outside, tmp_path):
    data, message = REFUSED[name]
    with pytest.raises(ImageError) as refusal:
        run(store, data, tmp_path)
    assert message in refusal.value.message
    assert "\n" not in refusal.value.message
    assert leftovers(store) == []


def test_message_hides_control_characters(store, outside, tmp_path):
    """A member's name can't write to the terminal of whoever reads the error."""
    with pytest.raises(ImageError) as refusal:
        run(store, archive(file(b"\x1b]0;owned\x07/../x")), tmp_path)
    assert refusal.value.message.isprintable()
    assert "\\x1b" in refusal.value.message


CONTAINED = {
    # what an archive does, and which file of the layer it ends in
    "absolute name": lambda out: ([file(out + b"/secret", b"evil")], out.lstrip(b"/") + b"/secret"),
    "absolute symlink, written through": lambda out: (
        [directory(out), symlink(b"l", out), file(b"l/secret", b"evil")], out.lstrip(b"/") + b"/secret"),
    "climbing symlink, written through": lambda out: (
        [directory(b"outside"), symlink(b"l", b"../../../../outside"), file(b"l/secret", b"evil")], b"outside/secret"),
    "chain of symlinks": lambda out: (
        [directory(b"a/b/outside"), symlink(b"a/b/c", b".."), symlink(b"a/b/d", b"c/../../../b"), directory(b"b"),
         file(b"a/b/d/x", b"evil")], b"b/x"),
    "symlink in place of a file, then the file": lambda out: (
        [symlink(b"f", out + b"/secret"), file(b"f", b"evil")], b"f"),
    "symlink in place of a directory, then into it": lambda out: (
        [directory(b"d"), file(b"d/a"), symlink(b"d", out), directory(b"d"), file(b"d/secret", b"evil")], b"d/secret"),
    "hard link to a symlink, then written": lambda out: (
        [symlink(b"s", out + b"/secret"), hardlink(b"h", b"s"), file(b"h", b"evil")], b"h"),
    "fifo, then a file": lambda out: ([header(b"f", b"6"), file(b"f", b"evil")], b"f"),
    "file, then a directory, then a file": lambda out: (
        [file(b"f"), directory(b"f"), file(b"f/deep/x"), file(b"f", b"evil")], b"f"),
    "ignored aufs files": lambda out: ([file(b".wh..wh.plnk/x"), file(b"f", b"evil")], b"f"),
    "a global pax header that renames": lambda out: (
        [pax({b"path": b"../../outside/secret"}, b"g"), file(b"f", b"evil")], b"f"),
    "numbers with spaces and no NUL": lambda out: (
        [header(b"f", b"0", 4, raw={124: b"          4 ", 100: b"   644 \0"}) + padded(b"evil")], b"f"),
}


@pytest.mark.parametrize("name", CONTAINED)
def test_is_contained(name, store, outside, tmp_path):
    """The archive's trick ends inside the layer."""
    members, target = CONTAINED[name](os.fsencode(outside))
    run(store, archive(*members), tmp_path)
    layer = os.fsencode(store.resolve("hostile").layers[0])
    with open(os.path.join(layer, target), "rb") as f:
        assert f.read() == b"evil"
    assert not os.path.islink(os.path.join(layer, target))


def test_directory_turned_symlink_does_not_lead_kept_descriptors_astray(store, outside, tmp_path):
    """The parent that was open a moment ago is resolved anew once its name means something else."""
    run(store, archive(directory(b"d"), file(b"d/one"), symlink(b"d", os.fsencode(outside)),
                       directory(os.fsencode(outside)), file(b"d/two", b"evil")), tmp_path)
    layer = store.resolve("hostile").layers[0]
    assert os.path.islink(f"{layer}/d")
    assert os.path.exists(f"{layer}{outside}/two")


def test_attributes_are_not_set_through_a_symlink(store, outside, tmp_path):
    """chmod, chown, xattrs and times of a later member of the same name hit that member."""
    target = os.fsencode(outside) + b"/secret"
    run(store, archive(symlink(b"f", target), directory(b"f", mode=0o777, uid=5), symlink(b"g", target),
                       header(b"g", b"6", mode=0o777, uid=5), symlink(b"h", target),
                       pax({b"SCHILY.xattr.user.x": b"1"}), symlink(b"h", target)), tmp_path)
    layer = store.resolve("hostile").layers[0]
    assert stat.S_ISDIR(os.lstat(f"{layer}/f").st_mode)
    assert stat.S_ISFIFO(os.lstat(f"{layer}/g").st_mode)


def test_xattrs_of_overlayfs_are_dropped_and_said(store, outside, tmp_path):
    """A tarball can't make a directory opaque, redirect one, or mark metadata-only files."""
    said: list[str] = []
    keys = [b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"trusted.overlay.metacopy", b"user.overlay.opaque",
            b"security.selinux"]
    run(store, archive(pax({b"SCHILY.xattr." + key: b"y" for key in keys} | {b"SCHILY.xattr.user.kept": b"v"}),
                       directory(b"d")), tmp_path, warn=said.append)
    path = store.resolve("hostile").layers[0] + "/d"
    assert os.listxattr(path) == ["user.kept"]
    assert len(said) == 1
    assert all(key.decode() in said[0] for key in keys)


def test_device_nodes_and_setuid_are_kept_as_docker_keeps_them(store, outside, tmp_path):
    run(store, archive(header(b"null", b"3", mode=0o666, major=1, minor=3), header(b"loop", b"4", mode=0o660, gid=6, major=7),
                       file(b"su", uid=0, gid=42, mode=0o6755)), tmp_path)
    layer = store.resolve("hostile").layers[0]
    null, loop, su = (os.lstat(f"{layer}/{name}") for name in ("null", "loop", "su"))
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (loop.st_mode, loop.st_rdev, loop.st_gid) == (stat.S_IFBLK | 0o660, os.makedev(7, 0), 6)
    assert (su.st_mode & 0o7777, su.st_gid) == (0o6755, 42)


def test_tree_deeper_than_path_max_is_made_and_removed(store, outside, tmp_path):
    """Through symlinks into itself an archive makes paths that no `rm -r` by name can reach; removing the image can."""
    members = []
    down = b"/".join([b"d" * 200] * 15)
    where = b""
    for level in range(4):
        members.append(directory_of(where + down))
        link = b"l%d" % level
        members.append(long_name(where + down, b"K") + symlink(link, b""))
        where = link + b"/"
    run(store, archive(*members, file(where + b"end")), tmp_path)
    layer = store.resolve("hostile").layers[0]
    assert os.path.exists(f"{layer}/l3/end")
    store.remove("hostile")
    assert leftovers(store) == []


def directory_of(name: bytes) -> bytes:
    return long_name(name) + directory(name)


def test_member_limit(store, outside, tmp_path):
    with pytest.raises(ImageError, match="more than 10 members"):
        run(store, archive(*(file(b"f%d" % n, b"") for n in range(11))), tmp_path, limits=Limits(members=10))
    assert leftovers(store) == []


def test_size_limit(store, outside, tmp_path):
    with pytest.raises(ImageError, match="longer than 100000 bytes"):
        run(store, archive(file(b"f", bytes(200000))), tmp_path, limits=Limits(unpacked_bytes=100000))
    assert leftovers(store) == []


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress],
                         ids=["gzip", "zstd", "xz", "bzip2"])
def test_decompression_bomb(compress, store, outside, tmp_path):
    """Many plain bytes for each compressed one are stopped long before the end, in little memory."""
    with pytest.raises(ImageError, match="decompression bomb"):
        run(store, compress(header(b"f", b"0", 64 << 20) + bytes(64 << 20) + END), tmp_path,
            limits=Limits(ratio=100, ratio_after=8 << 20))
    assert leftovers(store) == []


def test_xz_that_wants_too_much_memory(store, outside, tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    with pytest.raises(ImageError, match="damaged xz data: Memory usage limit"):
        run(store, lzma.compress(archive(file(b"x")), filters=filters), tmp_path)
    assert leftovers(store) == []


def test_full_disk(tmp_path, outside):
    """The message says so, and nothing is left of the image."""
    from minicontainer.image.store import Store

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], check=True)
    try:
        store = Store(str(small / "store"))
        with pytest.raises(ImageError, match="no space left") as refusal:
            run(store, archive(*(file(b"f%d" % n, os.urandom(100_000)) for n in range(40))), tmp_path)
        assert "--root" in refusal.value.hint
        assert leftovers(store) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_out_of_inodes(tmp_path, outside):
    from minicontainer.image.store import Store

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=60", "none", str(small)], check=True)
    try:
        store = Store(str(small / "store"))
        with pytest.raises(ImageError, match="no space left on the disk: unpacking stopped at member 'f"):
            run(store, archive(*(file(b"f%d" % n, b"") for n in range(200))), tmp_path)
        assert leftovers(store) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_padding_after_a_compressed_stream_and_joined_streams_are_fine(store, outside, tmp_path):
    """What gzip and dd make of honest archives is no attack."""
    plain = archive(file(b"f", os.urandom(5000)))
    run(store, gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]) + bytes(700), tmp_path)
    assert os.path.getsize(store.resolve("hostile").layers[0] + "/f") == 5000


def test_stream_of_single_bytes(store, outside, tmp_path):
    """Chunk borders anywhere change nothing."""
    from minicontainer.image import tar

    data = archive(long_name(b"n" * 150), file(b"x", b"hello"), directory(b"d"), sparse_pax(b"2,3", b"9", b"abc"))
    whole = [(m.name, m.kind, m.size, m.holes) for m in tar.members(tar.Reader([data]), Limits())]
    single = [(m.name, m.kind, m.size, m.holes) for m in tar.members(tar.Reader(data[i:i + 1] for i in range(len(data))),
                                                                     Limits())]
    assert whole == single
    assert [name for name, *_ in whole] == [b"n" * 150, b"d", b"sparse"]


def test_source_that_is_no_file(store, tmp_path):
    with pytest.raises(ImageError, match="can't be read|Is a directory"):
        import_rootfs(store, str(tmp_path), "x")
    assert leftovers(store) == []


def test_binary_stream(store, tmp_path):
    """An open file is as good as a path."""
    path = tmp_path / "x.tar"
    path.write_bytes(archive(file(b"f")))
    with io.FileIO(path) as stream:
        import_rootfs(store, stream, "hostile")
    assert os.listdir(store.resolve("hostile").layers[0]) == ["f"]
