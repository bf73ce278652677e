"""When, where and how urgently a process runs, as ops: scheduler, ioPriority, CPU affinity, memoryPolicy, personality.

Sources: config.md "Linux Process", config-linux.md "Personality" and "Memory policy"; sched_setattr(2), ioprio_set(2),
set_mempolicy(2), personality(2).
"""

from __future__ import annotations

from struct import pack

from minicontainer.errors import UsageError
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob

POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
            "SCHED_DEADLINE": 6}  # fmt: skip
POLICY_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20, "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4, "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}

_ATTR_SIZE = 56  # SCHED_ATTR_SIZE_VER1, Linux 5.3
_WHO_PROCESS, _CLASS_SHIFT = 1, 13
_MOST_NUMBERS = 1 << 13  # CPUs or memory nodes: the kernel's own limit (CONFIG_NR_CPUS of x86)


def urgency(ops: Ops, process: dict) -> None:
    """scheduler and ioPriority."""
    asked = process.get("scheduler")
    if asked:
        flags = sum({POLICY_FLAGS[name] for name in asked.get("flags") or ()})
        times = [asked.get(name, 0) for name in ("runtime", "deadline", "period")]
        nice, priority = asked.get("nice", 0), asked.get("priority", 0)
        attr = pack("IIQiIQQQII", _ATTR_SIZE, POLICIES[asked["policy"]], flags, nice, priority, *times, 0, 0)
        text = ", ".join(f"{name}={value}" for name, value in asked.items())
        ops.call("sched_setattr", 0, Blob(attr, text), 0, why="how it is scheduled: asked for")
    asked = process.get("ioPriority")
    if asked:
        value = IO_CLASSES[asked["class"]] << _CLASS_SHIFT | asked.get("priority", 0)
        ops.call("ioprio_set", _WHO_PROCESS, 0, value, why=f"{asked['class']}, priority {asked.get('priority', 0)}: asked for")


def affinity(ops: Ops, cpus: str, *, why: str) -> None:
    """The CPUs that the process may run on, as a list like "0-3,7"."""
    mask = bits(cpus, "execCPUAffinity")
    ops.call("sched_setaffinity", 0, len(mask), Blob(mask, cpus), why=why)


def memory_policy(ops: Ops, linux: dict) -> None:
    """linux.memoryPolicy: which memory nodes give the process its memory."""
    asked = linux.get("memoryPolicy")
    if not asked:
        return
    mode = MEMORY_MODES[asked["mode"]] | sum({MEMORY_FLAGS[name] for name in asked.get("flags") or ()})
    nodes = (asked.get("nodes") or "").strip()
    mask = bits(nodes, "linux.memoryPolicy.nodes") if nodes else b""
    ops.call(
        "set_mempolicy",
        mode,
        Blob(mask, nodes) if mask else 0,
        8 * len(mask) + 1 if mask else 0,  # one more than there are bits (set_mempolicy(2), BUGS)
        why=f"{asked['mode']}: asked for",
    )


def personality(ops: Ops, linux: dict) -> None:
    """linux.personality: what uname(2) says, for programs of a 32-bit system."""
    asked = linux.get("personality")
    if asked:
        ops.call("personality", PERSONALITIES[asked["domain"]], why=f"execution domain {asked['domain']}: asked for")


def bits(numbers: str, field: str) -> bytes:
    """A list like "0-3,7" as a bit mask of whole 64-bit words. UsageError naming field for what is none."""
    mask = 0
    for part in numbers.replace("\n", "").split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
            raise UsageError(f'{field}: "{numbers}" is not a list of numbers', "write it like 0-3 or 0,2")
        low, high = int(ends[0]), int(ends[1])
        if not low <= high < _MOST_NUMBERS:
            raise UsageError(f'{field}: "{part}" is not a range of numbers below {_MOST_NUMBERS}')
        mask |= (1 << high + 1) - (1 << low)
    return mask.to_bytes(-(-max(1, mask.bit_length()) // 64) * 8, "little")
