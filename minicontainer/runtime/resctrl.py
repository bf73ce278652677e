"""linux.intelRdt: the container's share of caches and memory bandwidth, by the kernel's resctrl file system (config-linux.md).

/sys/fs/resctrl/<closID or the container's id>/   schemata: what its members get; tasks: who they are
                .../mon_groups/<id>/              the same members, counted apart (enableMonitoring)
Source: Documentation/filesystems/resctrl.rst.
"""

from __future__ import annotations

import os

from minicontainer.errors import UsageError
from minicontainer.stub.ops import Op, mkdir, write_file


class Rdt:
    """What linux.intelRdt asks for. rdt: the spec's object; ident: the container's id; root: where resctrl is mounted.

    folders: those that are the container's own, the inner one first: who deletes it removes them.
    UsageError for a class that is not there, or is another one.
    """

    def __init__(self, rdt: dict, ident: str, root: str = "/sys/fs/resctrl") -> None:
        closid = rdt.get("closID") or ""
        asked = [rdt.get("l3CacheSchema"), rdt.get("memBwSchema"), *(rdt.get("schemata") or ())]
        self._lines = [line for line in asked if line]
        self._group = root if closid == "/" else f"{root}/{closid or ident}"
        there = os.path.isdir(self._group)
        if closid and not there and not self._lines:
            raise UsageError(f"linux.intelRdt.closID: there is no class {closid}", f"make {self._group}, or say what it is to get")
        if closid and there:
            self._compare(closid)
        self._make = not there
        self.folders = [] if closid else [self._group]
        self._monitor = f"{self._group}/mon_groups/{ident}" if rdt.get("enableMonitoring") else ""
        if self._monitor:
            self.folders.insert(0, self._monitor)

    def _compare(self, closid: str) -> None:
        """A class that is there must be as asked: it has other members."""
        if not self._lines:
            return
        with open(f"{self._group}/schemata") as f:
            there = {part for line in f for part in parts(line)}
        for line in self._lines:
            if not parts(line) <= there:
                raise UsageError(
                    f'linux.intelRdt: the class {closid} is there, and does not have "{line}"', f"see {self._group}/schemata"
                )

    def before(self) -> list[Op]:
        """Host ops before there is a process."""
        ops = []
        if self._make:
            ops.append(mkdir(self._group, why="a class of service of its own"))
            ops += [write_file(f"{self._group}/schemata", f"{line}\n", why="what its members get") for line in self._lines]
        if self._monitor:
            ops.append(mkdir(self._monitor, why="a group that is counted apart"))
        return ops

    def after(self, pid: int) -> list[Op]:
        """Host ops that make a process a member."""
        groups = [self._group, *([self._monitor] if self._monitor else ())]
        return [
            write_file(f"{group}/tasks", str(pid), why="the container is a member, with its children") for group in groups
        ]


def parts(line: str) -> set[tuple[str, str, int | str]]:
    """A line of schemata as (resource, domain, value): "L3:0=00ff;1=ff" and " L3:1=ff;0=ff" are the same."""
    resource, _, domains = line.strip().partition(":")
    base = 10 if "MB" in resource else 16
    found: set[tuple[str, str, int | str]] = set()
    for domain in filter(None, domains.split(";")):
        number, _, value = domain.partition("=")
        try:
            found.add((resource, str(int(number)), int(value, base)))
        except ValueError:
            found.add((resource, number.strip(), value.strip()))  # as a later kernel writes it
    return found


def remove(folders: list[str]) -> None:
    """Removes groups; what is gone is gone. OSError."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
