"""The mounts of a container: where each comes from, and the list in the OCI spec (docker's, current)."""

from __future__ import annotations

import os

from minicontainer.engine.names import new_id
from minicontainer.engine.values_mounts import merge_tmpfs_options, mount_target
from minicontainer.errors import ImageError, Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicontainer.engine.host import Host
    from minicontainer.engine.options import RunOptions
    from minicontainer.engine.spec import SpecContainer
    from minicontainer.engine.values_mounts import Mount

# On /dev, the container's own tmpfs: nothing of the image is touched by it.
INIT_PATH = "/dev/init"
# Where a bind of the whole of /dev leaves no tmpfs of ours.
INIT_PATH_BESIDE_DEV = "/sbin/minicontainer-init"
_STAYS_WRITABLE = frozenset(("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"))


class MountPoint:
    """A mount with its source known.

    type: "bind", "volume" or "tmpfs". source, destination: absolute paths. volume: the volume's name, ""
    for others. anonymous: the volume was made for this container. copy_up: the image's files at destination
    go into the volume as long as it is empty. create: the engine makes a missing source. options:
    mount(8)'s, as the spec has them. labels: of a new volume.
    """

    __slots__ = (
        "anonymous", "copy_up", "create", "destination", "labels", "options", "source", "type", "volume",
    )  # fmt: skip

    def __init__(
        self,
        type: str,
        source: str,
        destination: str,
        options: list[str],
        *,
        volume: str = "",
        anonymous: bool = False,
        copy_up: bool = False,
        create: bool = False,
        labels: dict[str, str] | None = None,
    ) -> None:
        self.type = type
        self.source = source
        self.destination = destination
        self.options = options
        self.volume = volume
        self.anonymous = anonymous
        self.copy_up = copy_up
        self.create = create
        self.labels = labels or {}

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; MountPoint(**it) is the same again: a restart finds the same anonymous volumes."""
        return {name: getattr(self, name) for name in self.__slots__}


def resolve_mounts(
    options: RunOptions,
    image_config: dict[str, Any],
    volumes_dir: str,
    host: Host,
    new_name: Callable[[], str] = new_id,
) -> list[MountPoint]:
    """The user's mounts and the image's VOLUMEs, parents before children. Nothing is made on disk.

    volumes_dir: where volumes lie, each as <name>/_data. Raises UsageError and Unsupported; ImageError for
    an image's VOLUME that is no path.
    """
    points = [_resolve(mount, volumes_dir, host, new_name) for mount in options.mounts]
    taken = {point.destination for point in points}
    for path in image_config.get("Volumes") or ():
        try:
            target = mount_target(path)
        except ValueError as reason:
            raise ImageError(f'the image has a VOLUME "{path}": {reason}') from None
        if target not in taken:
            taken.add(target)
            points.append(_resolve({"type": "volume", "source": "", "target": target}, volumes_dir, host, new_name))
    points.sort(key=lambda point: point.destination.count("/"))
    return points


def make_sources(points: list[MountPoint]) -> None:
    """Make missing volumes, and the directories that -v names. UsageError for any other missing source."""
    for point in points:
        if point.type == "tmpfs" or os.path.lexists(point.source):
            continue
        if not point.create:
            raise UsageError(
                f'invalid mount config for type "{point.type}": {point.type} source path does not exist: {point.source}',
                "make it first, or use bind-create-src with --mount, or -v",
            )
        os.makedirs(point.source, exist_ok=True)


def _resolve(mount: Mount, volumes_dir: str, host: Host, new_name: Callable[[], str]) -> MountPoint:
    target = mount["target"]
    if mount["type"] == "tmpfs":
        words = ["noexec", "nosuid", "nodev", "rprivate", *mount.get("options", [])]
        return MountPoint("tmpfs", "tmpfs", target, merge_tmpfs_options(words))
    if mount["type"] == "bind":
        create = mount.get("create_source", False)
        return MountPoint("bind", mount["source"], target, _bind_options(mount, host), create=create)
    name = mount["source"] or new_name()
    return MountPoint(
        "volume",
        f"{volumes_dir}/{name}/_data",
        target,
        _bind_options(mount, host),
        volume=name,
        anonymous=not mount["source"],
        copy_up=not mount.get("nocopy", False),
        create=True,
        labels=mount.get("labels"),
    )


def _bind_options(mount: Mount, host: Host) -> list[str]:
    recursive = mount.get("recursive", "enabled")
    options = ["bind" if recursive == "disabled" else "rbind"]
    if mount.get("read_only"):
        whole = host.recursive_read_only()
        if recursive == "readonly" and not whole:
            raise Unsupported(
                "bind-recursive=readonly needs mount_setattr(2), Linux 5.12 or newer",
                "use bind-recursive=writable",
            )
        options.append("rro" if whole and recursive in ("enabled", "readonly") else "ro")
    propagation = mount.get("propagation", "")
    if propagation:
        _check_propagation(mount["source"], propagation, host)
        options.append(propagation)
    elif mount["type"] == "bind":
        options.append("rprivate")
    return options


def _check_propagation(source: str, propagation: str, host: Host) -> None:
    """A mount can only be shared with, or follow, one of the host that takes part (mount_namespaces(7))."""
    if propagation.endswith("private"):
        return
    point, kinds = host.propagation(source)
    if propagation.endswith("shared") and "shared" not in kinds:
        raise UsageError(
            f"path {source} is mounted on {point} but it is not a shared mount",
            f"mount --make-rshared {point}",
        )
    if propagation.endswith("slave") and not kinds & {"shared", "master"}:
        raise UsageError(
            f"path {source} is mounted on {point} but it is not a shared or slave mount",
            f"mount --make-rshared {point}",
        )


def rootfs_propagation(points: list[MountPoint]) -> str:
    """What the container's root must be for the binds that take part in propagation; "" if none does."""
    words = {option for point in points for option in point.options}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} else ""


def spec_mounts(options: RunOptions, container: SpecContainer, points: list[MountPoint], host: Host) -> list[dict[str, Any]]:
    """The "mounts" of the OCI spec: docker's, less those that others lie over, then the others by depth."""
    user = {point.destination for point in points}
    ours = [*_ipc_mounts(options, container), *_network_files(options, container)]
    added = [*points, *(point for point in ours if point.destination not in user)]
    added.sort(key=lambda point: point.destination.count("/"))
    over = {point.destination for point in added}
    mounts = []
    for mount in _defaults(options):
        destination = mount["destination"]
        if destination not in over and not ("/dev" in user and destination.startswith("/dev/")):
            mounts.append(mount)
    if wants_init(options):
        mounts.append(_mount(init_path(options), "bind", host.init_path(), ["bind", "ro"]))
    for point in added:
        kind = "tmpfs" if point.type == "tmpfs" else "bind"
        mounts.append(_mount(point.destination, kind, point.source, point.options))
    if options.read_only:
        for mount in mounts:
            if mount["destination"] not in _STAYS_WRITABLE | user and "ro" not in mount["options"]:
                mount["options"].append("ro")
    return mounts


def wants_init(options: RunOptions) -> bool:
    """Whether an init comes before the program: only where the container has a pid 1 of its own."""
    return bool(options.init) and options.pid_mode in ("", "private")


def init_path(options: RunOptions) -> str:
    """Where the init is in the container."""
    return INIT_PATH_BESIDE_DEV if any(mount["target"] == "/dev" for mount in options.mounts) else INIT_PATH


def _defaults(options: RunOptions) -> list[dict[str, Any]]:
    """docker's own mounts (moby, oci/defaults.go), their options by --privileged, --ipc and --shm-size."""
    writable_cgroups = options.privileged if options.writable_cgroups is None else options.writable_cgroups
    guarded = ["nosuid", "noexec", "nodev"]
    mounts = [
        _mount("/proc", "proc", "proc", guarded),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts",
               ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/sys", "sysfs", "sysfs", [*guarded, *([] if options.privileged else ["ro"])]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*([] if writable_cgroups else ["ro"]), *guarded]),
        _mount("/dev/mqueue", "mqueue", "mqueue", guarded),
    ]  # fmt: skip
    if options.ipc_mode != "none":
        size = f"size={options.shm_size_bytes or 64 << 20}"
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", [*guarded, "mode=1777", size]))
    return mounts


def _ipc_mounts(options: RunOptions, container: SpecContainer) -> list[MountPoint]:
    """/dev/shm of whoever's IPC namespace it is."""
    source = "/dev/shm" if options.ipc_mode == "host" else container.shm_path
    return [MountPoint("bind", source, "/dev/shm", ["rbind", "rprivate"])] if source else []


def _network_files(options: RunOptions, container: SpecContainer) -> list[MountPoint]:
    """The files of /etc that the engine writes for a container, or wrote for the one whose network it joins."""
    bind = ["rbind", "ro", "rprivate"] if options.read_only else ["rbind", "rprivate"]
    return [
        MountPoint("bind", f"{container.network_files}/{name}", f"/etc/{name}", list(bind))
        for name in ("resolv.conf", "hostname", "hosts")
    ]


def _mount(destination: str, type: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": type, "source": source, "options": list(options)}
