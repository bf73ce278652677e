"""Files of a stack of layers are read as the kernel's overlayfs shows them, and nothing else is."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.errors import ImageError
from minicontainer.image.union import open_in_layers, open_in_root, read_in_layers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts and overlay mounts need root")


@pytest.fixture(params=[1, 3], ids=["one layer", "three layers"])
def layers(request, tmp_path):
    """Directories, top first; a test fills the last one."""
    made = [tmp_path / str(n) for n in range(request.param)]
    for layer in made:
        layer.mkdir()
    return [str(layer) for layer in made]


def put(layer: str, path: str, content: str = "content") -> None:
    target = os.path.join(layer, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w") as f:
        f.write(content)


def test_reads_a_file(layers):
    put(layers[-1], "etc/passwd", "from below")
    assert read_in_layers(layers, "/etc/passwd") == b"from below"
    assert read_in_layers(layers, "etc/../etc/./passwd") == b"from below"
    assert read_in_layers(layers, "../../etc/passwd") == b"from below"


@pytest.mark.parametrize("link, target", [("etc", "/usr/etc"), ("etc", "../../usr/etc"), ("etc", "usr/etc")])
def test_symlinks_stay_inside(layers, link, target):
    os.symlink(target, os.path.join(layers[-1], link))
    put(layers[-1], "usr/etc/hostname", "the image's")
    assert read_in_layers(layers, "/etc/hostname") == b"the image's"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../../../../etc/hostname", "/proc/self/environ"])
def test_symlinks_to_the_host_lead_nowhere(layers, target):
    os.mkdir(os.path.join(layers[-1], "etc"))
    os.symlink(target, os.path.join(layers[-1], "etc/x"))
    assert read_in_layers(layers, "/etc/x") == b""


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_only_regular_files_are_opened(layers, kind):
    path = os.path.join(layers[-1], "x")
    if kind == stat.S_IFDIR:
        os.mkdir(path)
    else:
        os.mknod(path, kind | 0o666, os.makedev(5, 0))
    with pytest.raises(ImageError, match="not a regular file"):
        read_in_layers(layers, "/x")


def test_loops_end(layers):
    os.symlink("b", os.path.join(layers[-1], "a"))
    os.symlink("a", os.path.join(layers[-1], "b"))
    with pytest.raises(ImageError, match="symlink|symbolic link"):
        read_in_layers(layers, "/a")


def test_size_limit(layers):
    put(layers[-1], "x", "12345")
    assert read_in_layers(layers, "/x", 5) == b"12345"
    with pytest.raises(ImageError, match="5 bytes long; 4 are allowed"):
        read_in_layers(layers, "/x", 4)


def test_missing_is_empty_or_an_error(layers):
    put(layers[-1], "file")
    for path in ("/none", "/none/x", "/file/x"):
        assert read_in_layers(layers, path) == b""
        with pytest.raises(FileNotFoundError):
            open_in_layers(layers, path)


@pytest.mark.timeout(20)
def test_files_of_procfs_are_empty():
    """A container may link its passwd to /proc/kmsg, whose reader waits: `exec -u` looks below /proc/PID/root."""
    assert read_in_layers(["/"], "/proc/kmsg") == b""
    assert read_in_layers(["/"], "/proc/self/environ") == b""


def test_layer_that_is_gone_is_no_missing_file(layers):
    with pytest.raises(ImageError, match="/nonexistent can't be opened"):
        read_in_layers([*layers[1:], "/nonexistent"], "/etc/passwd")


def test_names_too_long_are_an_error(layers):
    os.symlink("x" * 300, os.path.join(layers[-1], "l"))
    with pytest.raises(ImageError, match="File name too long"):
        read_in_layers(layers, "/l")


def test_leaves_no_descriptor_open(layers):
    put(layers[-1], "etc/passwd")
    os.symlink("etc", os.path.join(layers[-1], "l"))
    before = os.listdir("/proc/self/fd")
    for path in ("/l/passwd", "/l/none", "/l/../l/passwd"):
        read_in_layers(layers, path)
    assert os.listdir("/proc/self/fd") == before


NAMES = ["a", "b", "c"]
ENTRY = st.recursive(
    st.sampled_from(["file", "whiteout", "/a", "/b/c", "../b", "c", "../../a/b"]),
    lambda inner: st.tuples(st.booleans(), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)), max_leaves=8)
LAYER = st.dictionaries(st.sampled_from(NAMES), ENTRY, max_size=3)


def make(where: str, entries: dict, marker: str) -> None:
    for name, entry in entries.items():
        path = os.path.join(where, name)
        if entry == "file":
            with open(path, "w") as f:
                f.write(f"{marker}:{path[-20:]}")
        elif entry == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
        elif isinstance(entry, str):
            os.symlink(entry, path)
        else:
            opaque, inner = entry
            os.mkdir(path)
            if opaque:
                os.setxattr(path, "trusted.overlay.opaque", b"y")
            make(path, inner, marker)


def seen(read) -> bytes | str:
    try:
        fd = read()
    except FileNotFoundError:
        return "missing"
    except ImageError as e:
        return "loop" if "symlink" in e.message or "symbolic" in e.message else "not regular"
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(LAYER, min_size=2, max_size=4), opaque_root=st.booleans())
def test_is_what_overlayfs_shows(stack, opaque_root, tmp_path_factory):
    """Random layers with whiteouts, opaque directories and symlinks, each path looked up in a real overlay mount too."""
    top = tmp_path_factory.mktemp("union")
    layers = []
    for n, entries in enumerate(stack):
        layers.append(str(top / f"layer{n}"))
        os.mkdir(layers[-1])
        make(layers[-1], entries, str(n))
    if opaque_root:
        os.setxattr(layers[0], "trusted.overlay.opaque", b"y")
    merged = top / "merged"
    merged.mkdir()
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(layers), "none", str(merged)], check=True)
    try:
        root = os.open(merged, os.O_PATH | os.O_DIRECTORY)
        try:
            for path in ("/".join(parts) for parts in paths()):
                ours = seen(lambda path=path: open_in_layers(layers, path))
                assert ours == seen(lambda path=path: open_in_root(root, path)), path
        finally:
            os.close(root)
    finally:
        subprocess.run(["umount", str(merged)], check=True)


def paths():
    for first in NAMES:
        yield [first]
        for second in [*NAMES, ".."]:
            yield [first, second]
            for third in NAMES:
                yield [first, second, third]
