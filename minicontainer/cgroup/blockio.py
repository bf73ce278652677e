"""OCI `blockIO` as settings of the blkio controller of cgroup v1 or the io controller of v2.

Sources: runtime-spec config-linux.md "Block IO"; the kernel's cgroup-v1/blkio-controller.rst, cgroup-v2.rst "IO".
"""

from __future__ import annotations

import os

from minicontainer.cgroup.settings import Group, Setting, need, number, same_entry, same_number
from minicontainer.errors import LimitError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WEIGHT = "block IO weight (--blkio-weight)"
_DEVICE = "--blkio-weight-device"
_THROTTLES = (  # OCI name, v1 file, v2 key, flag, unit
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", "--device-read-bps", "bytes read per second"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", "--device-write-bps", "bytes written per second"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", "--device-read-iops", "reads per second"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", "--device-write-iops", "writes per second"),
)


def io_weight(weight: int) -> int:
    """io.weight (1 to 10000) of blkio.weight (10 to 1000), on a line: crun.1.md, "cgroup v2"; runc does the same."""
    return 1 + (weight - 10) * 9999 // 990


def blockio(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """weight and weightDevice (where the kernel has files for them), throttle*Device; leafWeight went with CFQ in Linux 5.0."""
    section = resources.get("blockIO") or {}
    return _weights(section, group, v2) + (_io_max if v2 else _throttles)(section, group)


def _weights(section: dict, group: Group, v2: bool) -> list[Setting]:
    devices = section.get("weightDevice") or ()
    if section.get("leafWeight") or any(entry.get("leafWeight") for entry in devices):
        raise Unsupported("block IO leaf weight: no kernel since 5.0 has it", "use the weight")
    weight = _weight(section, _WEIGHT)
    entries = [(entry, value) for entry in devices if (value := _weight(entry, _DEVICE))]
    if not weight and not entries:
        return []
    controller = "io" if v2 else "blkio"
    file = f"{controller}.bfq.weight"
    convert: Callable[[int], int] = int  # BFQ's weights are OCI's
    if v2 and not group.has("io", file):
        file, convert = "io.weight", io_weight
    elif not v2 and group.has("blkio", "blkio.weight"):
        file = "blkio.weight"
    device_file = file if v2 else f"{file}_device"
    hint = "it needs the BFQ scheduler: modprobe bfq, then echo bfq > /sys/block/DISK/queue/scheduler"
    need(group, controller, file, _WEIGHT, f"{hint}; or iocost (CONFIG_BLK_CGROUP_IOCOST)" if v2 else hint)
    out = []
    if weight:
        why = "its share of a contended disk; 100 is an ordinary group's"
        out.append(Setting(controller, file, convert(weight), _WEIGHT, why, same_number))
    for entry, value in entries:
        need(group, controller, device_file, _DEVICE, "this kernel weighs whole groups only")
        text = f"{device(group, entry, _DEVICE)} {convert(value)}"
        out.append(Setting(controller, device_file, text, _DEVICE, "its share of this disk", same_entry))
    return out


def _weight(entry: dict, limit: str) -> int:
    """10 to 1000, or 0 where none is asked for."""
    weight = number(entry, "weight", limit, 0, 1000) or 0
    if 0 < weight < 10:
        raise LimitError(f"{limit}: {weight} is out of range", "it may be 10 to 1000")
    return weight


def _throttles(section: dict, group: Group) -> list[Setting]:
    out = []
    for key, file, _, flag, unit in _THROTTLES:
        for entry in section.get(key) or ():
            rate = number(entry, "rate", flag, 0)
            need(group, "blkio", file, flag, "the kernel needs CONFIG_BLK_DEV_THROTTLING")
            text = f"{device(group, entry, flag)} {rate or 0}"
            out.append(Setting("blkio", file, text, flag, f"{unit} of this disk at most; the rest waits", same_entry))
    return out


def _io_max(section: dict, group: Group) -> list[Setting]:
    """The throttles of one device in one line."""
    by_device: dict[str, list[str]] = {}
    for key, _, word, flag, _ in _THROTTLES:
        for entry in section.get(key) or ():
            rate = number(entry, "rate", flag, 0)
            need(group, "io", "io.max", flag, "the kernel needs CONFIG_BLK_DEV_THROTTLING")
            by_device.setdefault(device(group, entry, flag), []).append(f"{word}={rate or 'max'}")
    why = "bytes and operations per second of this disk at most; the rest waits"
    return [
        Setting("io", "io.max", f"{name} {' '.join(words)}", "--device-{read,write}-{bps,iops}", why, same_entry)
        for name, words in by_device.items()
    ]


def device(group: Group, entry: dict, limit: str) -> str:
    """ "MAJ:MIN" of a throttle or weight entry; limits count whole disks only (Documentation: block/blk-throttle)."""
    major, minor = number(entry, "major", limit, 0, 4095), number(entry, "minor", limit, 0, (1 << 20) - 1)
    name = f"{major}:{minor}"
    where = f"{group.sys}/dev/block/{name}"
    if not os.path.exists(where):
        raise LimitError(f"{limit}: this host has no block device {name}", "see lsblk for the numbers of the disks")
    if os.path.exists(f"{where}/partition"):
        raise LimitError(
            f"{limit}: {name} is a partition, and the kernel limits whole disks only", "name the disk that it is on; see lsblk"
        )
    return name
