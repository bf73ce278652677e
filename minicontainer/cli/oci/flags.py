"""runc's command line rules: those of Go's package flag, and flags behind arguments, as urfave/cli sorts them.

`-flag` is `--flag`; `--flag=value` and `--flag value`; booleans take a value only by `=`; `--` ends the flags. docker's rules
(cli/flags.py: clusters of letters, `-fvalue`) are others. Errors are in the words of Go's package.
"""

from __future__ import annotations

from minicontainer.cli import FALSE, TRUE, Values
from minicontainer.cli.oci.log import quoted
from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ZERO = {"bool": False, "int": 0, "list": (), "ints": ()}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_SECONDS = (1 << 63) * 1e-9  # Go counts a duration's nanoseconds in an int64


class FlagError(UsageError):
    """A flag or the number of arguments is wrong: the help goes to stdout before the error is logged.

    heading: the line above the help.
    """

    def __init__(self, message: str, heading: str = "") -> None:
        super().__init__(message)
        self.heading = heading or f"Incorrect Usage: {message}"


class Flag:
    """name and short: without dashes; kind: bool, string, int, list, ints or duration (seconds, from Go's "1m30s"); help: for
    --help, "" hides it."""

    __slots__ = ("default", "help", "kind", "name", "short")

    def __init__(self, name: str, short: str = "", kind: str = "string", help: str = "", default: object = None) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.default = _ZERO.get(kind, "") if default is None else default


HELP = Flag("help", "h", "bool", "show help")


def parse(flags: tuple[Flag, ...], argv: list[str], *, interspersed: bool) -> tuple[Values, list[str]]:
    """(values, arguments). interspersed: flags may stand behind arguments. FlagError in Go's words."""
    table = {word: flag for flag in (*flags, HELP) for word in (flag.name, flag.short) if word}
    values = Values({flag.name: flag for flag in (*flags, HELP)})
    args: list[str] = []
    words = argv[::-1]  # a stack: the next word is the last
    while words:
        word = words.pop()
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-":
            args.append(word)
            if not interspersed:
                break
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {word}")
        flag = table.get(name)
        if flag is None and args:
            args.append(word)  # behind arguments only known flags are flags: `kill ID -9`
            continue
        if flag is None:
            raise FlagError(f"flag provided but not defined: -{name}")
        if not equals:
            if flag.kind == "bool":
                value = "true"
            elif words:
                value = words.pop()
            else:
                raise FlagError(f"flag needs an argument: -{name}")
        _set(values, flag, name, value)
    return values, args + words[::-1]


def _set(values: Values, flag: Flag, name: str, text: str) -> None:
    try:
        value = _PARSERS[flag.kind](text)
    except ValueError as e:
        what = "invalid boolean value" if flag.kind == "bool" else "invalid value"
        where = f"-{name}" if flag.kind == "bool" else f"flag -{name}"
        raise FlagError(f"{what} {quoted(text)} for {where}: {e}") from None
    if flag.kind in ("list", "ints"):
        values.setdefault(flag.name, []).append(value)
    else:
        values[flag.name] = value


def _bool(text: str) -> bool:
    if text not in TRUE and text not in FALSE:
        raise ValueError("parse error")
    return text in TRUE


def _int(text: str) -> int:
    """strconv.ParseInt with base 0: 0x1f, 0o17, 017 and 0b1 are numbers too."""
    try:
        octal = len(text.lstrip("+-")) > 1 and text.lstrip("+-").isdigit() and text.lstrip("+-")[0] == "0"
        value = int(text, 8 if octal else 0) if text == text.strip() else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError("parse error")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("value out of range")
    return value


def _each_int(text: str) -> int:
    try:
        return _int(text)
    except ValueError as e:
        reason = "value out of range" if str(e).startswith("value") else "invalid syntax"
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: {reason}") from None


def _duration(text: str) -> float:
    """Seconds of Go's time.ParseDuration: "1.5s", "1m30s", "100ms", "0"."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    seconds = 0.0
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        unit = next((u for u in ("ns", "us", "µs", "ms", "s", "m", "h") if rest[len(digits) :].startswith(u)), "")
        if not digits.strip(".") or digits.count(".") > 1 or not unit:
            raise ValueError("parse error")
        seconds += float(digits) * _SECONDS[unit]
        rest = rest[len(digits) + len(unit) :]
    if not text.strip("+-") or seconds >= _MOST_SECONDS:
        raise ValueError("parse error")
    return -seconds if text[0] == "-" else seconds


_PARSERS: dict[str, Callable[[str], Any]] = {
    "bool": _bool,
    "string": str,
    "int": _int,
    "list": str,
    "ints": _each_int,
    "duration": _duration,
}
