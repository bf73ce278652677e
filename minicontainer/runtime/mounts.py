"""Mount options of the OCI spec (config.md, "Mounts") as the new mount API takes them."""

from __future__ import annotations

from minicontainer.kernel.flags import MOUNT_ATTR, MOUNT_ATTR_ATIME, MS

_A = MOUNT_ATTR
# option: (attributes set, attributes cleared)
_ATTRIBUTES = {
    "ro": (_A["MOUNT_ATTR_RDONLY"], 0), "rw": (0, _A["MOUNT_ATTR_RDONLY"]),
    "nosuid": (_A["MOUNT_ATTR_NOSUID"], 0), "suid": (0, _A["MOUNT_ATTR_NOSUID"]),
    "nodev": (_A["MOUNT_ATTR_NODEV"], 0), "dev": (0, _A["MOUNT_ATTR_NODEV"]),
    "noexec": (_A["MOUNT_ATTR_NOEXEC"], 0), "exec": (0, _A["MOUNT_ATTR_NOEXEC"]),
    "nodiratime": (_A["MOUNT_ATTR_NODIRATIME"], 0), "diratime": (0, _A["MOUNT_ATTR_NODIRATIME"]),
    "nosymfollow": (_A["MOUNT_ATTR_NOSYMFOLLOW"], 0), "symfollow": (0, _A["MOUNT_ATTR_NOSYMFOLLOW"]),
    # The three times are one field: to set one of them the whole field is cleared first (mount_setattr(2)).
    "noatime": (_A["MOUNT_ATTR_NOATIME"], MOUNT_ATTR_ATIME), "atime": (0, MOUNT_ATTR_ATIME),
    "relatime": (0, MOUNT_ATTR_ATIME), "norelatime": (0, MOUNT_ATTR_ATIME),
    "strictatime": (_A["MOUNT_ATTR_STRICTATIME"], MOUNT_ATTR_ATIME), "nostrictatime": (0, MOUNT_ATTR_ATIME),
}
_PROPAGATION = {
    "private": MS["MS_PRIVATE"], "shared": MS["MS_SHARED"], "slave": MS["MS_SLAVE"], "unbindable": MS["MS_UNBINDABLE"],
}
# Options of the file system as a whole, which fsconfig(2) takes as flags.
_SUPERBLOCK = frozenset(("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"))
_IGNORED = frozenset(("defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl"))


class MountOptions:
    """What a list of options asks for.

    attr_set, attr_clr: MOUNT_ATTR_* of this mount; rec_set, rec_clr: of everything below too; propagation, rec_propagation:
    MS_* or 0; bind, recursive: a bind mount, with what is below; remount: of what is mounted there already; copy_up: tmpcopyup;
    idmap: "idmap" or "ridmap"; data: (key, value) for fsconfig(2), value None for a flag.
    """

    __slots__ = ("attr_clr", "attr_set", "bind", "copy_up", "data", "idmap", "propagation", "rec_clr", "rec_propagation", "rec_set",
                 "recursive", "remount")

    def __init__(self, options: list[str]) -> None:
        self.attr_set = self.attr_clr = self.rec_set = self.rec_clr = self.propagation = self.rec_propagation = 0
        self.bind = self.recursive = self.copy_up = self.remount = False
        self.idmap = ""
        self.data: list[tuple[str, str | None]] = []
        for option in options:
            self._add(option)

    def _add(self, option: str) -> None:
        if option in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option]
            self.attr_set, self.attr_clr = self.attr_set & ~off | on, self.attr_clr & ~on | off
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option[1:]]
            self.rec_set, self.rec_clr = self.rec_set & ~off | on, self.rec_clr & ~on | off
        elif option in _PROPAGATION:
            self.propagation = _PROPAGATION[option]
        elif option[:1] == "r" and option[1:] in _PROPAGATION:
            self.rec_propagation = _PROPAGATION[option[1:]]
        elif option in ("bind", "rbind"):
            self.bind, self.recursive = True, self.recursive or option == "rbind"
        elif option == "remount":
            self.remount = True
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option in ("idmap", "ridmap"):
            self.idmap = option
        elif option in _SUPERBLOCK:
            self.data.append((option, None))
        elif option not in _IGNORED:
            key, equals, value = option.partition("=")
            self.data.append((key, value if equals else None))

    def tied(self) -> bool:
        """Whether mounts made later on the host are to be seen here (slave), or those made here there (shared)."""
        ties = MS["MS_SLAVE"] | MS["MS_SHARED"]
        return bool((self.propagation | self.rec_propagation) & ties)

    def not_for_bind(self) -> list[str]:
        """Options that mean nothing for a bind mount, since it shows a file system that is there (mount(8))."""
        return [key for key, _ in self.data if key not in _SUPERBLOCK]


def known() -> list[str]:
    """Every option that MountOptions takes for more than data of a file system, by name (features.md, "Mount Options")."""
    twice = [*_ATTRIBUTES, *_PROPAGATION, "bind", "idmap"]
    return sorted({*twice, *(f"r{name}" for name in twice), "remount", "tmpcopyup", *_SUPERBLOCK, *_IGNORED})
