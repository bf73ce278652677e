"""OCI `memory` as settings of the memory controller of cgroup v1 or v2.

Sources: runtime-spec config-linux.md "Memory"; the kernel's cgroup-v1/memory.rst and cgroup-v2.rst.
OCI's `swap` is memory and swap together, as in v1; v2 counts swap alone.
"""

from __future__ import annotations

from minicontainer.cgroup.settings import PAGE_BYTES, Group, Setting, limit_text, need, number, same_bytes
from minicontainer.errors import LimitError, Unsupported

_LIMIT = "memory limit (--memory)"
_SWAP = "memory and swap limit (--memory-swap)"
_RESERVATION = "memory reservation (--memory-reservation)"
_SWAPPINESS = "swappiness (--memory-swappiness)"
_MEMSW = "memory.memsw.limit_in_bytes"
_TCP, _TCP_FILE = "limit of TCP buffers (kernelTCP)", "memory.kmem.tcp.limit_in_bytes"


def memory(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """limit, swap, reservation, kernelTCP, swappiness, disableOOMKiller, useHierarchy, checkBeforeUpdate. For kernel: ignored()."""
    section = resources.get("memory") or {}
    limit, swap = number(section, "limit", _LIMIT), number(section, "swap", _SWAP)
    if limit and swap and 0 < swap < limit:
        raise LimitError(
            f"{_SWAP}: {swap} bytes are less than the memory limit of {limit}",
            "it counts memory and swap together: give at least the memory limit",
        )
    if v2 and section.get("checkBeforeUpdate"):
        _check_usage(limit or 0, swap or 0, group)
    if limit and 0 < limit < PAGE_BYTES:
        raise LimitError(f"{_LIMIT}: {limit} bytes are less than a page of {PAGE_BYTES}", "give some MiB")
    out = (_limits_v2 if v2 else _limits_v1)(limit, swap, group)
    reservation = number(section, "reservation", _RESERVATION)
    if reservation and v2:
        why = "below this many bytes its memory is reclaimed last"
        out.append(Setting("memory", "memory.low", limit_text(reservation), _RESERVATION, why, same_bytes))
    elif reservation:
        why = "under memory pressure the kernel reclaims down to this first"
        out.append(Setting("memory", "memory.soft_limit_in_bytes", reservation, _RESERVATION, why, same_bytes))
    return out + (_only_v1_refused if v2 else _only_v1)(section, group)


def ignored(resources: dict) -> list[str]:
    """What is asked for and can't have an effect on any kernel of today, in words for a log: nothing is dropped silently.

    memory.kernel is not refused, since docker 20.10 and older configs send it; runc ignores it with a warning too. -1 (no
    limit) is how things are.
    """
    section = resources.get("memory") or {}
    out = []
    if (section.get("kernel") or -1) != -1:
        out.append("memory.kernel is ignored: since Linux 5.16 kernel memory counts in memory.limit only")
    if section.get("useHierarchy") is False:
        out.append("memory.useHierarchy: false is ignored: since Linux 5.11 memory is always counted with the groups below")
    cpu = resources.get("cpu") or {}
    if cpu.get("idle") == 1 and cpu.get("shares"):
        out.append("unable to apply both cpu.shares and cpu.idle: an idle group has no shares, so they are ignored")
    return out


def _limits_v1(limit: int | None, swap: int | None, group: Group) -> list[Setting]:
    """memory <= memory+swap holds at every moment, so the order depends on what is there now."""
    if limit == -1 and not swap and group.has("memory", _MEMSW):
        swap = -1  # no limit on memory alone means none on both together either
    if swap:
        need(group, "memory", _MEMSW, _SWAP, "boot with swapaccount=1, or ask for no swap limit")
    why = "the kernel reclaims, then OOM-kills, above this many bytes"
    memory_set = Setting("memory", "memory.limit_in_bytes", limit, _LIMIT, why, same_bytes)
    swap_set = Setting("memory", _MEMSW, swap, _SWAP, "memory and swap together stay below this many bytes", same_bytes)
    out = [setting for setting, asked in ((memory_set, limit), (swap_set, swap)) if asked]
    now = group.current("memory", _MEMSW).strip()
    if limit and now and (limit == -1 or limit > int(now)):
        if not swap:
            raise LimitError(
                f"{_LIMIT}: {limit} bytes are more than memory and swap together may be now ({now})",
                "raise --memory-swap with it",
            )
        out.reverse()
    return out


def _limits_v2(limit: int | None, swap: int | None, group: Group) -> list[Setting]:
    out = []
    if limit:
        why = "the kernel reclaims, then OOM-kills, above this many bytes"
        out.append(Setting("memory", "memory.max", limit_text(limit), _LIMIT, why, same_bytes))
    alone = _swap_alone(limit, swap, group)
    if alone is not None:
        need(group, "memory", "memory.swap.max", _SWAP, "the kernel needs CONFIG_SWAP and no swapaccount=0")
        why = "bytes of swap it may use (asked for as memory and swap together)"
        out.append(Setting("memory", "memory.swap.max", limit_text(alone), _SWAP, why, same_bytes))
    return out


def _swap_alone(limit: int | None, swap: int | None, group: Group) -> int | None:
    """memory.swap.max of OCI's memory + swap: what is left of it after the memory limit. None if there is nothing to set.

    Without a memory limit there is nothing to take away: then it is swap alone, as in runc (ConvertMemorySwapToCgroupV2Value).
    """
    if not swap or swap == -1:
        unlimited = swap == -1 or limit == -1
        return -1 if unlimited and group.has("memory", "memory.swap.max") else None
    if not limit:
        now = group.current("memory", "memory.max").strip()
        if not now:
            raise LimitError(f"{_SWAP}: it counts memory and swap together, so it needs a memory limit", "give --memory too")
        limit = -1 if now == "max" else int(now)
    if limit == -1:
        return swap
    if swap < limit:
        raise LimitError(
            f"{_SWAP}: {swap} bytes are less than the memory limit of {limit}",
            "it counts memory and swap together: give at least the memory limit",
        )
    return swap - limit


def _check_usage(limit: int, swap: int, group: Group) -> None:
    """v1 refuses a limit below what is used; v2 takes it and kills, so checkBeforeUpdate asks for the look first. runc's words."""
    usage = int(group.current("memory", "memory.current").strip() or 0)
    for name, value in (("memory+swap", swap), ("memory", limit)):
        if 0 < value <= usage:
            raise LimitError(
                f"rejecting {name} limit {value} <= usage {usage}", "free memory inside it first, or the kernel would OOM-kill"
            )


def _only_v1(section: dict, group: Group) -> list[Setting]:
    out = []
    tcp = number(section, "kernelTCP", _TCP)
    if tcp:
        need(group, "memory", _TCP_FILE, _TCP, "leave it out: the memory limit counts them too")
        out.append(Setting("memory", _TCP_FILE, tcp, _TCP, "buffers of TCP connections stay below this many bytes", same_bytes))
    swappiness = number(section, "swappiness", _SWAPPINESS, -1, 200)
    if swappiness is not None and swappiness >= 0:
        why = "0 keeps its memory out of swap, 100 treats memory and files alike"
        out.append(Setting("memory", "memory.swappiness", swappiness, _SWAPPINESS, why))
    disable = section.get("disableOOMKiller")
    if disable or (disable is False and "oom_kill_disable 1" in group.current("memory", "memory.oom_control")):
        why = "at its limit the container stops and waits, nothing is killed" if disable else "at its limit a process is killed"
        out.append(Setting("memory", "memory.oom_control", int(disable), "--oom-kill-disable", why, _oom_control))
    if section.get("useHierarchy"):
        why = "the groups below count in it (the only way since Linux 5.11)"
        out.append(Setting("memory", "memory.use_hierarchy", 1, "hierarchical memory accounting", why))
    return out


def _oom_control(asked: str, got: str) -> bool:
    return f"oom_kill_disable {asked}" in got


def _only_v1_refused(section: dict, group: Group) -> list[Setting]:
    """swappiness, disableOOMKiller and kernelTCP have no v2 form; hierarchical it always is."""
    if (number(section, "kernelTCP", _TCP) or -1) != -1:
        raise Unsupported(f"{_TCP}: cgroup v2 has none of its own for them", "leave it out: the memory limit counts them too")
    if (number(section, "swappiness", _SWAPPINESS, -1, 200) or 0) >= 0 and section.get("swappiness") is not None:
        raise Unsupported(f"{_SWAPPINESS}: cgroup v2 has no swappiness for a group", "leave it out; --memory-swap limits its swap")
    if section.get("disableOOMKiller"):
        raise Unsupported("--oom-kill-disable: cgroup v2 can't switch the OOM killer off", "leave it out")
    return []
