"""The cgroup of a container, with the hierarchies of this host looked up once."""

from __future__ import annotations

from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy, detect

_found: list[Hierarchy] = []


def hierarchy() -> Hierarchy:
    """This host's cgroup hierarchies (cgroup.Hierarchy), detected once a process."""
    if not _found:
        _found.append(detect())
    return _found[0]


def cgroup_of(path: str) -> Cgroup:
    """The cgroup at path, in every hierarchy."""
    return Cgroup(hierarchy(), path)


def oom_file(cgroup: Cgroup) -> str:
    """The file in which the kernel counts the group's OOM kills; "" if the host has no memory controller."""
    version = hierarchy().version("memory", "memory")
    return f"{cgroup.directory('memory')}/{'memory.oom_control' if version == 1 else 'memory.events'}" if version else ""
