"""What a group has used: files of the kernel → plain numbers with their unit in the name. v1, v2 and hybrid alike.

    cpu_usage_seconds cpu_user_seconds cpu_system_seconds
    cfs_periods cfs_throttled_periods cfs_throttled_seconds cpu_quota_microseconds cpu_period_microseconds
    memory_usage_bytes memory_working_set_bytes memory_rss_bytes memory_cache_bytes memory_swap_bytes memory_limit_bytes
    oom_kills pids pids_limit io_read_bytes io_write_bytes io_reads io_writes
    pressure_{cpu,memory,io}_{waiting,stalled}_seconds

All are totals since the group was made, but for memory_*, pids and limits. A value that can't be known is absent, and so
is a limit that is not set. memory_working_set_bytes is usage less inactive file pages, what kubelet evicts by.
Each parser takes one file's bytes and adds to a dict, so that whoever keeps files open (metrics) pays for no more than that.
Sources: cgroup-v2.rst; cgroup-v1/{memory,cpuacct,pids,blkio-controller}.rst; scheduler/sched-bwc.rst; accounting/psi.rst.
"""

from __future__ import annotations

import os

from minicontainer.cgroup.hierarchy import Hierarchy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Numbers = dict[str, float]
    Parser = Callable[[bytes, Numbers], None]

# When a file can have changed, for whoever reads again and again.
ALWAYS = 0
LIMIT = 1  # when somebody sets a limit
ACTIVITY = 2  # when the group has used CPU time: whatever forks, is throttled, allocates or is killed has
BLOCK_IO_V1 = 3  # when some disk of the host is counted at all (_io_v1)
READ_BYTES = 16384  # more than any of these files has, but io.stat of a machine with some 100 disks
_UNLIMITED_BYTES = 1 << 62  # what memory.limit_in_bytes shows without a limit is just below 1 << 63


def _after(data: bytes, key: bytes) -> int:
    """The number behind key, up to the end of its line; KeyError-like -1 if the key is not there."""
    at = data.find(key)
    if at < 0:
        return -1
    at += len(key)
    end = data.find(b"\n", at)
    return int(data[at:end] if end >= 0 else data[at:])


def _add(out: Numbers, name: str, value: int, scale: float = 0) -> None:
    if value >= 0:
        out[name] = value / scale if scale else value


def cpu_v2(data: bytes, out: Numbers) -> None:
    """cpu.stat of the v2 tree; on hybrid it lacks the nr_* lines, which v1's cpu controller has."""
    _add(out, "cpu_usage_seconds", _after(data, b"usage_usec "), 1e6)
    _add(out, "cpu_user_seconds", _after(data, b"user_usec "), 1e6)
    _add(out, "cpu_system_seconds", _after(data, b"system_usec "), 1e6)
    _add(out, "cfs_periods", _after(data, b"nr_periods "))
    _add(out, "cfs_throttled_periods", _after(data, b"nr_throttled "))
    _add(out, "cfs_throttled_seconds", _after(data, b"throttled_usec "), 1e6)


def throttling_v1(data: bytes, out: Numbers) -> None:
    """cpu.stat of v1's cpu controller; throttled_time is in nanoseconds."""
    _add(out, "cfs_periods", _after(data, b"nr_periods "))
    _add(out, "cfs_throttled_periods", _after(data, b"nr_throttled "))
    _add(out, "cfs_throttled_seconds", _after(data, b"throttled_time "), 1e9)


def cpu_max(data: bytes, out: Numbers) -> None:
    """cpu.max: "max 100000" or "50000 100000"."""
    quota, _, period = data.partition(b" ")
    if quota != b"max":
        out["cpu_quota_microseconds"] = int(quota)
    out["cpu_period_microseconds"] = int(period)


def memory_stat_v1(data: bytes, out: Numbers) -> None:
    """memory.stat of v1; total_* counts the groups below too, as usage_in_bytes does."""
    _add(out, "memory_rss_bytes", _after(data, b"\ntotal_rss "))
    _add(out, "memory_cache_bytes", _after(data, b"\ntotal_cache "))
    _add(out, "memory_swap_bytes", _after(data, b"\ntotal_swap "))
    _working_set(out, _after(data, b"\ntotal_inactive_file "))


def memory_stat_v2(data: bytes, out: Numbers) -> None:
    """memory.stat of v2."""
    _add(out, "memory_rss_bytes", _after(data, b"anon "))
    _add(out, "memory_cache_bytes", _after(data, b"\nfile "))
    _working_set(out, _after(data, b"\ninactive_file "))


def _working_set(out: Numbers, inactive_file: int) -> None:
    usage = out.get("memory_usage_bytes")
    if usage is not None and inactive_file >= 0:
        out["memory_working_set_bytes"] = max(0, usage - inactive_file)


def _limit(name: str) -> Parser:
    def parse(data: bytes, out: Numbers) -> None:
        if data[:3] != b"max" and 0 <= (value := int(data)) < _UNLIMITED_BYTES:
            out[name] = value

    return parse


def _plain(name: str, scale: float = 0) -> Parser:
    def parse(data: bytes, out: Numbers) -> None:
        out[name] = int(data) / scale if scale else int(data)

    return parse


def oom_kills(data: bytes, out: Numbers) -> None:
    """oom_kill of memory.events (v2) or memory.oom_control (v1, Linux 4.13)."""
    _add(out, "oom_kills", _after(data, b"\noom_kill "))


def io_v2(data: bytes, out: Numbers) -> None:
    """io.stat, all devices together; an empty file means that nothing was read or written."""
    sums = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
    for word in data.split():
        key, _, value = word.partition(b"=")
        if key in sums:
            sums[key] += int(value)
    out["io_read_bytes"], out["io_write_bytes"], out["io_reads"], out["io_writes"] = sums.values()


def _io_v1(read: str, write: str) -> Parser:
    def parse(data: bytes, out: Numbers) -> None:
        """Nothing but "Total 0": the kernel counts for a disk only once it has a throttle rule, so the value is not known."""
        if data.count(b"\n") < 2:
            return
        out[read] = out[write] = 0
        for line in data.splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in (b"Read", b"Write"):
                out[read if words[1] == b"Read" else write] += int(words[2])

    return parse


def _pressure(resource: str) -> Parser:
    waiting, stalled = f"pressure_{resource}_waiting_seconds", f"pressure_{resource}_stalled_seconds"

    def parse(data: bytes, out: Numbers) -> None:
        """ "some … total=µs" (a task waits) and, but for cpu before Linux 5.13, "full … total=µs" (all tasks wait)."""
        at = data.find(b"total=")
        out[waiting] = int(data[at + 6 : data.find(b"\n", at)]) / 1e6
        at = data.find(b"total=", at + 6)
        if at >= 0:
            out[stalled] = int(data[at + 6 :]) / 1e6

    return parse


_V1: tuple[tuple[str, str, Parser, int], ...] = (
    ("cpu", "cpu.stat", throttling_v1, ACTIVITY),
    ("cpu", "cpu.cfs_quota_us", _limit("cpu_quota_microseconds"), LIMIT),
    ("cpu", "cpu.cfs_period_us", _plain("cpu_period_microseconds"), LIMIT),
    ("memory", "memory.usage_in_bytes", _plain("memory_usage_bytes"), ALWAYS),
    ("memory", "memory.stat", memory_stat_v1, ALWAYS),  # after usage: the working set needs both
    ("memory", "memory.limit_in_bytes", _limit("memory_limit_bytes"), LIMIT),
    ("memory", "memory.oom_control", oom_kills, ACTIVITY),
    ("pids", "pids.current", _plain("pids"), ACTIVITY),
    ("pids", "pids.max", _limit("pids_limit"), LIMIT),
    ("blkio", "blkio.throttle.io_service_bytes_recursive", _io_v1("io_read_bytes", "io_write_bytes"), BLOCK_IO_V1),
    ("blkio", "blkio.throttle.io_serviced_recursive", _io_v1("io_reads", "io_writes"), BLOCK_IO_V1),
)
_V1_CPU: tuple[tuple[str, str, Parser, int], ...] = (  # where no v2 tree has them in one file
    ("cpuacct", "cpuacct.usage", _plain("cpu_usage_seconds", 1e9), ALWAYS),
    ("cpuacct", "cpuacct.usage_user", _plain("cpu_user_seconds", 1e9), ALWAYS),
    ("cpuacct", "cpuacct.usage_sys", _plain("cpu_system_seconds", 1e9), ALWAYS),
)
_V2: tuple[tuple[str, str, Parser, int], ...] = (
    ("cpu", "cpu.max", cpu_max, LIMIT),
    ("memory", "memory.current", _plain("memory_usage_bytes"), ALWAYS),
    ("memory", "memory.stat", memory_stat_v2, ALWAYS),  # after current: the working set needs both
    ("memory", "memory.swap.current", _plain("memory_swap_bytes"), ALWAYS),
    ("memory", "memory.max", _limit("memory_limit_bytes"), LIMIT),
    ("memory", "memory.events", oom_kills, ACTIVITY),
    ("pids", "pids.current", _plain("pids"), ACTIVITY),
    ("pids", "pids.max", _limit("pids_limit"), LIMIT),
    ("io", "io.stat", io_v2, ALWAYS),
)
_UNIFIED: tuple[tuple[str, Parser], ...] = (  # in every v2 tree, controllers or not
    ("cpu.stat", cpu_v2),
    ("cpu.pressure", _pressure("cpu")),
    ("memory.pressure", _pressure("memory")),
    ("io.pressure", _pressure("io")),
)


def sources(hierarchy: Hierarchy, path: str) -> list[tuple[str, Parser, int]]:
    """The files of the group at path, each with its parser and ALWAYS … BLOCK_IO_V1, in the order in which they are to be read."""
    h, out = hierarchy, []
    if h.unified:
        out += [(f"{h.unified}{path}/{file}", parser, ALWAYS) for file, parser in _UNIFIED]
    v1 = _V1 if h.unified else (*_V1_CPU, *_V1)
    out += [(f"{h.mounts[c]}{path}/{file}", parser, when) for c, file, parser, when in v1 if c in h.mounts]
    out += [(f"{h.unified}{path}/{file}", parser, when) for c, file, parser, when in _V2 if c in h.unified_controllers]
    return out


def stats(hierarchy: Hierarchy, path: str) -> Numbers:
    """The numbers of the group at path; {} if it is gone."""
    out: Numbers = {}
    for file, parser, _ in sources(hierarchy, path):
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # absent from this kernel, or gone: absent from the answer
        try:
            parser(os.read(fd, READ_BYTES), out)
        except OSError:
            continue  # pressure stall information is switched off (EOPNOTSUPP), or the group has just gone (ENODEV)
        finally:
            os.close(fd)
    return out
