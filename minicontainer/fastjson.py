"""JSON on the path of `run`: the standard library's C scanner and encoder without the package around them.

`import json` costs 6 ms here because json.decoder compiles regular expressions, which load re, enum and functools;
an interpreter alone starts in 6 ms. The C accelerators do the whole work. A test holds both against `json`.
"""

from __future__ import annotations

import _json


class _Context:
    """What _json.make_scanner reads its settings from (json.decoder.JSONDecoder has the same attributes)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]  # it reads attributes, of whatever has them
_WHITESPACE = " \t\n\r"


def loads(text: str | bytes) -> object:
    """The value of a JSON text (UTF-8 if bytes). ValueError says where it is wrong."""
    if isinstance(text, bytes):
        text = text.decode()
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except SystemError:
        # The C code takes its exception from json.decoder, and raises nothing where that is not imported.
        from json import loads as explain

        explain(text)
        raise
    if text[end:].strip(_WHITESPACE):
        raise ValueError(f"more than one JSON value at character {end}")
    return value


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def dumps(value: object, indent: str | None = None) -> str:
    """The JSON text of a value of dict, list, str, int, float, bool and None; compact, or indented (slower). ValueError for NaN."""
    if indent is not None:
        return _indented(value, indent, "\n")
    encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def _indented(value: object, indent: str, line: str) -> str:
    """The text of a value on lines of its own; line: what begins one at this depth."""
    deeper = line + indent
    if isinstance(value, dict) and value:
        members = [f"{deeper}{dumps(key)}: {_indented(item, indent, deeper)}" for key, item in value.items()]
        return "{" + ",".join(members) + line + "}"
    if isinstance(value, list) and value:
        return "[" + ",".join(deeper + _indented(item, indent, deeper) for item in value) + line + "]"
    return dumps(value)
