"""A table-driven flag parser with the rules of docker's command line (spf13/pflag), without argparse's 6 ms.

A verb lists its flags as `Flag`s; `parse` reads arguments by that list and `help_text` prints the same
list, so the two cannot drift apart. The rules: `--flag value`, `--flag=value`, `-fvalue`, `-f=value`,
clusters of one-letter booleans (`-it`), `--flag=false` for booleans, repeated flags make lists, `--` ends
the flags, and with interspersed=False (run, exec) so does the first positional argument.
"""

from __future__ import annotations

from minicontainer.cli import FALSE, TRUE, Values
from minicontainer.engine.values import whole_number
from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

# Kinds whose flag may be given again and again; each value is appended.
REPEATED = frozenset(("list", "map", "mount", "network", "ulimit"))
_ZERO = {"bool": False, "int": 0}


class Flag:
    """One flag of a verb.

    name, short: without dashes. kind: the type shown by --help; one of "bool", "int", "string" or any other
    word with a parser of its own. default: what `Values` answers when the flag is not given. parse: str ->
    value, raises ValueError(reason). implied: the value of the flag given without one ("--explain");
    booleans have it by nature. same_as: the name of the flag this one is another spelling of. refused: why
    a flag that docker has is not here. Hidden flags (other spellings, refused ones) are not in the help.
    """

    __slots__ = ("default", "help", "implied", "kind", "name", "parse", "refused", "same_as", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        kind: str = "string",
        help: str = "",
        default: Any = None,
        *,
        parse: Callable[[str], Any] | None = None,
        implied: str = "",
        same_as: str = "",
        refused: str = "",
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        if default is None:
            default = () if kind in REPEATED else _ZERO.get(kind, "")
        self.default = default
        self.parse = parse or _PARSERS.get(kind, str)
        self.implied = "true" if kind == "bool" else implied
        self.same_as = same_as
        self.refused = refused

    @property
    def hidden(self) -> bool:
        return bool(self.same_as or self.refused)

    @property
    def label(self) -> str:
        """The flag as error messages name it: "-m, --memory"."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def parse(
    flags: Iterable[Flag], argv: Sequence[str], interspersed: bool = True, command: str = "minicontainer"
) -> tuple[Values, list[str]]:
    """Parse argv by a table of flags; return (values, positional arguments).

    command is the verb as typed, for "See 'minicontainer run --help'.". `--help` (and `-h`, where no flag
    has that letter) ends the parsing: values["help"] is True then, whatever follows. Raises UsageError:
    unknown flag, missing or bad value.
    """
    parser = _Parser(flags, command)
    return parser.values, parser.run(argv, interspersed)


class _Parser:
    __slots__ = ("command", "shorts", "table", "values")

    def __init__(self, flags: Iterable[Flag], command: str) -> None:
        self.table = {flag.name: flag for flag in flags}
        self.shorts = {flag.short: flag for flag in self.table.values() if flag.short}
        self.table.setdefault("help", _HELP)
        self.shorts.setdefault("h", _HELP)
        self.values = Values(self.table)
        self.command = command

    def run(self, argv: Sequence[str], interspersed: bool) -> list[str]:
        args: list[str] = []
        words = list(argv)
        words.reverse()  # a stack: the next word is the last
        while words and "help" not in self.values:
            word = words.pop()
            if word == "--":
                break
            if len(word) < 2 or word[0] != "-":
                args.append(word)
                if not interspersed:
                    break
            elif word[1] == "-":
                self._long(word, words)
            else:
                self._cluster(word, words)
        words.reverse()
        return args + words

    def _long(self, word: str, words: list[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}", self._help_hint())
        flag = self.table.get(name)
        if flag is None:
            raise UsageError(f"unknown flag: --{name}", self._unknown_hint(name))
        if not equals:
            if flag.implied:
                value = flag.implied
            elif words:
                value = words.pop()
            elif not flag.refused:
                raise UsageError(f"flag needs an argument: --{name}", self._help_hint())
        self._set(flag, value, word)

    def _cluster(self, word: str, words: list[str]) -> None:
        """`-it`, `-p80:80`, `-p 80:80`, `-p=80:80`: letters up to the first that takes a value."""
        letters = word[1:]
        while letters:
            flag = self.shorts.get(letters[0])
            if flag is None:
                raise UsageError(f"unknown shorthand flag: '{letters[0]}' in -{letters}", self._unknown_hint(word[1:]))
            rest = letters[1:]
            if rest.startswith("=") and len(rest) > 1:
                value, rest = rest[1:], ""
            elif flag.implied:
                value = flag.implied
            elif rest:
                value, rest = rest, ""
            elif words:
                value = words.pop()
            else:
                raise UsageError(f"flag needs an argument: '{flag.short}' in -{letters}", self._help_hint())
            self._set(flag, value, word)
            letters = rest

    def _set(self, flag: Flag, text: str, word: str) -> None:
        if flag.refused:
            raise UsageError(f"unknown flag: --{flag.name}", f"docker has it; minicontainer does not: {flag.refused}")
        try:
            value = flag.parse(text)
        except ValueError as reason:
            misspelt = word[1:].partition("=")[0]
            hint = f"did you mean --{misspelt}?" if misspelt in self.table else ""
            raise UsageError(f'invalid argument "{text}" for "{flag.label}" flag: {reason}', hint) from None
        name = flag.same_as or flag.name
        if flag.kind in REPEATED:
            self.values.setdefault(name, []).append(value)
        else:
            self.values[name] = value

    def _help_hint(self) -> str:
        return f"See '{self.command} --help'."

    def _unknown_hint(self, given: str) -> str:
        from difflib import get_close_matches  # costs milliseconds: only once something is wrong

        name = given.partition("=")[0]
        known = [flag.name for flag in self.table.values() if not flag.hidden]
        close = [name] if name in self.table else get_close_matches(name, known, 1, 0.7)
        return (f"did you mean --{close[0]}? " if close else "") + self._help_hint()


def help_text(usage: str, summary: str, flags: Iterable[Flag], width: int = 80) -> str:
    """The text of --help in docker's layout.

    Usage: after "Usage:  "; width: columns of the terminal, 0 for no wrapping.
    """
    shown = sorted((flag for flag in flags if not flag.hidden), key=lambda flag: flag.name)
    text = f"Usage:  {usage}\n\n{summary}\n"
    if not shown:
        return text
    heads = [_help_head(flag) for flag in shown]
    column = max(map(len, heads)) + 3
    lines = []
    for flag, head in zip(shown, heads, strict=True):
        body = _wrap(flag.help + _shown_default(flag), width - column if width else 0)
        lines.append(head.ljust(column) + ("\n" + " " * column).join(body))
    return text + "\nOptions:\n" + "\n".join(lines) + "\n"


def _help_head(flag: Flag) -> str:
    head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
    if flag.kind != "bool":
        head += " " + flag.kind
        if flag.implied:
            head += f'[="{flag.implied}"]'
    return head


def _shown_default(flag: Flag) -> str:
    if not flag.default:
        return ""
    return f' (default "{flag.default}")' if isinstance(flag.default, str) else f" (default {str(flag.default).lower()})"


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most width columns, broken at spaces.

    Line breaks in the text stay. Under 24 columns nothing is wrapped.
    """
    if width < 24:
        return text.split("\n")
    lines = []
    for paragraph in text.split("\n"):
        while len(paragraph) > width:
            cut = paragraph.rfind(" ", 0, width + 1)
            if cut <= 0:
                break
            lines.append(paragraph[:cut])
            paragraph = paragraph[cut + 1 :]
        lines.append(paragraph)
    return lines


def _bool(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError("must be true or false")


_PARSERS: dict[str, Callable[[str], Any]] = {"bool": _bool, "int": whole_number}
_HELP = Flag("help", kind="bool", help="Print usage")
