"""Log lines in the shape of logrus, which runc writes and its callers read (github.com/sirupsen/logrus).

As text   time="2026-11-21T03:12:40Z" level=error msg="container does not exist"
as JSON   {"level":"error","msg":"container does not exist","time":"2026-11-21T03:12:40Z"}
"""

from __future__ import annotations

import posix

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")
_COLOURS = {"error": 31, "warning": 33, "info": 36, "debug": 37}


class Log:
    """Where messages go: a file (its descriptor), or stderr for fd 2. json: one JSON object a line, else text."""

    def __init__(self, fd: int = 2, *, json: bool = False, debug: bool = False) -> None:
        self.fd = fd
        self.json = json
        self.debugging = debug

    def error(self, message: str) -> None:
        """What went wrong; on stderr as well, as plain text there, when the log is a file."""
        self.write("error", message)
        if self.fd != 2:
            _write(2, f"{message}\n")

    def warn(self, message: str) -> None:
        """What the caller should know though it went on."""
        self.write("warning", message)

    def debug(self, message: str) -> None:
        """With --debug only."""
        if self.debugging:
            self.write("debug", message)

    def write(self, level: str, message: str) -> None:
        """One line."""
        from time import localtime, strftime

        now = localtime()
        zone = strftime("%z", now)
        time = strftime("%Y-%m-%dT%H:%M:%S", now) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")
        if self.json:
            line = f'{{"level":"{level}","msg":{_escaped(message)},"time":"{time}"}}'
        elif posix.isatty(self.fd):
            line = f"\x1b[{_COLOURS[level]}m{level.upper()[:4]}\x1b[0m[0000] {message:<44} "
        else:
            line = f'time="{time}" level={level} msg={_text(message)}'
        _write(self.fd, f"{line}\n")


def _text(message: str) -> str:
    return message if message and set(message) <= _BARE else quoted(message)


def quoted(message: str) -> str:
    """Go's %q: what is printable stays as it is."""
    return '"' + "".join(_SHORT.get(c) or (c if c.isprintable() else _code(c)) for c in message) + '"'


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escaped(message: str) -> str:
    """A JSON string as Go's encoder writes it: HTML's characters escaped, what is not ASCII left."""
    from json import dumps

    text = dumps(message.encode("utf-8", "replace").decode(), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _write(fd: int, text: str) -> None:
    try:
        posix.write(fd, text.encode("utf-8", "backslashreplace"))
    except OSError:  # nobody reads it, or the disk is full: there is no better place to say it
        return
