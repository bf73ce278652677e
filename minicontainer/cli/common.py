"""What several verbs need: help, the rule for root, argv of the clean-up, ages and sizes in docker's words."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.flags import help_text
from minicontainer.engine.config import Config
from minicontainer.errors import MinicontainerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from minicontainer.cli.flags import Flag


def helped(values: dict, usage: str, summary: str, flags: Iterable[Flag]) -> bool:
    """Prints the help of a verb if it was asked for."""
    if not values.get("help"):
        return False
    width = os.get_terminal_size().columns if os.isatty(1) else 0
    print(help_text(usage, summary, flags, width), end="")
    return True


def root_needed() -> None:
    """Refuses early and clearly what takes root."""
    if os.geteuid() != 0:
        raise UsageError("minicontainer needs root to make namespaces, mounts and cgroups", "run it as `sudo minicontainer …`")


def launcher(config: Config, ident: str) -> list[str]:
    """argv of the command that cleans up after a container: this program, by the same interpreter and paths."""
    return [*program(), *config.flags(), "_ended", ident]


def program() -> list[str]:
    """argv[0…] that runs this program again."""
    return [sys.executable, "-IS", os.path.abspath(sys.argv[0])]


def at_least(args: Sequence[str], count: int, verb: str) -> None:
    """docker's words for missing arguments."""
    if len(args) < count:
        plural = "" if count == 1 else "s"
        raise UsageError(
            f'"minicontainer {verb}" requires at least {count} argument{plural}.', f"See 'minicontainer {verb} --help'."
        )


def for_each(names: Sequence[str], act: Callable[[str], object]) -> int:
    """Does something for each name and prints it; what fails is told and the others go on. Exit code 1 if any failed."""
    code = 0
    for name in names:
        try:
            act(name)
        except MinicontainerError as e:
            print(f"Error response: {e.message}" + (f"\n{e.hint}" if e.hint else ""), file=sys.stderr)
            code = 1
        else:
            print(name)
    return code


def age(seconds: float) -> str:
    """docker's HumanDuration: "Less than a second", "5 seconds", "About a minute", "3 hours" …"""
    seconds = int(seconds)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes, hours = seconds // 60, (seconds + 1800) // 3600
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, size in (
        (48, "hours", 1),
        (24 * 14, "days", 24),
        (24 * 60, "weeks", 24 * 7),
        (24 * 365 * 2, "months", 24 * 30),
    ):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // 24 // 365} years"


def size(count: float) -> str:
    """docker's decimal sizes: 1.23MB."""
    return _scaled(count, 1000, ["B", "kB", "MB", "GB", "TB"])


def binary_size(count: float) -> str:
    """docker's binary sizes: 1.5MiB."""
    return _scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])


def _scaled(count: float, step: int, units: list[str]) -> str:
    while count >= step and len(units) > 1:
        count /= step
        del units[0]
    return f"{count:.4g}{units[0]}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as docker prints them: three spaces between, as wide as the widest."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("   ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() + "\n" for row in rows)
