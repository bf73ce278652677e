"""Ops in a row: the list that plan, rootfs and process write to, with the few shapes that come again and again."""

from __future__ import annotations

from struct import pack

from minicontainer.kernel.flags import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    FSCONFIG,
    MOVE_MOUNT,
    OPEN_TREE,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    O,
)
from minicontainer.stub.ops import Blob, Slot, make, openat2, syscall

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = _FSPICK_CLOEXEC = 1
_FSPICK_EMPTY_PATH = 8
_TO_DESCRIPTOR = MOVE_MOUNT["MOVE_MOUNT_F_EMPTY_PATH"] | MOVE_MOUNT["MOVE_MOUNT_T_EMPTY_PATH"]


class Ops(list):
    """A list of Op. Each method appends one shape and returns the Slot it fills."""

    def call(self, name: str, *args: object, why: str, out: Slot | None = None, ok: tuple = ()) -> Slot | None:
        """One system call."""
        self.append(syscall(name, *args, out=out, ok=ok, why=why))
        return out

    def open(self, dir: Slot | None, path: str, flags: int, *, name: str, why: str, resolve: int = 0, ok: tuple = ()) -> Slot:
        """openat2(2) into a new slot."""
        slot = Slot(name)
        self.append(openat2(dir, path, flags, out=slot, resolve=resolve, ok=ok, why=why))
        return slot

    def make(self, root: Slot, path: str, *, why: str, file: bool = False, mode: int = 0o755, resolve: int = 0) -> Slot:
        """The O_PATH descriptor of a path below root, made where it is missing. resolve: more RESOLVE_* (openat2(2))."""
        slot = Slot(path)
        self.append(make(root, path, out=slot, file=file, mode=mode, resolve=resolve, why=why))
        return slot

    def filesystem(
        self, fstype: str, data: list[tuple[str, str | None]], attr: int, *, why: str, source: str = "", ok: tuple = ()
    ) -> Slot:
        """A new file system, mounted nowhere yet: fsopen, fsconfig for each option, fsmount with MOUNT_ATTR_*."""
        context = Slot(f"{fstype} context")
        self.call("fsopen", fstype, _FSOPEN_CLOEXEC, out=context, ok=ok, why=why)
        self.configure(context, [("source", source or fstype), *data], fstype)
        self.call("fsconfig", context, FSCONFIG["FSCONFIG_CMD_CREATE"], 0, 0, 0, why=f"make the {fstype} instance")
        slot = Slot(fstype)
        self.call("fsmount", context, _FSMOUNT_CLOEXEC, attr, out=slot, why=f"a mount of it, at first nowhere: {why}")
        return slot

    def configure(self, context: Slot, data: list[tuple[str, str | None]], what: str) -> None:
        """fsconfig(2) for each option; value None is a flag."""
        for key, value in data:
            if value is None:
                self.call("fsconfig", context, FSCONFIG["FSCONFIG_SET_FLAG"], key, 0, 0, why=f"option of {what}")
            else:
                self.call("fsconfig", context, FSCONFIG["FSCONFIG_SET_STRING"], key, value, 0, why=f"option of {what}")

    def reconfigure(self, mount: Slot, data: list[tuple[str, str | None]], *, what: str) -> None:
        """Other options for the whole file system of a mount (fspick(2)): of all its mounts."""
        context = Slot(f"{what} context")
        self.call("fspick", mount, "", _FSPICK_EMPTY_PATH | _FSPICK_CLOEXEC, out=context, why=f"the file system at {what}")
        self.configure(context, data, what)
        self.call("fsconfig", context, FSCONFIG["FSCONFIG_CMD_RECONFIGURE"], 0, 0, 0, why="they hold from now on")

    def clone_tree(self, dir: Slot | None, path: str, *, why: str, recursive: bool = False, ok: tuple = ()) -> Slot:
        """A detached copy of a mount: what a bind mount is before it has a place."""
        slot = Slot(f"tree of {path or (dir.name if dir else '')}")
        flags = OPEN_TREE["OPEN_TREE_CLONE"] | OPEN_TREE["OPEN_TREE_CLOEXEC"] | (AT_RECURSIVE if recursive else 0)
        self.call(
            "open_tree", AT_FDCWD if dir is None else dir, path, flags | (0 if path else AT_EMPTY_PATH), out=slot, ok=ok, why=why
        )
        return slot

    def set_attributes(
        self, mount: Slot, *, why: str, on: int = 0, off: int = 0, propagation: int = 0, recursive: bool = False
    ) -> None:
        """mount_setattr(2) of a mount descriptor."""
        if on or off or propagation:
            self.call(
                "mount_setattr",
                mount,
                "",
                AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0),
                Blob(pack("QQQQ", on, off, propagation, 0), ""),
                32,
                why=why,
            )

    def attach(self, mount: Slot, target: Slot, *, why: str) -> None:
        """move_mount(2): the detached mount gets its place; by descriptors, so no path is looked up again."""
        self.call("move_mount", mount, "", target, "", _TO_DESCRIPTOR, why=why)

    def path(self, root: Slot, path: str, *, why: str, ok: tuple = (), directory: bool = False) -> Slot:
        """The O_PATH descriptor of a path below root that should be there."""
        flags = O["O_PATH"] | (O["O_DIRECTORY"] if directory else 0)
        return self.open(root, path, flags, name=path, resolve=IN_ROOT, ok=ok, why=why)
