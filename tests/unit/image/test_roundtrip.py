"""What GNU tar restores of a tree, an import restores as well: the two results are compared file by file."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.image import tar, trash
from minicontainer.image.importer import import_rootfs
from minicontainer.image.limits import Limits
from minicontainer.image.unpack import Unpacker

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("tar"), reason="needs root and GNU tar")

FORMATS = {
    "gnu": ["--format=gnu"],
    "gnu, sparse": ["--format=gnu", "--sparse"],
    "pax": ["--format=posix"],
    "pax, sparse 0.0": ["--format=posix", "--sparse", "--sparse-version=0.0"],
    "pax, sparse 0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax, sparse 1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
}


def pack(top, path, *options: str) -> None:
    xattrs = ["--xattrs", "--xattrs-include=*"] if "--format=posix" in options else []
    subprocess.run(["tar", "-C", str(top), *options, *xattrs, "--numeric-owner", "-cf", str(path), "."], check=True)


def unpack_gnu(path, top) -> None:
    os.mkdir(top)
    subprocess.run(["tar", "-C", str(top), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", str(path)], check=True)


def unpack_ours(path, top) -> Unpacker:
    os.mkdir(top)
    bin_path = f"{top}.trash"
    os.mkdir(bin_path)
    root, bin_fd = os.open(top, os.O_RDONLY), os.open(bin_path, os.O_RDONLY)
    with open(path, "rb") as f:
        unpacker = Unpacker(root, bin_fd, Limits())
        unpacker.run(tar.Reader(iter(lambda: f.read(10_000), b"")))
    trash.empty(bin_fd)
    os.rmdir(bin_path)
    os.close(root)
    os.close(bin_fd)
    return unpacker


def facts(top) -> dict:
    """Of each file below top: all that an archive records of it. Hard links are groups of names."""
    top = os.fspath(top)
    found = {}
    inodes: dict[int, list[str]] = {}
    for base, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = os.path.join(base, name)
            info = os.lstat(path)
            what: object = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as f:
                    what = (f.read(), info.st_size)
            elif stat.S_ISLNK(info.st_mode):
                what = os.readlink(path)
            xattrs = {} if stat.S_ISLNK(info.st_mode) else {k: os.getxattr(path, k) for k in os.listxattr(path)}
            relative = os.path.relpath(path, top)
            found[relative] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, xattrs, what)
            if not stat.S_ISDIR(info.st_mode) and info.st_nlink > 1:
                inodes.setdefault(info.st_ino, []).append(relative)
    found["hard links"] = sorted(sorted(names) for names in inodes.values())
    return found


@pytest.fixture
def tree(tmp_path):
    """One of everything that a root filesystem may hold."""
    top = tmp_path / "tree"
    (top / "etc" / "empty").mkdir(parents=True)
    (top / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (top / "etc" / "shadow").write_text("root:*::\n")
    os.chmod(top / "etc" / "shadow", 0o640)
    os.chown(top / "etc" / "shadow", 0, 42)
    (top / "bin").mkdir()
    (top / "bin" / "su").write_bytes(os.urandom(20_000))
    os.chown(top / "bin" / "su", 7, 8)
    os.chmod(top / "bin" / "su", 0o6755)
    os.setxattr(top / "bin" / "su", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(top / "bin" / "su", "user.note", b"binary \0 \n = value")
    os.setxattr(top / "etc", "user.on-directory", b"yes")
    os.link(top / "bin" / "su", top / "bin" / "zz-also-su")
    os.symlink("../etc/passwd", top / "bin" / "link")
    os.symlink("/absolute", top / "absolute")
    os.link(top / "absolute", top / "absolute-too", follow_symlinks=False)
    os.lchown(top / "absolute", 3_000_000_000, 4)
    (top / "tmp").mkdir()
    os.chmod(top / "tmp", 0o1777)
    (top / "setgid").mkdir()
    os.chown(top / "setgid", 0, 50)
    os.chmod(top / "setgid", 0o2775)
    (top / "setgid" / "inside").write_text("whose group am I?")
    os.chown(top / "setgid" / "inside", 1000, 1000)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "sda", stat.S_IFBLK | 0o660, os.makedev(8, 300))
    os.mkfifo(top / "fifo", 0o600)
    with open(top / "sparse", "wb") as f:
        for at in (0, 1 << 20, 3 << 20, (5 << 20) + 4096 * 7):
            f.seek(at)
            f.write(os.urandom(4096))
        f.truncate(9 << 20)
    with open(top / "hollow", "wb") as f:
        f.truncate(4 << 20)
    with open(top / "many-holes", "wb") as f:
        for n in range(60):
            f.seek(n * 16384)
            f.write(b"x" * 4096)
    deep = top / ("long" * 30) / ("name" * 30)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).write_text("long")
    os.symlink("t" * 300, top / "long-target")
    (top / "späßchen \n tab\t").write_text("odd name")
    with open(os.path.join(os.fsencode(top), b"latin-\xe9"), "w") as f:
        f.write("not UTF-8")
    for base, directories, files in os.walk(top, topdown=False):
        for name in directories + files:
            os.utime(os.path.join(base, name), ns=(10**18, 10**18 + hash(name) % 10**12), follow_symlinks=False)
    os.utime(top, ns=(10**18, 1_234_567_890_987_654_321))
    return top


@pytest.mark.parametrize("name", FORMATS)
def test_restores_what_gnu_tar_restores(name, tree, tmp_path):
    """Types, owners, modes, times, devices, contents, hard links; with pax also xattrs and nanoseconds."""
    pack(tree, tmp_path / "t.tar", *FORMATS[name])
    unpack_gnu(tmp_path / "t.tar", tmp_path / "gnu")
    unpack_ours(tmp_path / "t.tar", tmp_path / "ours")
    assert facts(tmp_path / "ours") == facts(tmp_path / "gnu")
    if name.startswith("pax"):
        assert facts(tmp_path / "ours") == facts(tree)


@pytest.mark.parametrize("name", [name for name in FORMATS if "sparse" in name])
def test_keeps_holes(name, tree, tmp_path):
    """A sparse file takes as little room as GNU tar's copy does, and its holes are at the same places."""
    pack(tree, tmp_path / "t.tar", *FORMATS[name])
    unpack_gnu(tmp_path / "t.tar", tmp_path / "gnu")
    unpack_ours(tmp_path / "t.tar", tmp_path / "ours")
    for file in ("sparse", "hollow", "many-holes"):
        assert segments(tmp_path / "ours" / file) == segments(tmp_path / "gnu" / file) == segments(tree / file)


def segments(path) -> list[tuple[int, int]]:
    """(begin, end) of the data in a file."""
    found = []
    with open(path, "rb") as f:
        end = 0
        size = os.path.getsize(path)
        while end < size:
            try:
                begin = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            end = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, end))
    return found


@pytest.mark.parametrize("program, suffix", [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")])
def test_compressed_tarballs_give_the_same_layer(program, suffix, tree, tmp_path, store):
    """The layer, and its diff_id, don't depend on the compression."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    pack(tree, tmp_path / "t.tar", "--format=posix")
    import_rootfs(store, str(tmp_path / "t.tar"), "plain")
    subprocess.run([program, "-k", "-q", str(tmp_path / "t.tar")], check=True)
    import_rootfs(store, str(tmp_path / f"t.tar.{suffix}"), "compressed")
    plain, compressed = store.resolve("plain"), store.resolve("compressed")
    assert plain.layers == compressed.layers
    assert facts(plain.layers[0]) == facts(tree)


NAMES = st.sampled_from(["a", "b", "c", "long-" * 25, "ü"])
LEAVES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=2000), st.sampled_from([0o644, 0o4755, 0o000, 0o2711])),
    st.tuples(st.just("link"), st.sampled_from(["a", "../b", "/c", "x" * 120]), st.just(0)),
    st.tuples(st.just("fifo"), st.just(b""), st.sampled_from([0o600, 0o666])),
    st.tuples(st.just("hard"), st.just(b""), st.just(0)))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def build(where: str, node, made: list[str], owner: int) -> None:
    if isinstance(node, dict):
        os.mkdir(where, 0o755)
        for name, inner in node.items():
            build(os.path.join(where, name), inner, made, owner + 1)
    elif node[0] == "file":
        with open(where, "wb") as f:
            f.write(node[1])
        os.chown(where, owner, owner)
        os.chmod(where, node[2])
        made.append(where)
    elif node[0] == "link":
        os.symlink(node[1], where)
        made.append(where)
    elif node[0] == "fifo":
        os.mkfifo(where, node[2])
    elif made:
        os.link(made[-1], where, follow_symlinks=False)
    os.utime(where, ns=(0, 10**18 + owner * 1_000_000_007), follow_symlinks=False) if os.path.lexists(where) else None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(NAMES, TREES, max_size=4), name=st.sampled_from(sorted(FORMATS)))
def test_any_tree_comes_back(tree, name, tmp_path):
    """Random trees, in all formats: GNU tar's extraction and ours are the same."""
    for old in os.listdir(tmp_path):
        shutil.rmtree(tmp_path / old, ignore_errors=True) if os.path.isdir(tmp_path / old) else os.unlink(tmp_path / old)
    build(str(tmp_path / "tree"), tree, [], 1000)
    pack(tmp_path / "tree", tmp_path / "t.tar", *FORMATS[name])
    unpack_gnu(tmp_path / "t.tar", tmp_path / "gnu")
    unpack_ours(tmp_path / "t.tar", tmp_path / "ours")
    assert facts(tmp_path / "ours") == facts(tmp_path / "gnu")
