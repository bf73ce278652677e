"""OCI `cpu` as settings of the cpu and cpuset controllers of cgroup v1 or v2.

Sources: runtime-spec config-linux.md "CPU"; the kernel's scheduler/sched-bwc.rst, scheduler/sched-rt-group.rst,
cgroup-v1/cpusets.rst and cgroup-v2.rst.
"""

from __future__ import annotations

from minicontainer.cgroup.settings import Group, Setting, check_cpuset, limit_text, need, number, same_list
from minicontainer.errors import LimitError, Unsupported

_SHARES = "CPU shares (--cpu-shares)"
_QUOTA = "CPU quota (--cpus, --cpu-quota)"
_PERIOD = "CPU period (--cpu-period)"
_QUOTA_WHY = "µs of CPU time in each period; beyond that it waits for the next (throttled)"


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) of cpu.shares (2 to 262144): a curve through the ends and the defaults, 1024 and 100.

    10^((x² + 125x)/612 - 7/34) for x = log2(shares), rounded up: opencontainers/cgroups pull request 20, in runc since
    1.3.2; containers/crun pull request 1767, since 1.23. Older ones draw a line, on which 1024 becomes 39.
    """
    from math import ceil, log2

    x = log2(shares)
    return ceil(round(10 ** ((x * x + 125 * x) / 612 - 7 / 34), 9))


def cpu(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """shares (a weight in v2), quota, period, burst, idle; realtimeRuntime and realtimePeriod in v1 only."""
    section = resources.get("cpu") or {}
    out: list[Setting] = []
    idle = number(section, "idle", "cpu idle", 0, 1)
    if idle is not None:
        need(group, "cpu", "cpu.idle", "cpu idle", "it came with Linux 5.15")
        out.append(Setting("cpu", "cpu.idle", idle, "cpu idle", "1: runs only when no other group wants the CPU"))
    shares = number(section, "shares", _SHARES, 0, 262144)
    if shares == 1:
        raise LimitError(f"{_SHARES}: 1 is out of range", "it may be 2 to 262144")
    if shares and not idle:  # an idle group has no weight
        if v2:
            why = f"its weight when CPUs are contended, for {shares} shares; 100 is an ordinary group's"
            out.append(Setting("cpu", "cpu.weight", weight_of_shares(shares), _SHARES, why))
        else:
            why = "its weight when CPUs are contended; 1024 is an ordinary group's"
            out.append(Setting("cpu", "cpu.shares", shares, _SHARES, why))
    return out + _bandwidth(section, group, v2) + _realtime(section, group, v2)


def _bandwidth(section: dict, group: Group, v2: bool) -> list[Setting]:
    """quota, period and burst, all in µs, checked against what the kernel takes (sched-bwc.rst)."""
    quota = number(section, "quota", _QUOTA)
    period = number(section, "period", _PERIOD, 0)
    burst = number(section, "burst", "CPU burst", 0)
    if quota and 0 < quota < 1000:
        raise LimitError(f"{_QUOTA}: {quota} µs is less than 1 ms", "give at least 1000 µs, or --cpus 0.01")
    if period and not 1000 <= period <= 1000000:
        raise LimitError(f"{_PERIOD}: {period} µs is not between 1 ms and 1 s", "give 1000 to 1000000 µs")
    if burst and quota and 0 < quota < burst:
        raise LimitError(f"CPU burst: {burst} µs is more than the quota of {quota} µs", "give at most the quota")
    out = (_bandwidth_v2 if v2 else _bandwidth_v1)(quota or 0, period or 0, group)
    if burst is not None:
        file = "cpu.max.burst" if v2 else "cpu.cfs_burst_us"
        need(group, "cpu", file, "CPU burst", "it came with Linux 5.14")
        setting = Setting("cpu", file, burst, "CPU burst", "unused µs that it may save up and spend at once")
        old = group.current("cpu", file).strip()
        out.insert(0 if old and burst < int(old) else len(out), setting)  # burst <= quota, always
    return out


def _bandwidth_v1(quota: int, period: int, group: Group) -> list[Setting]:
    """The quotient of each step in between stays at or below the higher of old and new, as the parent's limit demands."""
    out = []
    if period:
        out.append(Setting("cpu", "cpu.cfs_period_us", period, _PERIOD, "the quota counts in periods of this many µs"))
    if quota:
        out.append(Setting("cpu", "cpu.cfs_quota_us", quota, _QUOTA, _QUOTA_WHY))
    old_period = group.current("cpu", "cpu.cfs_period_us").strip()
    if period and old_period and period < int(old_period):
        out.reverse()
    return out


def _bandwidth_v2(quota: int, period: int, group: Group) -> list[Setting]:
    """One file has both; what is not asked for stays."""
    if not quota and not period:
        return []
    now = group.current("cpu", "cpu.max").split() or ["max", "100000"]
    text = f"{limit_text(quota) if quota else now[0]} {period or now[1]}"
    return [Setting("cpu", "cpu.max", text, "CPU quota and period (--cpus, --cpu-quota)", _QUOTA_WHY)]


def _realtime(section: dict, group: Group, v2: bool) -> list[Setting]:
    period = number(section, "realtimePeriod", "--cpu-rt-period", 0)
    runtime = number(section, "realtimeRuntime", "--cpu-rt-runtime")
    if not period and not runtime:
        return []
    if v2:
        raise Unsupported("realtime CPU time (--cpu-rt-runtime): cgroup v2 has none", "leave it out")
    need(group, "cpu", "cpu.rt_runtime_us", "realtime CPU time (--cpu-rt-runtime)", "the kernel needs CONFIG_RT_GROUP_SCHED")
    out = []
    if period:
        out.append(Setting("cpu", "cpu.rt_period_us", period, "--cpu-rt-period", "the period of realtime tasks, µs"))
    if runtime:
        why = "µs that realtime tasks may run in each period"
        out.append(Setting("cpu", "cpu.rt_runtime_us", runtime, "--cpu-rt-runtime", why))
    old_period = group.current("cpu", "cpu.rt_period_us").strip()
    if period and old_period and period < int(old_period):
        out.reverse()  # the runtime is never more than the period
    return out


def cpuset(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """cpus and mems. v2 would take a list outside the parent's and silently use the parent's instead: refused here."""
    section = resources.get("cpu") or {}
    out = []
    for key, file, limit, why in (
        ("cpus", "cpuset.cpus", "CPU set (--cpuset-cpus)", "it runs on these CPUs only"),
        ("mems", "cpuset.mems", "memory nodes (--cpuset-mems)", "its memory comes from these NUMA nodes only"),
    ):
        text = section.get(key)
        if text:
            shown = f"{file}.effective" if v2 else file
            check_cpuset(group, file, shown, text, limit)
            out.append(Setting("cpuset", file, text, limit, why, same_list, shown=shown))
    return out
