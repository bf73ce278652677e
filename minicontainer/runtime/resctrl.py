"""linux.intelRdt: the container's share of caches and memory bandwidth, by the kernel's resctrl file system (config-linux.md).

/sys/fs/resctrl/<closID or the container's id>/   schemata: what its members get; tasks: who they are
                .../mon_groups/<id>/              the same members, counted apart (enableMonitoring)
Source: Documentation/filesystems/resctrl.rst.
"""

from __future__ import annotations

import os

from minicontainer.errors import LimitError, UsageError
from minicontainer.stub.ops import Op, mkdir, write_file

ROOT = "/sys/fs/resctrl"
# Field: its folder in info/, there if the machine and the kernel have it, and runc's words.
_KINDS = {"l3CacheSchema": ("L3", "CAT: l3 cache"), "memBwSchema": ("MB", "MBA: memory bandwidth")}


def group_of(rdt: dict, ident: str, root: str = ROOT) -> str:
    """The folder of the class that a container is in."""
    closid = rdt.get("closID") or ""
    return root if closid == "/" else f"{root}/{closid or ident}"


class Rdt:
    """What linux.intelRdt asks for. rdt: the spec's object; ident: the container's id; root: where resctrl is mounted.

    folders: those that are the container's own, the inner one first: who deletes it removes them.
    UsageError for a class that is not there, or is another one.
    """

    def __init__(self, rdt: dict, ident: str, root: str = ROOT) -> None:
        closid = rdt.get("closID") or ""
        asked = [rdt.get("l3CacheSchema"), rdt.get("memBwSchema"), *(rdt.get("schemata") or ())]
        self._lines = [line for line in asked if line]
        self._group = group_of(rdt, ident, root)
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
        return [write_file(f"{group}/tasks", str(pid), why="the container is a member, with its children") for group in groups]


def change(rdt: dict | None, ident: str, asked: dict, root: str = ROOT) -> dict:
    """Gives the class of a container other shares; returns what it had, in the same form, for another call.

    rdt: its linux.intelRdt; asked: l3CacheSchema and memBwSchema, or one of them. UsageError in runc's words where there is no such
    resource or class; LimitError with the kernel's own explanation.
    """
    for field in asked:
        folder, words = _KINDS[field]
        if not os.path.isdir(f"{root}/info/{folder}"):
            raise UsageError(f"Intel RDT/{words} schema is not enabled", f"there is no {root}/info/{folder}")
    if rdt is None:
        raise UsageError("updating a non-existent Intel RDT configuration is not supported", "give linux.intelRdt at create")
    file = f"{group_of(rdt, ident, root)}/schemata"
    with open(file) as f:
        lines = {line.partition(":")[0].strip(): line.strip() for line in f}
    had: dict = {}
    for field, line in asked.items():
        try:
            with open(file, "w") as f:
                f.write(f"{line}\n")
        except OSError as e:
            with open(f"{root}/info/last_cmd_status") as f:
                status = f.read().strip()
            change(rdt, ident, had, root)
            raise LimitError(
                f'intelrdt: unable to write "{line}": {e.strerror}, last_cmd_status: {status}', f"see {file}"
            ) from None
        if _KINDS[field][0] in lines:
            had[field] = lines[_KINDS[field][0]]
    return had


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
