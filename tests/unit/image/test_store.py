"""Names, ids, tags and removal, and what resolving costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from minicontainer.errors import Conflict, ImageError, NotFound, UsageError
from minicontainer.image.importer import import_rootfs
from tests.unit.image.archives import archive, directory, file
from tests.unit.image.conftest import leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking sets owners: needs root")


@pytest.fixture
def two(store, tmp_path):
    """The ids of two images, `one` and `team/two:v2`; they share nothing."""
    ids = []
    for name, content in (("one", b"1"), ("team/two:v2", b"22")):
        path = tmp_path / "x.tar"
        path.write_bytes(archive(directory(b"etc"), file(b"etc/f", content)))
        ids.append(import_rootfs(store, str(path), name))
    return ids


@pytest.mark.parametrize("ref", ["one", "one:latest", "docker.io/library/one", "docker.io/one:latest"])
def test_resolves_names(ref, store, two):
    image = store.resolve(ref)
    assert (image.id, image.name) == (two[0], "one:latest")
    assert os.listdir(image.layers[0]) == ["etc"]


def test_resolves_ids(store, two):
    """The whole id, with or without sha256:, or as little of it as is unique."""
    digits = two[1].removeprefix("sha256:")
    for ref in (two[1], digits, digits[:12], "sha256:" + digits[:20]):
        assert store.resolve(ref).id == two[1]
        assert store.resolve(ref).name == "team/two:v2"


def test_a_name_goes_before_an_id(store, two):
    """As docker has it: an image named like another's id is found by its name."""
    prefix = two[1].removeprefix("sha256:")[:6]
    store.tag("one", prefix)
    assert store.resolve(prefix).id == two[0]
    assert store.resolve("sha256:" + prefix).id == two[1]


def test_missing_image_says_what_to_do(store, two):
    for ref in ("nothing", "one:v9", "team/two", "0" * 64, "sha256:" + "0" * 64):
        with pytest.raises(NotFound, match=f"no such image: {ref}") as e:
            store.resolve(ref)
        assert "minicontainer import" in e.value.hint


def test_missing_store_is_a_missing_image(store):
    for use in (store.resolve, store.inspect, store.remove, lambda ref: store.tag(ref, "x")):
        with pytest.raises(NotFound, match="no such image: busybox"):
            use("busybox")
    assert store.list() == []
    assert not os.path.exists(store.layout.root)


def test_ambiguous_id_is_refused(store, two, tmp_path):
    """More images until two ids begin alike (seventeen must share a digit)."""
    ids = list(two)
    while len({id[7] for id in ids}) == len(ids):
        ids.append(import_rootfs(store, str(tmp_path / "x.tar")))
    shared = next(id[7] for id in ids if [other[7] for other in ids].count(id[7]) > 1)
    with pytest.raises(Conflict, match="several image ids begin with"):
        store.resolve(shared)


@pytest.mark.parametrize("ref", ["", "UPPER", "a//b", "../etc", "a:b:c", "sha256:xyz", "-x", "a b", "a@sha256:00"])
def test_bad_references_are_usage_errors(ref, store, two):
    with pytest.raises(UsageError, match="invalid reference format"):
        store.resolve(ref)


def test_lists_newest_first_with_size(store, two):
    listed = store.list()
    assert [(line.repository, line.tag, line.size) for line in listed] == [("team/two", "v2", 2), ("one", "latest", 1)]
    assert [line.id for line in listed] == two[::-1]


def test_inspect_has_dockers_keys(store, two):
    store.tag("one", "also:1")
    seen = store.inspect("one")
    assert seen["Id"] == two[0]
    assert seen["RepoTags"] == ["one:latest", "also:1"]
    assert seen["Os"] == "linux"
    assert seen["Size"] == 1
    assert seen["RootFS"]["Type"] == "layers"
    assert seen["GraphDriver"]["Data"]["UpperDir"] == store.resolve("one").layers[0]
    json.dumps(seen)


def test_remove_a_name_then_the_image(store, two):
    """docker's lines: with another name left only that one goes, with the last one the image, its blobs and layer."""
    store.tag("one", "also:1")
    assert store.remove("one") == ["Untagged: one:latest"]
    assert store.resolve("also:1").id == two[0]
    assert store.remove("also:1") == ["Untagged: also:1", f"Deleted: {two[0]}"]
    with pytest.raises(NotFound):
        store.resolve(two[0])
    assert store.resolve("team/two:v2").layers
    assert len(os.listdir(store.layout.layers)) == 1
    assert len(os.listdir(store.layout.blobs)) == 3
    store.remove(two[1])
    assert leftovers(store) == []


def test_remove_by_id_wants_force_for_several_names(store, two):
    store.tag("one", "also:1")
    with pytest.raises(Conflict, match="has several names: one:latest, also:1"):
        store.remove(two[0][7:20])
    assert store.remove(two[0][7:20], force=True) == ["Untagged: one:latest", "Untagged: also:1", f"Deleted: {two[0]}"]


def test_image_in_use_stays(store, two):
    """A container keeps its image; force takes the name, not the image."""
    def in_use():
        return {two[0]: "web"}

    with pytest.raises(Conflict, match="image one is used by container web"):
        store.remove("one", in_use=in_use)
    assert store.resolve("one").id == two[0]
    assert store.remove("one", force=True, in_use=in_use) == ["Untagged: one:latest"]
    assert store.resolve(two[0]).name == ""
    assert store.list()[-1].repository == "<none>"
    with pytest.raises(Conflict):
        store.remove(two[0], force=True, in_use=in_use)
    assert store.remove(two[0]) == [f"Deleted: {two[0]}"]


def test_shared_layer_outlives_one_of_its_images(store, two, tmp_path):
    import_rootfs(store, str(tmp_path / "x.tar"), "three")
    assert store.resolve("three").layers == store.resolve("team/two:v2").layers
    store.remove("team/two:v2")
    assert os.listdir(store.resolve("three").layers[0]) == ["etc"]


def test_tag_moves_a_name(store, two):
    """The image that had it stays, without a name, unless it has another."""
    store.tag("one", "team/two:v2")
    assert store.resolve("team/two:v2").id == two[0]
    assert store.resolve(two[1]).name == ""
    store.tag(two[1], "again")
    assert [line.repository for line in store.list()].count("<none>") == 0


def test_damage_is_reported(store, two):
    """A damaged file names itself; a layer that is gone is not mounted."""
    layer = os.path.dirname(store.resolve("one").layers[0])
    os.rename(layer, layer + ".gone")
    with pytest.raises(ImageError, match="is damaged: its layer"):
        store.resolve("one")
    with open(store.layout.blob(two[1]), "w") as f:
        f.write("{}")
    with pytest.raises(ImageError, match=r"its config has no rootfs\.diff_ids"):
        store.resolve("team/two:v2")
    with open(store.layout.index, "w") as f:
        f.write('{"manifests": [')
    with pytest.raises(ImageError, match=r"index\.json is damaged"):
        store.list()


def test_what_others_put_into_the_index_is_left_alone(store, two):
    """skopeo may copy an image into the layout; it is not ours to run, nor to forget."""
    with open(store.layout.index) as f:
        index = json.load(f)
    foreign = {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
    foreign["annotations"] = {"org.opencontainers.image.ref.name": "theirs"}
    index["manifests"].append(foreign)
    with open(store.layout.index, "w") as f:
        json.dump(index, f)
    with pytest.raises(NotFound):
        store.resolve("theirs")
    store.remove("one")
    with open(store.layout.index) as f:
        assert foreign in json.load(f)["manifests"]


def test_data_is_for_root_only(store, two):
    """CVE-2021-41091: others must not get at setuid programs and secrets of images."""
    for path in (store.layout.root, store.layout.layers, store.layout.blobs, store.layout.oci):
        assert os.stat(path).st_mode & 0o077 == 0


def test_store_that_is_not_ours_to_write(two, store):
    os.chmod(store.layout.root, 0o500)
    code = f"import sys, os; sys.path[:0] = {[p for p in sys.path if p]!r}\n" + \
        "from minicontainer.image.store import Store\nfrom minicontainer.errors import ImageError\n" + \
        "store = Store(sys.argv[1]); os.setgid(12345); os.setuid(12345)\n" + \
        "try:\n    store.resolve('one')\nexcept ImageError as e:\n    print(e)\n"
    seen = subprocess.run([sys.executable, "-c", code, store.layout.root], check=True, capture_output=True, text=True).stdout
    assert "can't be read" in seen
    assert "Run it as root" in seen


def test_resolve_is_quick(store, two):
    """It is on the path of `run`: under half a millisecond (best of 50)."""
    best = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        store.resolve("one")
        best = min(best, time.perf_counter() - begin)
    assert best < 0.0005


def test_resolving_imports_nothing_slow(store, two):
    """None of the modules that the start-up budget forbids."""
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n" + \
        "before = set(sys.modules)\nfrom minicontainer.image.store import Store\n" + \
        "from minicontainer.image.users import resolve_user\n" + \
        "image = Store(sys.argv[1]).resolve('one'); resolve_user(image.layers, '')\n" + \
        "print(*sorted(set(sys.modules) - before))"
    seen = subprocess.run([sys.executable, "-I", "-c", code, store.layout.root], check=True, capture_output=True, text=True)
    slow = {"json", "re", "enum", "typing", "dataclasses", "functools", "collections", "pathlib", "subprocess", "tempfile",
            "shutil", "hashlib", "argparse", "logging", "contextlib", "socket", "datetime", "threading", "queue", "struct"}
    assert slow.isdisjoint(seen.stdout.split())
