"""`import --change`: Dockerfile instructions that set an image's config, with docker's syntax and results.

CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR
Words may be quoted, a backslash takes the next character as it is, and $NAME, ${NAME}, ${NAME:-word}, ${NAME:+word}
stand for what an earlier ENV set (except in CMD, ENTRYPOINT, HEALTHCHECK and ONBUILD).
Source: docs.docker.com, "Dockerfile reference" and "docker image import".
"""

from __future__ import annotations

import json
import posixpath
import re
import signal

from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SHELL = ["/bin/sh", "-c"]
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+\Z")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_CHECK_FLAGS = {"--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod",
                "--retries": "Retries"}
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def apply_changes(changes: Iterable[str]) -> dict:
    """The `config` object of an OCI image config that these instructions make. UsageError names line and fault."""
    config: dict = {}
    for line in changes:
        instruction, _, rest = line.strip().partition(" ")
        make = _INSTRUCTIONS.get(instruction.upper())
        if make is None:
            raise UsageError(f"--change '{line}': '{instruction}' is none of {' '.join(_INSTRUCTIONS)}")
        if not rest.strip():
            raise UsageError(f"--change '{line}': {instruction.upper()} needs a value")
        try:
            make(config, rest.strip())
        except ValueError as e:
            raise UsageError(f"--change '{line}': {e}") from None
    return config


def _command(key: str) -> Callable[[dict, str], None]:
    def make(config: dict, rest: str) -> None:
        words = _exec_form(rest)
        config[key] = [*_SHELL, rest] if words is None else words
    return make


def _env(config: dict, rest: str) -> None:
    values = dict(entry.split("=", 1) for entry in config.get("Env", []))
    values.update(_pairs(rest, config))
    config["Env"] = [f"{name}={value}" for name, value in values.items()]


def _label(config: dict, rest: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(rest, config))


def _expose(config: dict, rest: str) -> None:
    for word in _words(rest, config):
        found = _PORT.match(word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not found or not 0 < first <= last < 65536:
            raise ValueError(f"'{word}' is not PORT[-PORT][/tcp|udp|sctp]")
        for port in range(first, last + 1):
            config.setdefault("ExposedPorts", {})[f"{port}/{(found[3] or 'tcp').lower()}"] = {}


def _volume(config: dict, rest: str) -> None:
    for path in _exec_form(rest) or _words(rest, config):
        if not path:
            raise ValueError("a volume needs a path")
        config.setdefault("Volumes", {})[path] = {}


def _user(config: dict, rest: str) -> None:
    config["User"] = _single(rest, config)


def _workdir(config: dict, rest: str) -> None:
    path = _single(rest, config)
    config["WorkingDir"] = posixpath.normpath(posixpath.join("/", config.get("WorkingDir", "/"), path))


def _stopsignal(config: dict, rest: str) -> None:
    name = _single(rest, config)
    known = name.isdecimal() and 0 < int(name) <= signal.SIGRTMAX
    if not known and "SIG" + name.upper().removeprefix("SIG") not in signal.Signals.__members__:
        raise ValueError(f"'{name}' is no signal")
    config["StopSignal"] = name


def _onbuild(config: dict, rest: str) -> None:
    if rest.split()[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError(f"{rest.split()[0]} can't be put off with ONBUILD")
    config.setdefault("OnBuild", []).append(rest)


def _healthcheck(config: dict, rest: str) -> None:
    check: dict = {}
    words = rest.split(None, 1)
    while words and words[0].startswith("--"):
        flag, equals, value = words[0].partition("=")
        key = _CHECK_FLAGS.get(flag)
        if key is None or not equals:
            raise ValueError(f"'{words[0]}' is none of --interval= --timeout= --start-period= --retries=")
        if key == "Retries" and not value.isdecimal():
            raise ValueError(f"--retries={value} is no number")
        check[key] = int(value) if key == "Retries" else _nanoseconds(value)
        words = words[1].split(None, 1) if len(words) > 1 else []
    kind = words[0].upper() if words else ""
    command = words[1] if len(words) > 1 else ""
    if kind == "NONE" and not command and not check:
        check = {"Test": ["NONE"]}
    elif kind == "CMD" and command:
        form = _exec_form(command)
        if form == []:
            raise ValueError("the command is empty")
        check["Test"] = ["CMD-SHELL", command] if form is None else ["CMD", *form]
    else:
        raise ValueError("write `HEALTHCHECK [--interval=30s …] CMD command`, or `HEALTHCHECK NONE`")
    config["Healthcheck"] = check


_INSTRUCTIONS: dict[str, Callable[[dict, str], None]] = {
    "CMD": _command("Cmd"), "ENTRYPOINT": _command("Entrypoint"), "ENV": _env, "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck, "LABEL": _label, "ONBUILD": _onbuild, "STOPSIGNAL": _stopsignal, "USER": _user,
    "VOLUME": _volume, "WORKDIR": _workdir}


def _exec_form(text: str) -> list[str] | None:
    """The words of a JSON array of strings; None if it is no array (then it is the shell form)."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(word, str) for word in value):
        raise ValueError("an array must be of strings only")
    return value


def _nanoseconds(text: str) -> int:
    """Go's durations: "1m30s", "500ms"; at least a millisecond."""
    if not _DURATION.match(text):
        raise ValueError(f"'{text}' is no duration such as 30s or 1m30s")
    value = round(sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", text)))
    if value < _UNITS["ms"]:
        raise ValueError(f"'{text}' is less than 1ms")
    return value


def _single(rest: str, config: dict) -> str:
    value = _expand(rest, config)
    if not value:
        raise ValueError("the value is empty")
    return value


def _pairs(rest: str, config: dict) -> dict[str, str]:
    """`NAME=value NAME="a value" …`, or `NAME the rest is the value`."""
    name, space, value = rest.partition(" ")
    if "=" not in name:
        if not space:
            raise ValueError(f"'{rest}' is not NAME=VALUE")
        return {_expand(name, config): _expand(value.strip(), config)}
    pairs = {}
    for word in _words(rest, config):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"'{word}' is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _words(text: str, config: dict) -> list[str]:
    """The words of text, split at blanks outside quotes, then expanded."""
    words = re.findall(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", text)
    if "".join(words).translate({32: None, 9: None}) != text.translate({32: None, 9: None}):
        raise ValueError("a quote is not closed")
    return [_expand(word, config) for word in words]


def _expand(text: str, config: dict) -> str:
    """text without its quotes and backslashes, its variables replaced."""
    env = dict(entry.split("=", 1) for entry in config.get("Env", []))
    out = ""
    quote = ""
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if quote != "'" and letter == "\\" and at < len(text):
            out += text[at] if not quote or text[at] in '"$\\' else letter + text[at]
            at += 1
        elif letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        elif quote != "'" and letter == "$":
            value, at = _variable(text, at, env)
            out += value
        else:
            out += letter
    if quote:
        raise ValueError("a quote is not closed")
    return out


def _variable(text: str, at: int, env: dict[str, str]) -> tuple[str, int]:
    """(value, position after it) of the variable whose `$` stands before position at."""
    braced = text.startswith("{", at)
    found = _NAME.match(text, at + braced)
    if not found:
        if braced:
            raise ValueError("'${' without a name")
        return "$", at
    value = env.get(found[0], "")
    at = found.end()
    if not braced:
        return value, at
    end = text.find("}", at)
    operator, word = text[at:at + 2], text[at + 2:end]
    if end < 0 or (operator not in (":-", ":+") and end != at):
        raise ValueError(f"'${{{found[0]}' is not ${{NAME}}, ${{NAME:-word}} or ${{NAME:+word}}")
    if operator == ":-" and end != at:
        value = value or word
    elif operator == ":+" and end != at:
        value = word if value else ""
    return value, end + 1
