"""Shapes of JSON values: small functions that a schema (schema.py) is put together from.

A shape takes a value that came out of a JSON parser and raises Wrong if the value is none of its kind. Where a member is
null it is taken out, as Go's encoding/json leaves such a field alone: absent and null are the same to whoever reads on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Shape = Callable[[object], None]

_SHOWN = 80


class Wrong(Exception):
    """A value that is not of its shape. where: keys and indexes from the inside out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where: list[str | int] = []

    def within(self, *keys: str | int) -> Wrong:
        """The same, seen from further out: within("b", "a") is of a.b."""
        self.where += keys
        return self

    def path(self) -> str:
        """The field as people write it: process.rlimits[1].type."""
        text = ""
        for key in reversed(self.where):
            if type(key) is int:
                text += f"[{key}]"
            elif key.replace("_", "").isalnum() and key.isascii():  # type: ignore[union-attr]  # it is a str
                text += f".{key}" if text else str(key)
            else:
                text += f"[{shown(key)}]"
        return text


def shown(value: object) -> str:
    """A value in a message: quoted, on one line, without control characters, and not too long."""
    text = f'"{repr(value)[1:-1]}"' if type(value) is str else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}[type(value)]


def boolean(value: object) -> None:
    """true or false."""
    if type(value) is not bool:
        raise Wrong(f"must be true or false, not {kind(value)}")


def text(value: object) -> None:
    """A string that the kernel can be given: UTF-8, without a NUL."""
    if type(value) is not str:
        raise Wrong(f"must be a string, not {kind(value)}")
    if "\0" in value:
        raise Wrong("contains a null byte", "the kernel ends a string there; take it out")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Wrong(f"{shown(value)} holds half of a surrogate pair", "write the character itself, as UTF-8") from None


def texts(value: object) -> None:
    """A list of such strings; they are looked at all at once, since there can be hundreds."""
    if type(value) is not list:
        raise Wrong(f"must be a list of strings, not {kind(value)}")
    try:
        joined = "".join(value)
    except TypeError:
        joined = "\0"
    if "\0" in joined or not joined.isascii():
        for i, item in enumerate(value):
            try:
                text(item)
            except Wrong as e:
                raise e.within(i)  # noqa: B904  # the very same error


def path(value: object) -> None:
    """An absolute path."""
    text(value)
    if value[:1] != "/":  # type: ignore[index]  # it is a str
        raise Wrong(f"{shown(value)} is not an absolute path", "begin it with /")


def integer(low: int, high: int, hint: str = "") -> Shape:
    """A whole number from low to high."""

    def check(value: object) -> None:
        if type(value) is not int:
            raise Wrong(f"must be a whole number, not {shown(value) if type(value) is float else kind(value)}")
        if not low <= value <= high:
            raise Wrong(f"{shown(value)} is out of range", hint or f"it may be {low} to {high}")

    return check


def one_of(names: Iterable[str], message: str, hint: str = "") -> Shape:
    """One of some words. message: what is said of another, with {} for it; hint: by default the words."""
    known = dict.fromkeys(names)

    def check(value: object) -> None:
        if type(value) is not str:
            raise Wrong(f"must be a string, not {kind(value)}")
        if value not in known:
            raise Wrong(message.format(shown(value)), hint or f"one of {', '.join(known)}")

    return check


def array(shape: Shape, *, least: int = 0) -> Shape:
    """A list with items of one shape."""

    def check(value: object) -> None:
        if type(value) is not list:
            raise Wrong(f"must be a list, not {kind(value)}")
        if len(value) < least:
            raise Wrong("must not be empty")
        i = 0
        try:
            for i, item in enumerate(value):  # noqa: B007  # where it went wrong
                shape(item)
        except Wrong as e:
            raise e.within(i)  # noqa: B904  # the very same error

    return check


def mapping(shape: Shape, key_shape: Shape = text) -> Shape:
    """An object whose keys are free."""

    def check(value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be an object, not {kind(value)}")
        key = ""
        try:
            for key, item in value.items():  # where it went wrong
                key_shape(key)
                shape(item)
        except Wrong as e:
            raise e.within(key)  # noqa: B904  # the very same error

    return check


def record(fields: dict[str, Shape], *, need: tuple[str, ...] = ()) -> Shape:
    """An object with known fields; others are ignored (config.md, "Extensibility"). need: those that must be there."""

    def check(value: object) -> None:
        if type(value) is not dict:
            raise Wrong(f"must be an object, not {kind(value)}")
        key, nulls = "", []
        try:
            for key, item in value.items():
                shape = fields.get(key)
                if shape is not None:
                    if item is None:
                        nulls.append(key)
                    else:
                        shape(item)
        except Wrong as e:
            raise e.within(key)  # noqa: B904  # the very same error
        for key in nulls:
            del value[key]
        for key in need:
            if key not in value:
                raise Wrong("is missing").within(key)

    return check
