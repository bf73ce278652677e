"""Where a further process of a container enters: its group, or a group below it (`exec --cgroup`)."""

from __future__ import annotations

import os

from minicontainer.cgroup import tree
from minicontainer.errors import NotFound, UsageError
from minicontainer.stub.ops import Op, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroup.group import Cgroup


class Entrance:
    """The groups that a process of `exec` enters. unified_dir() and enter_ops() as of a Cgroup.

    wanted: arguments of --cgroup: "/sub", in every tree that has it, or "cpu,memory:/sub" for trees of cgroup v1; pid: the
    container's first process. UsageError in runc's words for an argument that is no such thing, NotFound for a group that is not
    there.
    """

    def __init__(self, cgroup: Cgroup, pid: int, wanted: list[str] | tuple[str, ...] = ()) -> None:
        self._v1 = {base: base + cgroup.path for base in dict.fromkeys(cgroup.hierarchy.mounts.values())}
        self._unified = cgroup.unified_dir()
        below = _sub_paths(wanted)
        for controller, path in below.items():
            if controller:
                if controller not in cgroup.hierarchy.mounts:
                    raise UsageError(f"unknown controller {controller} in --cgroup: this host has no such cgroup v1 hierarchy")
                base = cgroup.hierarchy.mounts[controller]
                self._v1[base] = _existing(base + cgroup.path, path)
            elif self._unified and not self._v1:
                self._unified = _existing(self._unified, path)
            else:
                self._everywhere(path)
        if self._unified and "" not in below and not self._v1:
            self._unified = _where_processes_may_be(cgroup, pid)

    def _everywhere(self, path: str) -> None:
        trees = [*self._v1.items(), *([("", self._unified)] if self._unified else ())]
        places = {base: _below(group, path) for base, group in trees}
        found = {base: below for base, below in places.items() if os.path.exists(f"{below}/cgroup.procs")}
        if not found:
            raise _missing(next(iter(places.values())))
        self._unified = found.pop("", self._unified)
        self._v1.update(found)

    def unified_dir(self) -> str | None:
        """The group in the v2 tree, for CLONE_INTO_CGROUP; None on pure v1."""
        return self._unified

    def enter_ops(self) -> list[Op]:
        """Ops by which the stub enters the v1 trees."""
        return [write_file(f"{path}/tasks", "0", why="enters the group, its one thread alone") for path in self._v1.values()]


def _sub_paths(wanted: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Path by controller, "" for the v2 tree."""
    out: dict[str, str] = {}
    for argument in wanted:
        controllers, colon, path = argument.partition(":")
        if not colon:
            if len(wanted) != 1:
                raise UsageError(f"invalid --cgroup argument: {argument} (missing <controller>: prefix)")
            return {"": argument}
        for controller in controllers.split(","):
            if not controller:
                raise UsageError(f"invalid --cgroup argument: {argument} (empty <controller> prefix)")
            if controller in out:
                raise UsageError(f"invalid --cgroup argument(s): controller {controller} specified multiple times")
            out[controller] = path
    return out


def _below(group: str, path: str) -> str:
    names = [name for name in path.split("/") if name and name != "."]
    if ".." in names:
        raise UsageError(f"bad sub cgroup path: {path} is not a sub cgroup path", "name a group below the container's")
    return "/".join([group, *names])


def _existing(group: str, path: str) -> str:
    below = _below(group, path)
    if not os.path.exists(f"{below}/cgroup.procs"):
        raise _missing(below)
    return below


def _missing(group: str) -> NotFound:
    return NotFound(
        f"adding pid {os.getpid()} to cgroups: open {group}/cgroup.procs: no such file or directory",
        "the container has to make it first",
    )


def _where_processes_may_be(cgroup: Cgroup, pid: int) -> str:
    """The container's group; but the first process' own, if the container has handed controllers down and moved into a group below.

    A group has either processes or controllers for those below it (cgroup-v2.rst, "No Internal Process Constraint"); systemd as
    a container's first process arranges itself so. runc and crun go to the first process' group too.
    """
    group = cgroup.unified_dir() or ""
    if not tree.read(f"{group}/cgroup.subtree_control").strip():
        return group
    for line in tree.read(f"/proc/{pid}/cgroup").splitlines():
        path = line.removeprefix("0::")
        if path != line and path.startswith(f"{cgroup.path}/") and "/../" not in path:
            return (cgroup.hierarchy.unified or "") + path
    return group
