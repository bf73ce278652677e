"""OCI resources as settings of cgroup v1 controllers.

Sources: runtime-spec config-linux.md; the kernel's Documentation/admin-guide/cgroup-v1/{memory,cpusets,pids,hugetlb,
blkio-controller,net_cls,net_prio,rdma}.rst, scheduler/sched-bwc.rst, scheduler/sched-rt-group.rst.
Not here: memory.kernel and memory.kernelTCP, which the kernel dropped in 5.16 (kernel memory counts in memory.limit),
and blockIO.leafWeight, which went with CFQ in 5.0.
"""

from __future__ import annotations

import os

from minicontainer.cgroup import settings as s
from minicontainer.cgroup.settings import Group, Setting, need, number
from minicontainer.errors import LimitError, Unsupported

_MEMORY = "memory limit (--memory)"
_SWAP = "memory and swap limit (--memory-swap)"


def memory(resources: dict, group: Group) -> list[Setting]:
    """limit, swap (which is memory + swap in OCI and in v1), reservation, swappiness, disableOOMKiller."""
    section = resources.get("memory") or {}
    out = _memory_limits(section, group)
    reservation = number(section, "reservation", "memory reservation (--memory-reservation)")
    if reservation:
        out.append(
            Setting(
                "memory",
                "memory.soft_limit_in_bytes",
                reservation,
                "memory reservation (--memory-reservation)",
                "under memory pressure the kernel reclaims down to this first",
                s.same_bytes,
            )
        )
    swappiness = number(section, "swappiness", "swappiness (--memory-swappiness)", -1, 200)
    if swappiness is not None and swappiness >= 0:
        out.append(
            Setting(
                "memory",
                "memory.swappiness",
                swappiness,
                "swappiness (--memory-swappiness)",
                "0 keeps its memory out of swap, 100 treats memory and files alike",
            )
        )
    if section.get("disableOOMKiller"):
        out.append(
            Setting(
                "memory",
                "memory.oom_control",
                1,
                "--oom-kill-disable",
                "at its limit the container stops and waits, nothing is killed",
                lambda asked, got: f"oom_kill_disable {asked}" in got,
            )
        )
    return out


def _memory_limits(section: dict, group: Group) -> list[Setting]:
    """memory <= memory+swap holds at every moment, so the order depends on what is there now."""
    limit, swap = number(section, "limit", _MEMORY), number(section, "swap", _SWAP)
    memsw_file = "memory.memsw.limit_in_bytes"
    if limit == -1 and not swap and group.has("memory", memsw_file):
        swap = -1  # no limit on memory alone means none on both together either
    if swap:
        need(group, "memory", memsw_file, _SWAP, "boot with swapaccount=1, or ask for no swap limit")
    if limit and swap and limit > 0 and 0 < swap < limit:
        raise LimitError(
            f"{_SWAP}: {swap} bytes are less than the memory limit of {limit}",
            "it counts memory and swap together: give at least the memory limit",
        )
    if limit is not None and limit > 0 and limit < s.PAGE_BYTES:
        raise LimitError(f"{_MEMORY}: {limit} bytes are less than a page of {s.PAGE_BYTES}", "give some MiB")
    memory_set = Setting(
        "memory",
        "memory.limit_in_bytes",
        limit,
        _MEMORY,
        "the kernel reclaims, then OOM-kills, above this many bytes",
        s.same_bytes,
    )
    swap_set = Setting("memory", memsw_file, swap, _SWAP, "memory and swap together stay below this many bytes", s.same_bytes)
    out = [setting for setting, asked in ((memory_set, limit), (swap_set, swap)) if asked]
    now = group.current("memory", memsw_file).strip()
    if limit and now and (limit == -1 or limit > int(now)):
        if not swap:
            raise LimitError(
                f"{_MEMORY}: {limit} bytes are more than memory and swap together may be now ({now.strip()})",
                "raise --memory-swap with it",
            )
        out.reverse()
    return out


def cpu(resources: dict, group: Group) -> list[Setting]:
    """shares, quota, period, burst, idle, realtimeRuntime, realtimePeriod."""
    section = resources.get("cpu") or {}
    out: list[Setting] = []
    idle = number(section, "idle", "cpu idle", 0, 1)
    if idle is not None:
        need(group, "cpu", "cpu.idle", "cpu idle", "it came with Linux 5.15")
        out.append(Setting("cpu", "cpu.idle", idle, "cpu idle", "1: runs only when no other group wants the CPU"))
    shares = number(section, "shares", "CPU shares (--cpu-shares)", 0, 262144)
    if shares and not idle:  # an idle group has no weight
        if shares < 2:
            raise LimitError(f"CPU shares (--cpu-shares): {shares} is out of range", "it may be 2 to 262144")
        out.append(
            Setting(
                "cpu",
                "cpu.shares",
                shares,
                "CPU shares (--cpu-shares)",
                "its weight when CPUs are contended; 1024 is one ordinary group's",
            )
        )
    out += _bandwidth(section, group)
    rt_period = number(section, "realtimePeriod", "--cpu-rt-period", 0)
    rt_runtime = number(section, "realtimeRuntime", "--cpu-rt-runtime")
    if rt_period or rt_runtime:
        need(group, "cpu", "cpu.rt_runtime_us", "realtime CPU time (--cpu-rt-runtime)", "the kernel needs CONFIG_RT_GROUP_SCHED")
    if rt_period:
        out.append(Setting("cpu", "cpu.rt_period_us", rt_period, "--cpu-rt-period", "the period of realtime tasks, µs"))
    if rt_runtime:
        out.append(
            Setting("cpu", "cpu.rt_runtime_us", rt_runtime, "--cpu-rt-runtime", "µs that realtime tasks may run in each period")
        )
    return out


def bandwidth_numbers(section: dict) -> tuple[int | None, int | None, int | None]:
    """quota, period, burst in µs, checked against what the kernel takes (sched-bwc.rst); 0 means not asked for."""
    quota = number(section, "quota", "CPU quota (--cpus, --cpu-quota)")
    period = number(section, "period", "CPU period (--cpu-period)", 0)
    burst = number(section, "burst", "CPU burst", 0)
    if quota and 0 < quota < 1000:
        raise LimitError(f"CPU quota (--cpus, --cpu-quota): {quota} µs is less than 1 ms", "give at least 1000 µs, or --cpus 0.01")
    if period and not 1000 <= period <= 1000000:
        raise LimitError(f"CPU period (--cpu-period): {period} µs is not between 1 ms and 1 s", "give 1000 to 1000000 µs")
    if burst and quota and 0 < quota < burst:
        raise LimitError(f"CPU burst: {burst} µs is more than the quota of {quota} µs", "give at most the quota")
    return quota or None, period or None, burst


def _bandwidth(section: dict, group: Group) -> list[Setting]:
    """The quotient of each step in between stays at or below the higher of old and new, as the parent's limit demands."""
    quota, period, burst = bandwidth_numbers(section)
    out: list[Setting] = []
    if period:
        out.append(
            Setting("cpu", "cpu.cfs_period_us", period, "CPU period (--cpu-period)", "the quota counts in periods of this many µs")
        )
    if quota:
        out.append(
            Setting(
                "cpu",
                "cpu.cfs_quota_us",
                quota,
                "CPU quota (--cpus, --cpu-quota)",
                "µs of CPU time in each period; beyond that it waits for the next (throttled)",
            )
        )
    old_period = group.current("cpu", "cpu.cfs_period_us").strip()
    if period and old_period and period < int(old_period):
        out.reverse()
    if burst is not None:
        need(group, "cpu", "cpu.cfs_burst_us", "CPU burst", "it came with Linux 5.14")
        setting = Setting("cpu", "cpu.cfs_burst_us", burst, "CPU burst", "unused µs that it may save up and spend at once")
        old_burst = group.current("cpu", "cpu.cfs_burst_us").strip()
        out.insert(0 if old_burst and burst < int(old_burst) else len(out), setting)  # burst <= quota, always
    return out


def cpuset(resources: dict, group: Group) -> list[Setting]:
    """cpus and mems, within the parent's."""
    section = resources.get("cpu") or {}
    out = []
    for key, file, limit, why in (
        ("cpus", "cpuset.cpus", "CPU set (--cpuset-cpus)", "it runs on these CPUs only"),
        ("mems", "cpuset.mems", "memory nodes (--cpuset-mems)", "its memory comes from these NUMA nodes only"),
    ):
        text = section.get(key)
        if text:
            s.check_cpuset(group, file, file, text, limit)
            out.append(Setting("cpuset", file, text, limit, why, s.same_list))
    return out


def pids(resources: dict, group: Group) -> list[Setting]:
    """limit: positive is a limit, negative is none, 0 is not asked for."""
    limit = number(resources.get("pids") or {}, "limit", "process limit (--pids-limit)", -(1 << 63))
    if not limit:
        return []
    if limit > 4194304:  # PID_MAX_LIMIT: pids.max reads back as "max" above it
        limit = -1
    return [
        Setting(
            "pids",
            "pids.max",
            limit if limit > 0 else "max",
            "process limit (--pids-limit)",
            "fork() fails with EAGAIN above this many processes and threads",
        )
    ]


THROTTLES = (  # OCI name, v1 file, v2 key, flag, unit
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", "--device-read-bps", "bytes read per second"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", "--device-write-bps", "bytes written per second"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", "--device-read-iops", "reads per second"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", "--device-write-iops", "writes per second"),
)


def weights(section: dict) -> tuple[int, list[dict]]:
    """blockIO's weight (0: not asked for) and weightDevice entries, checked."""
    if section.get("leafWeight") or any(entry.get("leafWeight") for entry in section.get("weightDevice") or ()):
        raise Unsupported("block IO leaf weight: no kernel since 5.0 has it", "use the weight")
    weight = number(section, "weight", "block IO weight (--blkio-weight)", 0, 1000) or 0
    entries = [entry for entry in section.get("weightDevice") or () if entry.get("weight")]
    for value in [weight, *(number(e, "weight", "--blkio-weight-device", 0, 1000) or 0 for e in entries)]:
        if 0 < value < 10:
            raise LimitError(f"block IO weight (--blkio-weight): {value} is out of range", "it may be 10 to 1000")
    return weight, entries


def blkio(resources: dict, group: Group) -> list[Setting]:
    """weight and weightDevice (where the kernel has CFQ's or BFQ's files), throttle*Device."""
    section = resources.get("blockIO") or {}
    weight, entries = weights(section)
    out = []
    if weight or entries:
        prefix = "blkio" if group.has("blkio", "blkio.weight") else "blkio.bfq"
        need(
            group,
            "blkio",
            f"{prefix}.weight",
            "block IO weight (--blkio-weight)",
            "it needs the BFQ scheduler: modprobe bfq, then echo bfq > /sys/block/DISK/queue/scheduler",
        )
        if weight:
            out.append(
                Setting(
                    "blkio",
                    f"{prefix}.weight",
                    weight,
                    "block IO weight (--blkio-weight)",
                    "its share of a contended disk; 100 is an ordinary group's",
                    s.same_number,
                )
            )
        for entry in entries:
            need(group, "blkio", f"{prefix}.weight_device", "--blkio-weight-device", "this kernel weighs whole groups only")
            name = s.device(group, entry, "--blkio-weight-device")
            out.append(
                Setting(
                    "blkio",
                    f"{prefix}.weight_device",
                    f"{name} {entry['weight']}",
                    "--blkio-weight-device",
                    "its share of this disk",
                    s.same_entry,
                )
            )
    for key, file, _, flag, unit in THROTTLES:
        for entry in section.get(key) or ():
            rate = number(entry, "rate", flag, 0)
            need(group, "blkio", file, flag, "the kernel needs CONFIG_BLK_DEV_THROTTLING")
            out.append(
                Setting(
                    "blkio",
                    file,
                    f"{s.device(group, entry, flag)} {rate or 0}",
                    flag,
                    f"{unit} of this disk at most; the rest waits",
                    s.same_entry,
                )
            )
    return out


def page_sizes(resources: dict, group: Group) -> list[tuple[str, int]]:
    """hugepageLimits as (page size as the kernel names its files, bytes), checked against what the host has."""
    out = []
    for entry in resources.get("hugepageLimits") or ():
        size = entry.get("pageSize")
        unit = {"KB": 1, "MB": 1 << 10, "GB": 1 << 20}.get(str(size)[-2:])
        if unit is None or not str(size)[:-2].isdigit():
            raise LimitError(f'huge page limit: page size "{size}" is not like 2MB or 1GB', "see /sys/kernel/mm/hugepages")
        if not os.path.isdir(f"{group.sys}/kernel/mm/hugepages/hugepages-{int(str(size)[:-2]) * unit}kB"):
            raise Unsupported(
                f"huge page limit: this host has no pages of {size}", "see /sys/kernel/mm/hugepages for the sizes here"
            )
        out.append((str(size), number(entry, "limit", f"huge page limit of {size} pages", 0, (1 << 64) - 1) or 0))
    return out


def hugetlb(resources: dict, group: Group) -> list[Setting]:
    """limit_in_bytes of each page size, for pages in use and for reserved ones."""
    out = []
    for size, limit in page_sizes(resources, group):
        for file in (f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.rsvd.limit_in_bytes"):
            if "rsvd" not in file or group.has("hugetlb", file):
                out.append(
                    Setting(
                        "hugetlb",
                        file,
                        limit,
                        f"huge page limit of {size} pages",
                        "bytes of huge pages that it may use",
                        s.same_bytes,
                    )
                )
    return out


def network(resources: dict, group: Group) -> list[Setting]:
    """classID and priorities; v1 only."""
    section = resources.get("network") or {}
    out = []
    class_id = number(section, "classID", "network class", 0, (1 << 32) - 1)
    if class_id:
        out.append(Setting("net_cls", "net_cls.classid", class_id, "network class", "marks its packets for tc(8) and iptables"))
    for entry in section.get("priorities") or ():
        priority = number(entry, "priority", "network priority", 0, (1 << 32) - 1)
        out.append(
            Setting(
                "net_prio",
                "net_prio.ifpriomap",
                f"{entry['name']} {priority or 0}",
                "network priority",
                "the priority of its traffic on this interface",
                s.same_entry,
            )
        )
    return out


def rdma(resources: dict, group: Group) -> list[Setting]:
    """hcaHandles and hcaObjects by device; the same file in v1 and v2."""
    out = []
    for name, entry in (resources.get("rdma") or {}).items():
        words = [
            f"{word}={number(entry, key, 'RDMA limit', 0, (1 << 31) - 1)}"
            for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if entry.get(key) is not None
        ]
        if words:
            out.append(
                Setting(
                    "rdma",
                    "rdma.max",
                    f"{name} {' '.join(words)}",
                    "RDMA limit",
                    "handles and objects of this adapter",
                    s.same_entry,
                )
            )
    return out
