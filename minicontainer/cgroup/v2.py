"""OCI resources as settings of cgroup v2 controllers.

Sources: runtime-spec config-linux.md; Documentation/admin-guide/cgroup-v2.rst. OCI speaks v1, so some values are converted;
each conversion says its source.
"""

from __future__ import annotations

from minicontainer.cgroup import settings as s
from minicontainer.cgroup import v1
from minicontainer.cgroup.settings import PAGE_BYTES, Group, Setting, need, number
from minicontainer.errors import LimitError, Unsupported

_MEMORY = "memory limit (--memory)"
_SWAP = "memory and swap limit (--memory-swap)"


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1 to 10000) of cpu.shares (2 to 262144): a curve through the ends and the defaults, 1024 and 100.

    10^((x² + 125x)/612 - 7/34) for x = log2(shares), rounded up: opencontainers/cgroups pull request 20, in runc since
    1.3.2; containers/crun pull request 1767, since 1.23. Older ones draw a line, on which 1024 becomes 39.
    """
    from math import ceil, log2

    x = log2(shares)
    return ceil(round(10 ** ((x * x + 125 * x) / 612 - 7 / 34), 9))


def io_weight(weight: int) -> int:
    """io.weight (1 to 10000) of blkio.weight (10 to 1000), on a line: crun.1.md, "cgroup v2"; runc does the same."""
    return 1 + (weight - 10) * 9999 // 990


def limit_text(value: int) -> str:
    """-1 is "max"."""
    return "max" if value < 0 else str(value)


def memory(resources: dict, group: Group) -> list[Setting]:
    """limit, swap (memory + swap in OCI, swap alone in v2), reservation; swappiness and disableOOMKiller have no v2 form."""
    section = resources.get("memory") or {}
    limit, swap = number(section, "limit", _MEMORY), number(section, "swap", _SWAP)
    if (number(section, "swappiness", "swappiness (--memory-swappiness)") or 0) >= 0 and section.get("swappiness") is not None:
        raise Unsupported(
            "swappiness (--memory-swappiness): cgroup v2 has no swappiness for a group",
            "leave it out; --memory-swap limits its swap",
        )
    if section.get("disableOOMKiller"):
        raise Unsupported("--oom-kill-disable: cgroup v2 can't switch the OOM killer off", "leave it out")
    if limit is not None and 0 < limit < PAGE_BYTES:
        raise LimitError(f"{_MEMORY}: {limit} bytes are less than a page of {PAGE_BYTES}", "give some MiB")
    out = []
    if limit:
        if section.get("checkBeforeUpdate"):
            _check_usage(limit, group)
        out.append(
            Setting(
                "memory",
                "memory.max",
                limit_text(limit),
                _MEMORY,
                "the kernel reclaims, then OOM-kills, above this many bytes",
                s.same_bytes,
            )
        )
    alone = _swap_alone(limit, swap, group)
    if alone is not None:
        need(group, "memory", "memory.swap.max", _SWAP, "the kernel needs CONFIG_SWAP and no swapaccount=0")
        out.append(
            Setting(
                "memory",
                "memory.swap.max",
                limit_text(alone),
                _SWAP,
                "bytes of swap it may use (asked for as memory and swap together)",
                s.same_bytes,
            )
        )
    reservation = number(section, "reservation", "memory reservation (--memory-reservation)")
    if reservation:
        out.append(
            Setting(
                "memory",
                "memory.low",
                limit_text(reservation),
                "memory reservation (--memory-reservation)",
                "below this many bytes its memory is reclaimed last",
                s.same_bytes,
            )
        )
    return out


def _check_usage(limit: int, group: Group) -> None:
    usage = group.current("memory", "memory.current").strip()
    if usage and 0 < limit < int(usage):
        raise LimitError(
            f"{_MEMORY}: {limit} bytes are less than what it uses now ({usage}), and checkBeforeUpdate is set",
            "free memory inside it first, or the kernel would OOM-kill",
        )


def _swap_alone(limit: int | None, swap: int | None, group: Group) -> int | None:
    """memory.swap.max of OCI's memory + swap: what is left of it after the memory limit. None if not asked for."""
    if not swap:
        return -1 if limit == -1 and group.has("memory", "memory.swap.max") else None
    if swap == -1:
        return -1
    if not limit:
        now = group.current("memory", "memory.max").strip()
        if not now.isdigit():
            raise LimitError(f"{_SWAP}: it counts memory and swap together, so it needs a memory limit", "give --memory too")
        limit = int(now)
    if limit < 0 or swap < limit:
        raise LimitError(
            f"{_SWAP}: {swap} bytes are less than the memory limit of {limit_text(limit)}",
            "it counts memory and swap together: give at least the memory limit",
        )
    return swap - limit


def cpu(resources: dict, group: Group) -> list[Setting]:
    """shares as a weight, quota and period in one file, burst, idle; v2 has no realtime files."""
    section = resources.get("cpu") or {}
    if number(section, "realtimeRuntime", "--cpu-rt-runtime") or number(section, "realtimePeriod", "--cpu-rt-period"):
        raise Unsupported("realtime CPU time (--cpu-rt-runtime): cgroup v2 has none", "leave it out")
    out: list[Setting] = []
    idle = number(section, "idle", "cpu idle", 0, 1)
    if idle is not None:
        need(group, "cpu", "cpu.idle", "cpu idle", "it came with Linux 5.15")
        out.append(Setting("cpu", "cpu.idle", idle, "cpu idle", "1: runs only when no other group wants the CPU"))
    shares = number(section, "shares", "CPU shares (--cpu-shares)", 0, 262144)
    if shares == 1:
        raise LimitError("CPU shares (--cpu-shares): 1 is out of range", "it may be 2 to 262144")
    if shares and not idle:  # an idle group has no weight
        out.append(
            Setting(
                "cpu",
                "cpu.weight",
                weight_of_shares(shares),
                f"CPU shares (--cpu-shares {shares}) as a weight",
                "its weight when CPUs are contended; 100 is an ordinary group's",
            )
        )
    return out + _bandwidth(section, group)


def _bandwidth(section: dict, group: Group) -> list[Setting]:
    quota, period, burst = v1.bandwidth_numbers(section)
    out = []
    if quota or period:
        now = group.current("cpu", "cpu.max").split() or ["max", "100000"]
        text = f"{limit_text(quota) if quota else now[0]} {period or now[1]}"
        out.append(
            Setting(
                "cpu",
                "cpu.max",
                text,
                "CPU quota and period (--cpus, --cpu-quota)",
                "µs of CPU time in each period of µs; beyond that it waits for the next (throttled)",
            )
        )
    if burst is not None:
        need(group, "cpu", "cpu.max.burst", "CPU burst", "it came with Linux 5.14")
        setting = Setting("cpu", "cpu.max.burst", burst, "CPU burst", "unused µs that it may save up and spend at once")
        old = group.current("cpu", "cpu.max.burst").strip()
        out.insert(0 if old and burst < int(old) else len(out), setting)  # burst <= quota, always
    return out


def cpuset(resources: dict, group: Group) -> list[Setting]:
    """cpus and mems. v2 would take a list outside the parent's and silently use the parent's instead: refused here."""
    section = resources.get("cpu") or {}
    out = []
    for key, file, limit, why in (
        ("cpus", "cpuset.cpus", "CPU set (--cpuset-cpus)", "it runs on these CPUs only"),
        ("mems", "cpuset.mems", "memory nodes (--cpuset-mems)", "its memory comes from these NUMA nodes only"),
    ):
        text = section.get(key)
        if text:
            s.check_cpuset(group, file, f"{file}.effective", text, limit)
            out.append(Setting("cpuset", file, text, limit, why, s.same_list, shown=f"{file}.effective"))
    return out


def io(resources: dict, group: Group) -> list[Setting]:
    """weight as io.bfq.weight (same range) or io.weight; throttles of one device in one line of io.max."""
    section = resources.get("blockIO") or {}
    weight, entries = v1.weights(section)
    out = []
    if weight or entries:
        out += _weights(weight, entries, group)
    by_device: dict[str, list[str]] = {}
    for key, _, word, flag, _ in v1.THROTTLES:
        for entry in section.get(key) or ():
            rate = number(entry, "rate", flag, 0)
            need(group, "io", "io.max", flag, "the kernel needs CONFIG_BLK_DEV_THROTTLING")
            by_device.setdefault(s.device(group, entry, flag), []).append(f"{word}={rate or 'max'}")
    for name, words in by_device.items():
        out.append(
            Setting(
                "io",
                "io.max",
                f"{name} {' '.join(words)}",
                "--device-{read,write}-{bps,iops}",
                "bytes and operations per second of this disk at most; the rest waits",
                s.same_entry,
            )
        )
    return out


def _weights(weight: int, entries: list[dict], group: Group) -> list[Setting]:
    bfq = group.has("io", "io.bfq.weight")
    file = "io.bfq.weight" if bfq else "io.weight"
    need(
        group,
        "io",
        file,
        "block IO weight (--blkio-weight)",
        "it needs the BFQ scheduler (modprobe bfq) or the iocost controller (CONFIG_BLK_CGROUP_IOCOST)",
    )
    out = []
    if weight:
        out.append(
            Setting(
                "io",
                file,
                weight if bfq else io_weight(weight),
                "block IO weight (--blkio-weight)",
                "its share of a contended disk; 100 is an ordinary group's",
                s.same_number,
            )
        )
    for entry in entries:
        value = entry["weight"] if bfq else io_weight(entry["weight"])
        out.append(
            Setting(
                "io",
                file,
                f"{s.device(group, entry, '--blkio-weight-device')} {value}",
                "--blkio-weight-device",
                "its share of this disk",
                s.same_entry,
            )
        )
    return out


def hugetlb(resources: dict, group: Group) -> list[Setting]:
    """max of each page size, for pages in use and for reserved ones."""
    out = []
    for size, limit in v1.page_sizes(resources, group):
        for file in (f"hugetlb.{size}.max", f"hugetlb.{size}.rsvd.max"):
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
    """v2 has no net_cls and net_prio."""
    section = resources.get("network") or {}
    if section.get("classID") or section.get("priorities"):
        raise Unsupported(
            "network class and priorities: this host has no net_cls and net_prio controllers",
            "mark the traffic with nftables (socket cgroupv2) instead",
        )
    return []


pids = v1.pids
rdma = v1.rdma

_WRITE_ONLY = frozenset(("cgroup.kill", "memory.reclaim"))


def unified(resources: dict, group: Group) -> list[Setting]:
    """`unified`: files of the v2 tree by name, written as they are, after everything else."""
    out = []
    for file, value in (resources.get("unified") or {}).items():
        controller, point, _ = file.partition(".")
        if not point or not controller or "/" in file or not file.isprintable():
            raise LimitError(f'unified: "{file}" is not a cgroup file', "name it as in /sys/fs/cgroup, like memory.high")
        if type(value) is not str:
            raise LimitError(f"unified: the value of {file} is not a string", f'write it like {{"{file}": "max"}}')
        if file in _WRITE_ONLY:
            raise LimitError(f"unified: {file} is an action, not a limit", "leave it out")
        need(group, controller, file, f"unified {file}", "see /sys/fs/cgroup of a group for the files there are")
        out.append(Setting(controller, file, value, f"unified {file}", "asked for as it is, by name", _same_unified))
    return out


def _same_unified(asked: str, got: str) -> bool:
    """Equal; or a size with K, M, G in bytes; or the first word, or a key's line, of what is there."""
    asked, got = asked.strip(), got.strip()
    scale = {"K": 10, "M": 20, "G": 30, "T": 40}.get(asked[-1:].upper())
    if scale and asked[:-1].isdigit():
        asked = str(int(asked[:-1]) << scale)
    if asked.split() == got.split() or asked == got.split(" ")[0] or s.same_number(asked, got):
        return True
    if asked.isdigit():
        return s.same_bytes(asked, got)
    if set(asked) <= set("0123456789,-"):
        return s.same_list(asked, got)
    return all(s.same_entry(line, got) for line in asked.splitlines())
