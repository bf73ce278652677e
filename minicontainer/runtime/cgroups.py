"""The cgroup of a container, with the hierarchies of this host looked up once."""

from __future__ import annotations

from minicontainer.cgroup import Cgroup, detect

_found: list = []


def hierarchy() -> object:
    """This host's cgroup hierarchies (cgroup.Hierarchy), detected once a process."""
    if not _found:
        _found.append(detect())
    return _found[0]


def cgroup_of(path: str) -> Cgroup:
    """The cgroup at path, in every hierarchy."""
    return Cgroup(hierarchy(), path)
