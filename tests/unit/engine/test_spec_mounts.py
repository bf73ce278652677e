"""Mounts and volumes in the OCI spec of a container, on a host made of a few files."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.engine import spec_mounts
from minicontainer.engine.host import Host
from minicontainer.engine.options import RunOptions
from minicontainer.errors import ImageError, Unsupported, UsageError
from tests.unit.engine.specs import mounts_of, spec_of


def test_mounts_come_parents_first(host: Host) -> None:
    """docker's own first, then the others by depth, so that no mount hides one inside it."""
    argv = ["-v", "/c:/x/y/z", "--tmpfs", "/x", "-v", "/b:/x/y", "-v", "named:/etc/deep/er"]
    order = [mount["destination"] for mount in spec_of(host, *argv)["mounts"]]
    assert order[:2] == ["/proc", "/dev"]
    assert order[-7:] == ["/x", "/x/y", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/x/y/z", "/etc/deep/er"]


def test_users_mounts_replace_dockers(host: Host) -> None:
    """A mount at the place of a default one is the only one there; one at /dev takes all of /dev."""
    found = mounts_of(spec_of(host, "-v", "/a:/dev/shm", "-v", "/b:/etc/hosts", "--tmpfs", "/proc"))
    assert (found["/dev/shm"]["source"], found["/etc/hosts"]["source"], found["/proc"]["type"]) == ("/a", "/b", "tmpfs")
    spec = spec_of(host, "-v", "/dev:/dev")
    assert [d for d in mounts_of(spec) if d.startswith("/dev")] == ["/dev"]
    assert len(spec["mounts"]) == len(mounts_of(spec))


def test_read_only_root(host: Host) -> None:
    """The root and what the engine mounts become read-only; /dev, /proc and the user's mounts stay as they are."""
    spec = spec_of(host, "--read-only", "-v", "/a:/b", "--tmpfs", "/tmp")
    found = mounts_of(spec)
    assert spec["root"] == {"path": "/root", "readonly": True}
    assert "ro" in found["/etc/hosts"]["options"] and "ro" in found["/sys/fs/cgroup"]["options"]
    for destination in ("/b", "/tmp", "/dev", "/dev/shm", "/proc"):
        assert "ro" not in found[destination]["options"]


def test_bind_options(host: Host) -> None:
    """ro goes all the way down where the kernel can do that, and bind-recursive steers it."""

    def options(*argv: str) -> list[str]:
        return mounts_of(spec_of(host, *argv))["/b"]["options"]

    bind = "type=bind,src=/alone,dst=/b,ro"
    assert options("-v", "/alone:/b:ro") == ["rbind", "rro", "rprivate"]
    assert options("--mount", f"{bind},bind-recursive=writable") == ["rbind", "ro", "rprivate"]
    assert options("--mount", f"{bind},bind-recursive=disabled") == ["bind", "ro", "rprivate"]
    host.kernel = (5, 10)
    assert options("-v", "/alone:/b:ro") == ["rbind", "ro", "rprivate"]
    with pytest.raises(Unsupported, match=r"mount_setattr\(2\)"):
        options("--mount", f"{bind},bind-recursive=readonly,bind-propagation=rprivate")


@pytest.mark.parametrize(
    ("source", "word", "rootfs", "error"),
    [
        ("/etc", "rslave", "rslave", ""),
        ("/etc", "rshared", "shared", ""),
        ("/with space/x", "shared", "shared", ""),
        ("/follows/x", "rslave", "rslave", ""),
        ("/follows/x", "rshared", "", "is mounted on /follows but it is not a shared mount"),
        ("/alone", "slave", "", "is mounted on /alone but it is not a shared or slave mount"),
        ("/alone", "private", None, ""),
    ],
)
def test_propagation(host: Host, source: str, word: str, rootfs: str | None, error: str) -> None:
    """Shared and slave binds need a host mount that takes part, and a root that lets them."""
    argv = ["-v", f"{source}:/b:{word}"]
    if error:
        with pytest.raises(UsageError, match=error):
            spec_of(host, *argv)
        return
    spec = spec_of(host, *argv)
    assert spec["linux"].get("rootfsPropagation") == rootfs
    assert word in mounts_of(spec)["/b"]["options"]


def test_volumes(host: Host) -> None:
    """Named, anonymous and the image's volumes: where they lie, and what the engine is to do with them."""
    options = RunOptions(
        image="i",
        mounts=[
            {"type": "volume", "source": "data", "target": "/data", "nocopy": True, "labels": {"a": "b"}},
            {"type": "volume", "source": "", "target": "/any"},
            {"type": "bind", "source": "/src", "target": "/deep/dst", "create_source": True},
        ],
    )
    config = {"Volumes": {"/data": {}, "/image/": {}}}
    points = spec_mounts.resolve_mounts(options, config, "/volumes", host, iter(["v1", "v2"]).__next__)
    facts = [(p.destination, p.source, p.volume, p.anonymous, p.copy_up, p.create) for p in points]
    assert facts == [
        ("/data", "/volumes/data/_data", "data", False, False, True),
        ("/any", "/volumes/v1/_data", "v1", True, True, True),
        ("/image", "/volumes/v2/_data", "v2", True, True, True),
        ("/deep/dst", "/src", "", False, False, True),
    ]
    assert points[0].labels == {"a": "b"} and points[0].options == ["rbind"]
    again = [spec_mounts.MountPoint(**point.to_dict()) for point in points]
    assert [point.to_dict() for point in again] == [point.to_dict() for point in points]


@pytest.mark.parametrize("path", ["/", "data", "/..", ""])
def test_image_volumes_are_not_trusted(host: Host, path: str) -> None:
    """An image's VOLUME that is no path in the container is an error of the image."""
    with pytest.raises(ImageError, match="the image has a VOLUME"):
        spec_mounts.resolve_mounts(RunOptions(image="i"), {"Volumes": {path: {}}}, "/volumes", host)


def test_make_sources(tmp_path: Path) -> None:
    """-v makes what is missing, --mount says that it is missing; what is there stays."""
    make = spec_mounts.MountPoint("bind", f"{tmp_path}/made/below", "/b", [], create=True)
    spec_mounts.make_sources([make, spec_mounts.MountPoint("tmpfs", "tmpfs", "/t", [])])
    assert (tmp_path / "made/below").is_dir() and not Path("tmpfs").exists()
    spec_mounts.make_sources([make])
    with pytest.raises(UsageError, match="bind source path does not exist: /no/such"):
        spec_mounts.make_sources([spec_mounts.MountPoint("bind", "/no/such", "/b", [])])
