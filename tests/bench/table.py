"""The table that `make bench` prints, and the same as JSON."""

from __future__ import annotations

import os
import platform
import time


class Row:
    """One line: a figure that must be at most `must` and should be at most `aim`.

    what: says what was measured; ours, peer: the two figures as text with their units; value: what is compared, a
    ratio when unit is empty; also: a further condition for the aim (such as "below crun's, too").
    """

    __slots__ = ("aim", "also", "must", "ours", "peer", "unit", "value", "what")

    def __init__(
        self,
        what: str,
        *,
        ours: str,
        peer: str,
        value: float,
        must: float,
        aim: float,
        unit: str = "",
        also: bool = True,
    ) -> None:
        self.what = what
        self.ours = ours
        self.peer = peer
        self.value = value
        self.unit = unit
        self.must = must
        self.aim = aim
        self.also = also

    @property
    def met(self) -> str:
        """ "aim", "must" or "NO"."""
        if self.value <= self.aim and self.also:
            return "aim"
        return "must" if self.value <= self.must else "NO"

    def cells(self) -> list[str]:
        suffix = f" {self.unit}" if self.unit else ""
        ratio = f"{self.value:.2f}{suffix}"
        return [self.what, self.ours, self.peer, ratio, f"≤ {self.must}{suffix}", f"≤ {self.aim}{suffix}", self.met]

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__} | {"met": self.met}


HEADER = ["what", "ours", "peer", "ratio", "must", "aim", "met"]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def markdown(rows: list[Row]) -> str:
    """The rows as a table that reads well in a terminal and in the README."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    padded = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(f"| {line} |" for line in padded)


def machine() -> str:
    """When and where the figures were taken, in a line."""
    with open("/proc/cpuinfo") as file:
        models = {line.split(":", 1)[1].strip() for line in file if line.startswith("model name")}
    cpus = os.cpu_count()
    load = os.getloadavg()[0]
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return f"{date} UTC, {cpus} x {', '.join(sorted(models))}, Linux {platform.release()}, load {load:.1f}"
