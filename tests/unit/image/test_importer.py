"""Import: what the image says, and that it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from minicontainer.errors import NotFound, UsageError
from minicontainer.image.blob import BlobWriter
from minicontainer.image.importer import import_rootfs
from minicontainer.image.store import Store
from tests.unit.image.archives import archive, directory, file
from tests.unit.image.conftest import leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking sets owners: needs root")

MEMBERS = [directory(b"etc"), *(file(b"etc/%d" % n, os.urandom(3000)) for n in range(400))]


@pytest.fixture
def tarball(tmp_path):
    path = tmp_path / "rootfs.tar"
    path.write_bytes(archive(*MEMBERS))
    return path


def is_whole(store: Store, ref: str) -> bool:
    """Whether ref resolves; then every file of it must be there, and every blob be what its name says."""
    try:
        image = store.resolve(ref)
    except NotFound:
        return False
    assert len(os.listdir(image.layers[0] + "/etc")) == 400
    for name in os.listdir(store.layout.blobs):
        with open(f"{store.layout.blobs}/{name}", "rb") as f:
            assert hashlib.sha256(f.read()).hexdigest() == name
    return True


def test_config_says_what_was_asked_for(store, tarball):
    """--change and --message end in the OCI config; created and history are set."""
    id = import_rootfs(store, str(tarball), "team/app:1.2", ['CMD ["sh"]', "ENV A=1", "WORKDIR /srv"], "a message")
    image = store.resolve("team/app:1.2")
    assert image.id == id
    assert image.config == {"Cmd": ["sh"], "Env": ["A=1"], "WorkingDir": "/srv"}
    assert image.document["os"] == "linux"
    assert image.document["history"][0]["comment"] == "a message"
    assert image.document["created"] == image.document["history"][0]["created"]
    assert abs(time.time() - time.mktime(time.strptime(image.document["created"][:19], "%Y-%m-%dT%H:%M:%S"))
               + time.timezone) < 60
    with open(tarball, "rb") as f:
        assert image.document["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(f.read()).hexdigest()]


def test_progress_counts_to_the_end(store, tarball):
    """progress(done, total) never goes back and ends at the file's size."""
    seen: list[tuple[int, int | None]] = []
    import_rootfs(store, str(tarball), "x", progress=lambda done, total: seen.append((done, total)))
    size = os.path.getsize(tarball)
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


@pytest.mark.parametrize("source, ref, changes, error", [
    ("/nonexistent/x.tar", "x", [], NotFound), ("rootfs", "Bad Name", [], UsageError), ("rootfs", "x", ["RUN x"], UsageError)])
def test_bad_arguments_change_nothing(source, ref, changes, error, store, tarball):
    with pytest.raises(error):
        import_rootfs(store, str(tarball) if source == "rootfs" else source, ref, changes)
    assert not os.path.exists(store.layout.root) or leftovers(store) == []


def test_same_content_shares_its_layer(store, tarball):
    """Two imports of one tarball are two images and one layer."""
    import_rootfs(store, str(tarball), "one")
    import_rootfs(store, str(tarball), "two")
    assert store.resolve("one").layers == store.resolve("two").layers
    assert len(os.listdir(store.layout.layers)) == 1
    assert os.listdir(store.layout.tmp) == []


def test_a_new_image_of_the_same_name_keeps_the_old_one_by_its_id(store, tarball):
    first = import_rootfs(store, str(tarball), "one")
    second = import_rootfs(store, str(tarball), "one", ["CMD x"])
    assert store.resolve("one").id == second
    assert store.resolve(first).name == ""


@pytest.mark.parametrize("filesystem", ["disk", "tmpfs"])
@pytest.mark.parametrize("sizes", [[], [1], [511, 513], [1 << 20], [(1 << 20) - 1, 2], [3 << 20, 5], [700_000] * 5])
def test_blob_is_what_was_written(sizes, filesystem, tmp_path):
    """Whatever the pieces, and whether or not the file system has O_DIRECT."""
    where = "/dev/shm" if filesystem == "tmpfs" else str(tmp_path)
    data = [os.urandom(size) for size in sizes]
    with tempfile.TemporaryFile(dir=where) as f:
        writer = BlobWriter(f.fileno())
        for piece in data:
            writer.write(piece)
        writer.finish()
        f.seek(0)
        assert f.read() == b"".join(data)
        assert writer.size == sum(sizes)


def test_nothing_gets_its_name_before_it_is_on_disk(store, tarball, monkeypatch):
    """Against power cuts: one flush of everything, then the renames, the index last and flushed itself."""
    from minicontainer.image import store as module

    steps: list[str] = []
    real = {"syncfs": module.syncfs, "rename": os.rename, "fsync": os.fsync}
    store.layout.prepare()
    monkeypatch.setattr(module, "syncfs", lambda fd: (steps.append("syncfs"), real["syncfs"](fd)))
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
                                                              .split(".")[0]), real["fsync"](fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (steps.append("rename " + os.path.basename(os.path.dirname(b))),
                                                    real["rename"](a, b)))
    import_rootfs(store, str(tarball), "x")
    assert steps == ["syncfs", "rename layers", *["rename sha256"] * 3, "fsync sha256", "fsync layers", "fsync index",
                     "rename oci", "fsync oci"]


def test_failed_imports_do_not_read_from_their_successors(store, tmp_path, tarball):
    """The reading thread of an import that has failed must not use its descriptors' numbers again."""
    bad = write(tmp_path / "bad.tar", archive(file(b"../x"), *MEMBERS, *MEMBERS, *MEMBERS))
    for n in range(30):
        with pytest.raises(Exception, match="'..' in its name"):
            import_rootfs(store, str(bad), "bad")
        import_rootfs(store, str(tarball), f"good{n}")
    assert is_whole(store, "good29")


def test_source_that_stops_half_way_leaves_nothing(store, tmp_path):
    """A killed producer at the other end of a pipe (`docker export … | minicontainer import -`)."""
    data = archive(*MEMBERS)
    for cut in (0, 100, len(data) // 2, len(data) // 2 // 512 * 512, len(data) - 1024):
        with pytest.raises(Exception, match="bad tarball"):
            import_rootfs(store, str(write(tmp_path / "cut", data[:cut])), "x")
        assert leftovers(store) == []


def write(path, data: bytes):
    path.write_bytes(data)
    return path


CHILD = """
import os, sys
sys.path[:0] = %r
from minicontainer.image.importer import import_rootfs
from minicontainer.image.store import Store
die_at = int(sys.argv[3])
calls = 0
def counted(call):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), 9)
        return call(*args, **kwargs)
    return wrapped
from minicontainer.image import store as module
module.syncfs = counted(module.syncfs)
os.rename = counted(os.rename)
os.fsync = counted(os.fsync)
import_rootfs(Store(sys.argv[1]), sys.argv[2], "x")
print("calls", calls)
"""


def test_killed_at_any_step_of_publishing(tmp_path, tarball):
    """kill -9 before each rename and each flush: the image is whole or absent, and the next import cleans up."""
    script = write(tmp_path / "child.py", (CHILD % [p for p in sys.path if p]).encode())
    done = 0
    for step in range(1, 40):
        store = Store(str(tmp_path / f"store-{step}"))
        result = subprocess.run([sys.executable, str(script), store.layout.root, str(tarball), str(step)],
                                capture_output=True, text=True)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        done += is_whole(store, "x")
        import_rootfs(store, str(tarball), "y")
        assert is_whole(store, "y")
        assert os.listdir(store.layout.tmp) == []
        for listed in store.list():
            store.remove(listed.id)
        assert leftovers(store) == []
        shutil.rmtree(store.layout.root)
    else:
        pytest.fail("more steps than expected")
    assert step > 8
    assert done >= 1, "the last flush comes after the image is there"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_killed_while_unpacking(share, tmp_path, store):
    """kill -9 in the middle of the data: no image, no layer, no blob; the next import removes what was begun."""
    data = archive(*MEMBERS)
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n" + \
        "from minicontainer.image.importer import import_rootfs\nfrom minicontainer.image.store import Store\n" + \
        "import_rootfs(Store(sys.argv[1]), '-', 'x')"
    child = subprocess.Popen([sys.executable, "-c", code, store.layout.root], stdin=subprocess.PIPE)
    child.stdin.write(data[:int(len(data) * share)])
    child.stdin.flush()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not begun(store, share > 0):
        time.sleep(0.02)
    child.kill()
    child.wait()
    child.stdin.close()
    assert begun(store, share > 0), "killed before it had begun"
    assert not is_whole(store, "x")
    assert store.list() == []
    assert os.listdir(store.layout.layers) == os.listdir(store.layout.blobs) == []
    import_rootfs(store, str(write(tmp_path / "again.tar", data)), "x")
    assert is_whole(store, "x")
    assert os.listdir(store.layout.tmp) == []


def begun(store: Store, with_files: bool) -> bool:
    top = store.layout.tmp
    if not os.path.isdir(top) or not os.listdir(top):
        return False
    fs = f"{top}/{os.listdir(top)[0]}/layer/fs"
    return os.path.isdir(fs + "/etc") and len(os.listdir(fs + "/etc")) > 20 if with_files else os.path.isdir(fs)


def test_concurrent_imports_do_not_disturb_each_other(tmp_path, store, tarball):
    """Four at once: four names, one layer, nothing left over."""
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n" + \
        "from minicontainer.image.importer import import_rootfs\nfrom minicontainer.image.store import Store\n" + \
        "import_rootfs(Store(sys.argv[1]), sys.argv[2], sys.argv[3])"
    children = [subprocess.Popen([sys.executable, "-c", code, store.layout.root, str(tarball), f"n{n}"]) for n in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert all(is_whole(store, f"n{n}") for n in range(4))
    assert len(os.listdir(store.layout.layers)) == 1
    assert os.listdir(store.layout.tmp) == []


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize("compress", [None, "gzip", "zstd"])
def test_skopeo_reads_the_store(compress, store, tarball, tmp_path):
    """The store is an OCI image layout to others: inspect gives the config, copy verifies every digest and diff_id."""
    source = tarball
    if compress:
        subprocess.run([compress, "-q", "-k", str(tarball)], check=True)
        source = tarball.with_suffix(".tar.gz" if compress == "gzip" else ".tar.zst")
    import_rootfs(store, str(source), "team/app:1.2", ["ENV A=1"])
    reference = f"oci:{store.layout.oci}:team/app:1.2"
    seen = json.loads(subprocess.run(["skopeo", "inspect", reference], check=True, capture_output=True).stdout)
    assert (seen["Os"], seen["Env"], len(seen["Layers"])) == ("linux", ["A=1"], 1)
    # docker's own formats know no zstd, so that one goes to another OCI layout
    target = f"oci:{tmp_path}/copy:x" if compress == "zstd" else f"docker-archive:{tmp_path}/a.tar:x:1"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", reference, target], check=True)
