"""One limit as data: the file, what is written into it, why, and how to tell that the kernel took it.

memory.py, cpu.py, blockio.py, others.py and devices.py turn OCI resources into lists of Setting; create, update and verify
are views of such a list.
"""

from __future__ import annotations

import os

from minicontainer.errors import LimitError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
# What memory.*_in_bytes shows for "no limit": PAGE_COUNTER_MAX pages (include/linux/page_counter.h).
_V1_UNLIMITED_BYTES = (1 << 63) // PAGE_BYTES * PAGE_BYTES - PAGE_BYTES


class Setting:
    """One value for one file of one controller.

    limit: the name people know, with its flag; same(asked, got): whether the text read back is the value written;
    shown: the file that it is read back from, where that is another one.
    """

    __slots__ = ("controller", "file", "limit", "same", "shown", "value", "why")

    def __init__(
        self,
        controller: str,
        file: str,
        value: object,
        limit: str,
        why: str,
        same: Callable[[str, str], bool] | None = None,
        shown: str = "",
    ) -> None:
        self.controller = controller
        self.file = file
        self.value = str(value)
        self.limit = limit
        self.why = why
        self.same = same or same_text
        self.shown = shown or file


class Group:
    """What these modules may ask about the group they write settings for; Cgroup is the real one.

    current(controller, file): the text of a file of the group as it is now, "" if the group is not made yet.
    parent(controller, file): the same of its nearest ancestor that has the file, "" if none has.
    has(controller, file): whether groups of this controller have such a file (a kernel option may be off).
    known(controller), is_v1(controller): whether any tree has this controller, whether a v1 tree has it.
    """

    sys = "/sys"

    def current(self, controller: str, file: str) -> str:
        raise NotImplementedError

    def parent(self, controller: str, file: str) -> str:
        raise NotImplementedError

    def has(self, controller: str, file: str) -> bool:
        raise NotImplementedError

    def known(self, controller: str) -> bool:
        raise NotImplementedError

    def is_v1(self, controller: str) -> bool:
        raise NotImplementedError


def number(section: dict, key: str, limit: str, low: int = -1, high: int = (1 << 63) - 1) -> int | None:
    """section[key] as an int from low to high, None if absent or null. LimitError otherwise."""
    value = section.get(key)
    if value is None:
        return None
    if type(value) is not int:
        raise LimitError(f"{limit}: {value!r} is not a whole number", f"{key} is a number in config.json")
    if not low <= value <= high:
        raise LimitError(f"{limit}: {value} is out of range", f"it may be {low} to {high}")
    return value


def need(group: Group, controller: str, file: str, limit: str, hint: str) -> None:
    """Unsupported unless groups of this controller have the file."""
    if not group.has(controller, file):
        raise Unsupported(f"{limit}: this kernel has no {file}", hint)


def cpu_numbers(text: str, limit: str) -> set[int]:
    """The numbers of a list as cpuset(7) writes it: "0-2,7" is {0, 1, 2, 7}."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 5 or len(last) > 5:
            raise LimitError(f'{limit}: "{text}" is not a list of numbers', "write it like 0-3 or 0,2")
        if dash and int(last) < int(first):
            raise LimitError(f'{limit}: "{part}" runs backwards', f"write {last}-{first}")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def check_cpuset(group: Group, file: str, effective: str, text: str, limit: str) -> None:
    """LimitError unless the list lies within what the parent may use."""
    available = group.parent("cpuset", effective).strip()
    if available:
        missing = cpu_numbers(text, limit) - cpu_numbers(available, limit)
        if missing:
            raise LimitError(
                f'{limit}: asked for "{text}", but only {available} can be used here (not {min(missing)})',
                f"choose from {available}; see {file} of the parent cgroup",
            )


def limit_text(value: int) -> str:
    """As v2 writes a limit: -1 is "max"."""
    return "max" if value < 0 else str(value)


def same_text(asked: str, got: str) -> bool:
    """The very same words."""
    return asked.split() == got.split()


def same_bytes(asked: str, got: str) -> bool:
    """Bytes, which the kernel rounds down to whole pages; "max" and -1 are no limit."""
    got = got.strip()
    if asked in ("-1", "max"):
        return got == "max" or (got.isdecimal() and int(got) >= _V1_UNLIMITED_BYTES)
    if got == "max" or not got.isdecimal():
        return False
    if int(asked) >= _V1_UNLIMITED_BYTES:
        return int(got) >= _V1_UNLIMITED_BYTES
    return int(got) == int(asked) // PAGE_BYTES * PAGE_BYTES


def same_list(asked: str, got: str) -> bool:
    """The same set of numbers: "0,1" reads back as "0-1"."""
    return bool(got.strip()) and cpu_numbers(asked, "") == cpu_numbers(got, "")


def same_number(asked: str, got: str) -> bool:
    """A number that may have "default " before it (io.bfq.weight)."""
    return got.strip().removeprefix("default ").split("\n")[0] == asked


def same_entry(asked: str, got: str) -> bool:
    """A line "KEY VALUE" or "KEY a=1 b=2" among the lines; a value of 0 or max means that the line may be missing."""
    key, *words = asked.split()
    for line in got.splitlines():
        name, *found = line.split()
        if name == key:
            return all(word in found for word in words)
    return all(word.rpartition("=")[2] in ("0", "max") for word in words)
