"""The host as a row of its own, id="/": the root cgroup, and /proc/meminfo, since v2's root has no memory files."""

from __future__ import annotations

import os

from minicontainer.metrics import disk, network
from minicontainer.metrics.group_files import GroupFiles
from minicontainer.metrics.page import Row

_READ_BYTES = 65536
# From the host itself: a root cgroup has no limits, and on v1 its memory figures leave out what the kernel uses.
_NOT_FROM_ROOT = (
    "cpu_quota_microseconds",
    "cpu_period_microseconds",
    "pids_limit",
    "memory_limit_bytes",
    "cfs_periods",
    "cfs_throttled_periods",
    "cfs_throttled_seconds",
    "oom_kills",
)


def meminfo(data: bytes) -> dict[str, float]:
    """Memory figures of the whole machine, in bytes; as for a container, the working set is without inactive files."""
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(b":") for line in data.splitlines())}
    total = kib[b"MemTotal"]
    used = total - kib[b"MemFree"]
    return {
        name: value * 1024
        for name, value in {
            "memory_usage_bytes": used,
            "memory_working_set_bytes": max(0, used - kib[b"Inactive(file)"]),
            "memory_rss_bytes": kib[b"AnonPages"],
            "memory_cache_bytes": kib[b"Cached"] + kib[b"Buffers"],
            "memory_swap_bytes": kib[b"SwapTotal"] - kib[b"SwapFree"],
            "spec_memory_limit_bytes": total,
        }.items()
    }


class HostRow:
    """data_root: the folder whose file system is the host's disk here."""

    def __init__(self, files: GroupFiles, data_root: str, proc: str = "/proc", sys: str = "/sys") -> None:
        self.row = Row("/")
        self._files = files
        self._data_root = data_root
        self._proc = proc
        self._sys = sys
        with open(f"{proc}/stat", "rb") as f:
            self._boot_time = int(next(line for line in f if line.startswith(b"btime ")).split()[1])

    def read(self, now: float) -> Row:
        """The row as it is now (seconds since the epoch)."""
        numbers = self._files.read()
        for name in _NOT_FROM_ROOT:
            numbers.pop(name, None)
        with open(f"{self._proc}/meminfo", "rb", buffering=0) as f:
            numbers.update(meminfo(f.read(_READ_BYTES)))
        numbers.update(disk.inodes(self._data_root))
        try:
            info = os.statvfs(self._data_root)
            numbers["fs_usage_bytes"] = (info.f_blocks - info.f_bfree) * info.f_frsize
        except FileNotFoundError:
            pass  # no container was ever made: nothing is stored
        numbers["last_seen"] = now
        numbers["start_time_seconds"] = self._boot_time
        self.row.numbers = numbers
        self.row.network = network.of_host(self._proc, self._sys)
        return self.row
