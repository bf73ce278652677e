"""The command lines: minicontainer's own (main.py) and that of the OCI runtime (oci/). Here is what their flag parsers share."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class Flag(Protocol):
        """A flag of either command line."""

        default: Any


# What Go's strconv.ParseBool takes, for both.
TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Values(dict):
    """What was given, by flag name. A flag that was not given answers its default, and is not `in` the values."""

    __slots__ = ("_flags",)

    def __init__(self, flags: Mapping[str, Flag]) -> None:
        super().__init__()
        self._flags = flags

    def __missing__(self, name: str) -> Any:
        return self._flags[name].default
