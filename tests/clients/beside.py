"""Comparing what two runtimes show: a transcript in sections, made alike where they must differ, and what is left.

A transcript is a dict from section name ("exit status", "mounts", …) to lines. What is different by nature (ids,
addresses, inode numbers, the directories that a side works in) is replaced by words first.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence

Transcript = dict[str, list[str]]

SECTION = re.compile(r"^== (.+)$")

ALIKE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(cgroup|ipc|mnt|net|pid|user|uts|time):\[\d+\]"), r"own \1 namespace"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short id>"),
    (re.compile(r",inode64\b"), ""),
    (re.compile(r" overlay (rw|ro),.*"), r" overlay \1,<layers>"),
    (re.compile(r"<directory>/(?:data|root)/containers/<id>/"), "<container>/"),
    (re.compile(r"<directory>/(?:data|root)/volumes/<id>/_data"), "<volume>"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "<mac>"),
    (re.compile(r"\b(?:172\.17\.0|10\.213\.70)\.1\b(?:/\d+)?"), "<gateway>"),
    (re.compile(r"\b(?:172\.17\.0\.0/16|10\.213\.70\.0/24)"), "<subnet>"),
    (re.compile(r"\b(?:172\.17\.255\.255|10\.213\.70\.255)\b"), "<broadcast>"),
    (re.compile(r"\b(?:172\.17\.\d+|10\.213\.70)\.\d+(?:/\d+)?"), "<address>"),
    (re.compile(r"\bfd00:213:70::[0-9a-f]+(?:/64)?"), "<address6>"),
)
"""What ids, namespaces that are the container's own, and addresses of either default bridge become."""


class Difference:
    """One thing that may differ from docker, and why.

    title: the line for the README; lines: (section, side, pattern) of the whole lines that only "docker" or only
    "ours" may have; cases: a pattern of the names of the cases in which it may; everywhere: False
    when it needs a machine of some kind (such as one whose soft limits are below the hard ones).
    """

    def __init__(self, title: str, *lines: tuple[str, str, str], cases: str = ".*", everywhere: bool = True) -> None:
        self.title = title
        self.lines = [(section, side, re.compile(pattern)) for section, side, pattern in lines]
        self.cases = re.compile(cases)
        self.everywhere = everywhere

    def explains(self, case: str, section: str, side: str, line: str) -> bool:
        return self.cases.fullmatch(case) is not None and any(
            (section, side) == where[:2] and where[2].fullmatch(line) for where in self.lines
        )


def transcript(done: subprocess.CompletedProcess[bytes], alike: Sequence[tuple[str, str]]) -> Transcript:
    """The sections of a command's output, and its exit status; output before the first section is "output".

    alike: pairs of a text of this side (a directory, the inode of a namespace) and the word that stands for it.
    """
    result: Transcript = {"exit status": [str(done.returncode)], "output": []}
    lines = result["output"]
    for raw in done.stdout.decode(errors="replace").splitlines():
        header = SECTION.match(raw)
        if header:
            lines = result.setdefault(header[1], [])
            continue
        lines.append(make_alike(raw.rstrip(), alike))
    return result


def make_alike(line: str, alike: Sequence[tuple[str, str]]) -> str:
    for text, word in alike:
        line = line.replace(text, word)
    for pattern, word in ALIKE:
        line = pattern.sub(word, line)
    return line


def differences(docker: Transcript, ours: Transcript) -> list[tuple[str, str, str]]:
    """(section, "docker" or "ours", line) for each line that only one of them has, and for order where that differs."""
    found = []
    for section in dict.fromkeys([*docker, *ours]):
        theirs, mine = docker.get(section, []), ours.get(section, [])
        only_docker, only_ours = without(theirs, mine), without(mine, theirs)
        found += [(section, "docker", line) for line in only_docker] + [(section, "ours", line) for line in only_ours]
        if not only_docker and not only_ours and theirs != mine:
            found += [(section, "docker", "order: " + " / ".join(theirs)), (section, "ours", "order: " + " / ".join(mine))]
    return found


def without(lines: Iterable[str], others: Iterable[str]) -> list[str]:
    """Those lines that are not among the others, each as often as it is there more."""
    rest = list(others)
    result = []
    for line in lines:
        if line in rest:
            rest.remove(line)
        else:
            result.append(line)
    return result


def namespace_words(pid: str, kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs for transcript(): the namespaces of a process on the host, each to "host's KIND namespace"."""
    return [(os.readlink(f"/proc/{pid}/ns/{kind}"), f"host's {kind} namespace") for kind in kinds]
