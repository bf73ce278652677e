"""TAP, the Test Anything Protocol, as the three suites print it."""

from __future__ import annotations

import re

_LINE = re.compile(r"(ok|not ok) (\d+)(?: - | |$)(.*)")
_PLAN = re.compile(r"1\.\.(\d+)")
_SKIP = re.compile(r"# ?skip", re.IGNORECASE)
_TIME = re.compile(r"\s+# [\d.]+s$")


def read(text: str) -> tuple[list[tuple[str, str]], int]:
    """The assertions of a program's output.

    Args:
        text: what the program printed; lines that are not TAP are passed over.

    Returns:
        [(verdict, name), ...] with the verdicts "ok", "not ok" and "skip", and the number of assertions planned (-1: no plan).
    """
    found, planned = [], -1
    for line in text.splitlines():
        if match := _LINE.match(line):
            verdict, _, name = match.groups()
            found.append(("skip" if _SKIP.search(name) and verdict == "ok" else verdict, _TIME.sub("", name.strip())))
        elif match := _PLAN.match(line):
            planned = max(planned, int(match.group(1)))  # some end with "1..0" as well
    return found, planned
