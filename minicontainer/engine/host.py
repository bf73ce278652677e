"""What make_spec asks about the host: capabilities, devices, kernel files. Tests bring a host of their own."""

from __future__ import annotations

import os
from stat import S_ISBLK, S_ISCHR, S_ISDIR

from minicontainer.errors import Unsupported, UsageError
from minicontainer.kernel.flags import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# tini is linked statically in these, so it runs in every image; a dynamic one would need the image's libc.
_INITS = ("/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/libexec/docker/docker-init")
# What of /dev a privileged container does not get as a copy of the host's: it has its own.
_OWN_DEVICES = frozenset(("pts", "shm", "fd", "mqueue", "console"))


class Host:
    """The host, seen through its files.

    proc, sys, dev: where those file systems are. cgroup_v2: whether cgroups are pure v2 (cgroup.hierarchy
    knows). kernel: (major, minor) of the kernel. inits: paths where a static tini may be.
    """

    __slots__ = ("cgroup_v2", "dev", "inits", "kernel", "proc", "sys")

    def __init__(
        self,
        *,
        proc: str = "/proc",
        sys: str = "/sys",
        dev: str = "/dev",
        cgroup_v2: bool = False,
        kernel: tuple[int, int] | None = None,
        inits: tuple[str, ...] = _INITS,
    ) -> None:
        self.proc = proc
        self.sys = sys
        self.dev = dev
        self.cgroup_v2 = cgroup_v2
        self.kernel = kernel or _kernel_version(os.uname().release)
        self.inits = inits

    def capabilities(self) -> list[str]:
        """What can be given away: the effective capabilities of this process, in the kernel's order."""
        with open(f"{self.proc}/self/status") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    mask = int(line[7:], 16)
                    return [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]
        raise Unsupported(f"{self.proc}/self/status has no CapEff line")

    def has_sysctl(self, name: str) -> bool:
        return os.path.exists(f"{self.proc}/sys/{name.replace('.', '/')}")

    def thermal_throttle_paths(self) -> list[str]:
        """The thermal_throttle directories of the CPUs, as the container sees them."""
        with open(f"{self.sys}/devices/system/cpu/possible") as file:
            last = int(file.read().strip().replace("-", ",").rpartition(",")[2])
        paths = [f"/devices/system/cpu/cpu{cpu}/thermal_throttle" for cpu in range(last + 1)]
        return ["/sys" + path for path in paths if os.path.exists(self.sys + path)]

    def recursive_read_only(self) -> bool:
        """Whether a mount can be made read-only with all below it: mount_setattr(2), Linux 5.12 and newer."""
        return self.kernel >= (5, 12)

    def init_path(self) -> str:
        """A static tini. Raises Unsupported where there is none."""
        for path in self.inits:
            if os.access(path, os.X_OK):
                return path
        raise Unsupported(
            f"--init needs a static tini, and none of {', '.join(self.inits)} is there",
            "apt-get install tini",
        )

    def propagation(self, path: str) -> tuple[str, set[str]]:
        """(mount point, {"shared", "master", …}) of the mount that a path is on (mountinfo, proc(5))."""
        path = os.path.realpath(path)
        found: tuple[str, set[str]] = ("/", set())
        with open(f"{self.proc}/self/mountinfo") as file:
            for line in file:
                fields = line.split(" ")
                point = fields[4].replace("\\040", " ")
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(found[0]):  # the later of two at the same place is on top
                    optional = fields[6 : fields.index("-")]
                    found = point, {field.partition(":")[0] for field in optional}
        return found

    def block_device(self, path: str, flag: str) -> tuple[int, int]:
        """(major, minor) of a device node. Raises UsageError that names the flag."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise UsageError(f'invalid argument "{path}" for "{flag}" flag: {error.strerror}') from None
        if not S_ISBLK(status.st_mode):
            raise UsageError(f'invalid argument "{path}" for "{flag}" flag: not a block device')
        return os.major(status.st_rdev), os.minor(status.st_rdev)

    def devices(self, path: str, target: str) -> list[dict[str, Any]]:
        """The OCI devices of --device path:target: one, or all below a directory. Raises UsageError."""
        real = os.path.realpath(path)
        try:
            status = os.stat(real)
            if S_ISDIR(status.st_mode):
                found = self._below(real, target)
            else:
                found = [node] if (node := _device(status, target)) else []
        except OSError as error:
            reason = error.strerror
        else:
            if found:
                return found
            reason = "no device node is there" if S_ISDIR(status.st_mode) else "not a device node"
        raise UsageError(
            f'error gathering device information while adding custom device "{path}": {reason}',
            "see --device",
        )

    def all_devices(self) -> list[dict[str, Any]]:
        """Every device of the host, for --privileged."""
        return self._below(self.dev, "/dev", _OWN_DEVICES)

    def _below(self, directory: str, target: str, skipped: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # a device that was just unplugged
            if name in skipped:
                continue
            if S_ISDIR(status.st_mode):
                found += self._below(path, f"{target}/{name}", skipped)
            elif node := _device(status, f"{target}/{name}"):
                found.append(node)
        return found


def _device(status: os.stat_result, path: str) -> dict[str, Any] | None:
    """An OCI device of a node's status; None for what is no device."""
    kind = "c" if S_ISCHR(status.st_mode) else "b" if S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return {
        "path": path,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": status.st_mode & 0o7777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _kernel_version(release: str) -> tuple[int, int]:
    """ "6.1.0-18-amd64" is (6, 1)."""
    major, minor = release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    return int(major), int(digits or 0)
