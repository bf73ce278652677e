"""Which cgroup hierarchies this host has, and where they are mounted.

v1: one tree for each controller (or for a few together); v2: one tree for all; hybrid: the controllers in v1 trees,
and a v2 tree beside them that has accounting, freezing and killing, and whatever controllers no v1 tree took.
Sources: Documentation/admin-guide/cgroup-v1/cgroups.rst and cgroup-v2.rst; mountinfo is described in proc(5).
"""

from __future__ import annotations

import os

from minicontainer.errors import Unsupported

V1_CONTROLLERS = frozenset(
    "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio perf_event rdma misc".split()
)


class Hierarchy:
    """What detect() found.

    mode: "v1", "v2" or "hybrid"; mounts: mount point by v1 controller ("memory", "name=systemd");
    unified: mount point of the v2 tree, or None; unified_controllers: those the v2 tree can hand out;
    controllers: every controller of the host, whichever tree has it.
    """

    __slots__ = ("controllers", "mode", "mounts", "sys", "unified", "unified_controllers")

    def __init__(self, mounts: dict[str, str], unified: str | None, unified_controllers: frozenset[str], sys: str = "/sys") -> None:
        v1 = frozenset(mounts) & V1_CONTROLLERS
        self.mode = "v2" if not v1 else "hybrid" if unified else "v1"
        self.mounts = {} if self.mode == "v2" else mounts
        self.unified = unified
        self.unified_controllers = unified_controllers
        self.controllers = v1 | unified_controllers
        self.sys = sys

    def trees(self) -> list[str]:
        """The mount point of every tree, each once; the v2 one last."""
        return [*dict.fromkeys(self.mounts.values()), *([self.unified] if self.unified else ())]

    def version(self, v1_name: str, v2_name: str) -> int:
        """1 or 2: the kind of tree that has this controller; 0 when the host lacks it."""
        if v1_name in self.mounts:
            return 1
        return 2 if v2_name in self.unified_controllers else 0


def detect(cgroup_root: str = "/sys/fs/cgroup", proc: str = "/proc", sys: str = "/sys") -> Hierarchy:
    """The hierarchies mounted at or below cgroup_root. Unsupported if there are none.

    One read of mountinfo, and of cgroup.controllers where there is a v2 tree.
    """
    with open(f"{proc}/self/mountinfo", "rb", buffering=0) as f:
        text = f.readall()
    mounts: dict[str, str] = {}
    unified = None
    below = os.fsencode(cgroup_root.rstrip("/"))
    for line in text.splitlines():
        if b" - cgroup" not in line:
            continue
        left, _, right = line.partition(b" - ")
        where = left.split(b" ", 5)[4]
        fstype, _, rest = right.partition(b" ")
        if where != below and not where.startswith(below + b"/"):
            continue
        path = _unescape(where)
        if fstype == b"cgroup2":
            unified = unified or path
        elif fstype == b"cgroup":
            for option in rest.rpartition(b" ")[2].decode().split(","):
                if option in V1_CONTROLLERS or option.startswith("name="):
                    mounts.setdefault(option, path)
    if not mounts and not unified:
        raise Unsupported(f"no cgroup hierarchy is mounted below {cgroup_root}", f"mount -t cgroup2 cgroup2 {cgroup_root}")
    return Hierarchy(mounts, unified, _controllers(unified), sys)


def _controllers(unified: str | None) -> frozenset[str]:
    if unified is None:
        return frozenset()
    with open(f"{unified}/cgroup.controllers", "rb", buffering=0) as f:
        return frozenset(f.readall().decode().split())


def _unescape(path: bytes) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    if b"\\" not in path:
        return os.fsdecode(path)
    first, *rest = path.split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest))
