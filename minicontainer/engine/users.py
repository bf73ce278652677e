"""The user that a container runs as: from --user or the image, by the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

from minicontainer.engine.options import RunOptions
from minicontainer.errors import UsageError

_MAX_GID = (1 << 31) - 1


class User:
    """uid, gid, supplementary groups (without gid), home."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(layers: list[str], options: RunOptions, image_config: dict) -> User:
    """The user of a container whose files are these layers (topmost first). UsageError for one that is not there."""
    from minicontainer.image.users import resolve_user

    uid, gid, groups, home = resolve_user(layers, options.user or image_config.get("User") or "0")
    extra = [_group(layers, name) for name in options.group_add]
    return User(uid, gid, [*groups, *(g for g in extra if g not in groups and g != gid)], home)


def _group(layers: list[str], name: str) -> int:
    """--group-add: a number, or a name of the image's /etc/group."""
    if name.isdecimal() and name.isascii():
        if int(name) > _MAX_GID:
            raise UsageError(f"--group-add {name}: group ids go up to {_MAX_GID}")
        return int(name)
    from minicontainer.image.users import find_gid

    return find_gid(layers, name)
