"""Ops that make a group in a tree: folders, cpusets that are not empty, controllers handed down on v2."""

from __future__ import annotations

import os
from errno import EEXIST

from minicontainer.cgroup import tree
from minicontainer.cgroup.paths import DEFAULT_PARENT
from minicontainer.errors import Conflict, Unsupported
from minicontainer.stub.ops import Op, mkdir, syscall, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroup.hierarchy import Hierarchy
    from minicontainer.cgroup.settings import Setting

_AT_FDCWD = -100
_AT_REMOVEDIR = 0x200
_REALTIME = {"cpu.rt_runtime_us": 0, "cpu.rt_period_us": 1_000_000}  # as a new group has them
# Controllers that count by thread, and so work in a threaded group (cgroup-v2.rst, "Threads").
_THREADED = frozenset(("cpu", "cpuset", "pids", "perf_event"))


def ancestors(base: str, path: str) -> list[str]:
    """The groups between the tree's root at base and the group at path, the outermost first."""
    names = path.split("/")[1:]
    return [base + "/" + "/".join(names[:n]) for n in range(1, len(names))]


def existing_ops(paths: list[str], frozen: Callable[[], bool]) -> list[Op]:
    """rmdir of what is below groups that are there already, after a look whether they are fit for a new container.

    Conflict in runc's words if processes are in one, or if it is frozen: the container would share or stop another's.
    """
    ops: list[Op] = []
    found = [path for path in paths if os.path.exists(path)]
    if not found:
        return ops
    for path in found:
        left = tree.pids(path)
        if left:
            raise Conflict(
                f"container's cgroup is not empty: {len(left)} process(es) found", f"choose another name or cgroup path than {path}"
            )
        for group in tree.groups(path)[:-1]:
            ops.append(syscall("unlinkat", _AT_FDCWD, group, _AT_REMOVEDIR, why="an empty group that a crash left behind"))
        handed = tree.read(f"{path}/cgroup.subtree_control").split()
        if handed:
            text = " ".join(f"-{c}" for c in handed)
            why = "a group that hands controllers down takes no processes"
            ops.append(write_file(f"{path}/cgroup.subtree_control", text, why=why))
    if frozen():
        raise Conflict("container's cgroup unexpectedly frozen", f"choose another cgroup path than {found[0]}, or thaw it")
    return ops


def mkdir_ops(base: str, path: str) -> list[Op]:
    """The group and its parents, where they are missing."""
    ops = [
        mkdir(at, ok=(EEXIST,), why="a parent of the container's group") for at in ancestors(base, path) if not os.path.exists(at)
    ]
    if not os.path.exists(base + path):
        ops.append(mkdir(base + path, why="the container's group in this hierarchy"))
    return ops


def cpuset_ops(base: str, path: str, asked: set[str]) -> list[Op]:
    """A v1 group has no CPUs and no memory nodes until it is given some, and nothing can enter it before (cpusets.rst)."""
    ops = []
    above = ancestors(base, path)
    for file in ("cpuset.cpus", "cpuset.mems"):
        value = tree.read(f"{above[-1]}/{file}").strip() if above else ""
        if not value:
            value = tree.read(f"{base}/{file}").strip()
            for at in above:
                here = tree.read(f"{at}/{file}").strip()
                if not here:
                    ops.append(write_file(f"{at}/{file}", value, why="a new cpuset is empty: it gets its parent's"))
                value = here or value
        if file not in asked and not tree.read(f"{base}{path}/{file}").strip():
            why = "a new cpuset is empty: it gets its parent's, or nothing can enter"
            ops.append(write_file(f"{base}{path}/{file}", value, why=why))
    return ops


def realtime_ops(base: str, path: str, asked: list[Setting]) -> list[Op]:
    """On v1 a group gives only the realtime CPU time that it was given: parents that are new, or ours, get what this one asks for.

    It is added to what the groups beside it have (scheduler/sched-rt-group.rst). Other parents are their owners' to set.
    """
    own = {setting.file: int(setting.value) for setting in asked if setting.file in _REALTIME}
    runtime, period = (own.get(file, default) for file, default in _REALTIME.items())
    ops: list[Op] = []
    if runtime <= 0:
        return ops
    above = ancestors(base, path)
    for at, below in zip(above, (*above[1:], base + path)):
        if os.path.exists(at) and at != f"{base}/{DEFAULT_PARENT}":
            continue
        whole = _realtime(at)["cpu.rt_period_us"]
        beside = [other for other in tree.groups_in(at) if other != below] if os.path.exists(at) else []
        shares = [(runtime, period), *(tuple(_realtime(other).values()) for other in beside)]
        needed = sum(-(-us * whole // each) for us, each in shares)
        if needed > _realtime(at)["cpu.rt_runtime_us"]:
            why = "realtime CPU time for the container, and for those beside it"
            ops.append(write_file(f"{at}/cpu.rt_runtime_us", str(needed), why=why))
    return ops


def _realtime(group: str) -> dict[str, int]:
    """A group's realtime CPU time and its period in µs; those of a new one if it is not there."""
    return {file: int(tree.read(f"{group}/{file}") or default) for file, default in _REALTIME.items()}


def controller_ops(h: Hierarchy, path: str, asked: list[Setting]) -> list[Op]:
    """Hands the controllers that are needed down the v2 tree, from its root to the group; all on pure v2, for accounting."""
    base = h.unified or ""
    named = {setting.controller for setting in asked} - h.mounts.keys()
    wanted = h.unified_controllers if h.mode == "v2" else h.unified_controllers & named
    ops = []
    for at in (base, *ancestors(base, path)):
        file = f"{at}/cgroup.subtree_control"
        missing = wanted - set(tree.read(file).split())
        if missing and os.path.exists(file) and not os.access(file, os.W_OK):
            if missing & named:
                raise Unsupported(
                    f"cgroup v2: {at} does not hand {' '.join(sorted(missing & named))} down, and only its owner may change that",
                    "have the controllers delegated too: Delegate=yes in the unit, or +NAME in cgroup.subtree_control",
                )
            wanted -= missing  # without root: what was delegated to us is what there is
        elif missing:
            _check_can_hand_down(at, missing)
            text = " ".join(f"+{c}" for c in sorted(missing))
            ops.append(write_file(file, text, why="hands these controllers down to the groups below"))
    return ops


def _check_can_hand_down(at: str, missing: set[str] | frozenset[str]) -> None:
    """v2: a group has either processes or controllers for the groups below it (cgroup-v2.rst, "No Internal Process Constraint")."""
    kind = tree.read(f"{at}/cgroup.type").strip()
    if not kind:
        return  # a real root has no cgroup.type, and is exempt; or there is no such group yet
    if kind != "domain" and missing - _THREADED:
        raise Unsupported(
            f"cgroup v2 can't hand {' '.join(sorted(missing - _THREADED))} down from {at}: it is in {kind} mode",
            "choose another cgroup path: threads of one process are spread over groups there",
        )
    if tree.read(f"{at}/cgroup.procs"):
        raise Unsupported(
            f"cgroup v2 can't hand controllers down from {at}: processes are in that group itself",
            "choose another cgroup parent, or move these processes into a group below it",
        )
