"""What the values of docker's limit and device flags mean: ulimits, sysctls, CPU sets, devices.

The same contract as in values: text in, plain data out, ValueError with the reason.
"""

from __future__ import annotations

from minicontainer.engine.values import size_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Device(TypedDict):
        """A --device: path on the host, path in the container, access (of "rwm")."""

        host: str
        container: str
        access: str

    class DeviceRule(TypedDict, total=False):
        """A rule of the devices cgroup in OCI's form; major or minor -1 is any."""

        allow: bool
        type: str
        major: int
        minor: int
        access: str


_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
# The sysctls that a namespace of the container makes its own; any other would change the host.
_IPC_SYSCTLS = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
)  # fmt: skip


def ulimit(text: str) -> tuple[str, int, int]:
    """ "nofile=1024:2048" as (name, soft, hard); hard is soft when not given, -1 is unlimited."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text} (name=soft[:hard], like nofile=1024:2048)")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name} (one of {', '.join(_ULIMITS)})")
    limits = value.split(":")
    if len(limits) > 2:
        raise ValueError(f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`")
    try:
        soft, hard = int(limits[0]), int(limits[-1])
    except ValueError:
        raise ValueError(f"{value} is not soft[:hard] in numbers") from None
    if min(soft, hard) < -1:
        raise ValueError(f"{value} is negative (-1 is unlimited)")
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return name, soft, hard


def sysctl(text: str) -> tuple[str, str]:
    """ "net.ipv4.ip_forward=1" as (name, value); only what belongs to the container's own namespaces."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"sysctl '{text}' is not name=value")
    if name not in _IPC_SYSCTLS and not name.startswith(("net.", "fs.mqueue.")):
        raise ValueError(
            f"sysctl '{text}' is not allowed (it is the host's; a container has its own net.*, "
            "fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem)"
        )
    if "/" in name or ".." in name:
        raise ValueError(f"sysctl '{text}' is not allowed (names are words joined by single points)")
    return name, value


def cpu_set(text: str) -> set[int]:
    """The numbers of a list like "0-3,5" (cpuset(7)); used to check --cpuset-cpus and --cpuset-mems."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 8191:
            raise ValueError(f"invalid format: {text} (like 0-3 or 0,2)")
        if int(last or first) < int(first):
            raise ValueError(f"invalid range: {part}")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def cpu_list(text: str) -> str:
    """A CPU or memory node list that is well-formed; empty means any."""
    if text:
        cpu_set(text)
    return text


def blkio_weight(text: str) -> int:
    """A block I/O weight: 10 to 1000, or 0 for none."""
    if not text.isdecimal() or not (text == "0" or 10 <= int(text) <= 1000):
        raise ValueError("Range of blkio weight is from 10 to 1000")
    return int(text)


def weight_device(text: str) -> tuple[str, int]:
    """ "/dev/sda:200" as (path, weight)."""
    path, weight = _device_and_value(text, "<device-path>:<weight>")
    return path, blkio_weight(weight)


def throttle_bps(text: str) -> tuple[str, int]:
    """ "/dev/sda:1mb" as (path, bytes per second)."""
    path, rate = _device_and_value(text, "<device-path>:<number>[<unit>]")
    try:
        return path, size_bytes(rate)
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def throttle_iops(text: str) -> tuple[str, int]:
    """ "/dev/sda:1000" as (path, operations per second)."""
    path, rate = _device_and_value(text, "<device-path>:<number>")
    if not rate.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    return path, int(rate)


def _device_and_value(text: str, form: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text} ({form})")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text} (it begins with /dev/)")
    return path, value


def device(text: str) -> Device:
    """ "/dev/fuse", "/dev/fuse:rw", "/dev/sda:/dev/b", "/dev/sda:/dev/b:r"; access is "rwm" when not given."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text} (host[:container[:rwm]])")
    host = container = parts[0]
    access = "rwm"
    if len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) > 1:
        container = parts[1]
    if len(parts) == 3:
        access = parts[2]
        if not _is_access(access):
            raise ValueError(f"bad mode specified: {access} (of r, w and m)")
    for path in (host, container):
        if not path.startswith("/"):
            raise ValueError(f"{path} is not an absolute path")
        if ".." in path.split("/"):
            raise ValueError(f"{path} contains '..'")
    return {"host": host, "container": container, "access": access}


def device_cgroup_rule(text: str) -> DeviceRule:
    """ "c 10:229 rwm", "b *:* r", "a *:* rwm" as an OCI rule that allows it."""
    parts = text.split(" ")
    major, colon, minor = parts[1].partition(":") if len(parts) == 3 else ("", "", "")
    numbers = all(number == "*" or number.isdecimal() for number in (major, minor))
    if not colon or not numbers or parts[0] not in ("a", "b", "c") or not _is_access(parts[2]):
        raise ValueError(f"invalid device cgroup format '{text}' (like 'c 10:229 rwm')")
    return {
        "allow": True,
        "type": parts[0],
        "major": -1 if major == "*" else int(major),
        "minor": -1 if minor == "*" else int(minor),
        "access": parts[2],
    }


def _is_access(text: str) -> bool:
    """Whether text is some of r, w and m, each once."""
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)
