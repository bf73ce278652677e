"""Who `-u` and an image's USER mean: docker's rules, over the image's own passwd and group files.

    ""            uid 0; its group and home from passwd, if it is there
    NAME          must be in passwd; all groups of group that list it
    UID           need not be in passwd; if it is, as NAME
    …:GROUP|GID   that group alone; a name must be in group
Numbers are 0 to 2147483647: what does not fit must not wrap round to root (CVE-2024-40635). A line of passwd or group
that is not well formed is no line (in runc a uid that is no number counts as 0).
Source: opencontainers/runc libcontainer/user, GetExecUser; docker run reference, "USER".
"""

from __future__ import annotations

from minicontainer.errors import ImageError, UsageError
from minicontainer.image.union import read_in_layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ID_MAX = (1 << 31) - 1


def resolve_user(layers: Sequence[str], spec: str) -> tuple[int, int, list[int], str]:
    """(uid, gid, additional gids, home directory) for "name|uid[:group|gid]" in the union of layers (top first).

    The additional gids begin with gid itself, as docker's do (CVE-2022-36109). UsageError if a name is unknown or a
    number out of range; ImageError if passwd or group can't be read safely.
    """
    return find_user(spec, read_in_layers(layers, "/etc/passwd"), read_in_layers(layers, "/etc/group"))


def find_user(spec: str, passwd: bytes, group: bytes) -> tuple[int, int, list[int], str]:
    """resolve_user with the files' contents."""
    user, _, wanted_group = spec.partition(":")
    if ":" in wanted_group:
        raise UsageError(f"user '{spec}' is not NAME|UID[:GROUP|GID]")
    number = _number(user) if user else 0
    name, uid, gid, home = "", number or 0, 0, "/"
    for fields in _lines(passwd, 7):
        if fields[0] == user if number is None else fields[2] == str(number):
            name, home = fields[0], fields[5] or "/"
            uid, gid = _in_range(fields[2]), _in_range(fields[3])
            break
    else:
        if number is None:
            raise UsageError(f"unable to find user {user}: no matching entries in passwd file",
                             "Use a number, or a name that the image's /etc/passwd has.")
    groups = list(_lines(group, 4))
    if wanted_group:
        gid = _find_group(wanted_group, groups)
        return uid, gid, [gid], home
    more = [_in_range(fields[2]) for fields in groups if name and name in fields[3].split(",")]
    return uid, gid, [gid, *dict.fromkeys(g for g in more if g != gid)], home


def find_gid(layers: Sequence[str], spec: str) -> int:
    """The gid of a group name or number (`--group-add`). Errors as resolve_user's."""
    return _find_group(spec, list(_lines(read_in_layers(layers, "/etc/group"), 4)))


def _find_group(wanted: str, groups: list[list[str]]) -> int:
    number = _number(wanted)
    if number is not None:
        return number
    for fields in groups:
        if fields[0] == wanted:
            return _in_range(fields[2])
    raise UsageError(f"unable to find group {wanted}: no matching entries in group file",
                     "Use a number, or a name that the image's /etc/group has.")


def _lines(data: bytes, fields: int) -> list[list[str]]:
    """The well-formed lines: name, something, number, … ; a group may leave its members out."""
    found = []
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        parts = line.strip().split(":")
        if len(parts) < 3 or line.startswith("#"):
            continue
        parts += [""] * (fields - len(parts))
        if parts[0] and _digits(parts[2]) and (fields == 4 or _digits(parts[3])):
            parts[2] = str(int(parts[2]))
            found.append(parts)
    return found


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _number(text: str) -> int | None:
    """The uid or gid that text is; None if it is a name. UsageError if it is out of range."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if digits != text or len(text) > 10 or int(text) > _ID_MAX:
        raise UsageError(f"uids and gids must be in range 0-{_ID_MAX}, and {text} is not")
    return int(text)


def _in_range(text: str) -> int:
    if int(text) > _ID_MAX:
        raise ImageError(f"the image's passwd or group file has the id {text}: not in range 0-{_ID_MAX}")
    return int(text)
