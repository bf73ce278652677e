"""The container's view of files as ops: its root, masked and read-only paths, pivot_root. mounting.py and devices.py fill it.

Order and content follow the OCI runtime spec (config.md, config-linux.md).
Every path of the image is resolved once, by openat2 below the root's descriptor, and used as a descriptor from then on:
a symlink in an image can't send a mount elsewhere (CVE-2021-30465, CVE-2024-45310).
"""

from __future__ import annotations

import os

from minicontainer.errors import Unsupported, UsageError
from minicontainer.kernel.flags import MNT, MOUNT_ATTR, MS, TMPFS_MAGIC, O
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.namespaces import Namespaces
from minicontainer.stub.ops import Slot, check_filesystem

ENOENT, ENOTDIR, EINVAL = 2, 20, 22
RDONLY, NOSUID, NODEV, NOEXEC = (MOUNT_ATTR[f"MOUNT_ATTR_{n}"] for n in ("RDONLY", "NOSUID", "NODEV", "NOEXEC"))
_PROPAGATION = {"shared": MS["MS_SHARED"], "slave": MS["MS_SLAVE"], "private": MS["MS_PRIVATE"], "unbindable": MS["MS_UNBINDABLE"]}
# Where the root is mounted if its own folder is out of reach for root of the user namespace; pivot_root buries it.
_ANYWHERE = "/sys/kernel"


class Overlay:
    """An overlayfs root: lower directories (topmost first), upper, work, and where it is mounted. All of them ours."""

    __slots__ = ("lower", "target", "upper", "volatile", "work")

    def __init__(self, lower: list[str], upper: str, work: str, target: str, volatile: bool = False) -> None:
        self.lower = lower
        self.upper = upper
        self.work = work
        self.target = target
        self.volatile = volatile

    def options(self) -> str:
        """The data of mount(2); see Documentation/filesystems/overlayfs.rst."""

        def quote(path: str) -> str:
            return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")

        text = f"lowerdir={':'.join(map(quote, self.lower))},upperdir={quote(self.upper)},workdir={quote(self.work)}"
        # Neither would be followed by who reads layers as files (image/union.py), and the host's defaults differ.
        text += ",redirect_dir=off,metacopy=off"
        return text + ",volatile" if self.volatile else text


class Rootfs:
    """Collects the ops of one container's file system.

    ops: of the container; spec: OCI config; overlay: how its root is made, or None when root.path is a directory; bundle: what
    relative paths are relative to; promised: sources of binds that are not there yet, and whether each will be a directory (a
    dry run); names: its namespaces.

    What is on the host is opened and copied by `outside`, before the second birth and with our rights; without one that is `ops`
    itself. `early` are copies from before what the host mounts becomes our own: those that stay peers of the host's (shared).
    propagation: MS_* of the host's mounts then: slave, if some copies are to follow them, else private.

    Without a mount namespace the root is a tree of mounts that is mounted nowhere (loose), or else on its own folder (attached.py).
    """

    def __init__(
        self,
        ops: Ops,
        spec: dict,
        overlay: Overlay | None,
        bundle: str,
        promised: dict[str, bool] | None = None,
        names: Namespaces | None = None,
    ) -> None:
        self.ops = ops
        self.spec = spec
        self.linux = spec.get("linux") or {}
        self.overlay = overlay
        self.bundle = bundle
        self.promised = promised or {}
        self.names = names or Namespaces()
        self.loose = not self.names.isolated and loose_trees()
        self.attached = not self.names.isolated and not self.loose
        if self.attached and "mount" in self.names.joined:
            message = "joining a mount namespace needs a tree of mounts that is mounted nowhere, which came with Linux 6.15"
            raise Unsupported(message, "give the container a mount namespace of its own")
        self.direct = not (self.names.twice and self.names.privileged)
        self.outside = ops if self.direct else Ops()
        self.early = ops if self.direct else Ops()
        self.root = Slot("root")
        self.proc: Slot | None = None
        self.dev: Slot | None = None
        self.devpts: Slot | None = None
        self.readonly_later: list[tuple[Slot, str]] = []
        self.propagation = MS["MS_PRIVATE"]
        self._empty: Slot | None = None

    def enter(self) -> None:
        """Private propagation, and the root file system mounted in the container's own mount namespace."""
        asked = self._asked_propagation()
        tied = None
        if asked[0] == MS["MS_SLAVE"] and not self.overlay:
            tied = self._copy_of_root(self.early, tied=True)
        if self.direct and self.names.isolated:
            why = "what is mounted here from now on stays unknown to the host"
            self.ops.call("mount", 0, "/", 0, MS["MS_REC"] | self.propagation, 0, why=why)
        if self.overlay:
            if not self.names.isolated:
                raise UsageError("an image needs a mount namespace of its own", 'add {"type": "mount"} to linux.namespaces')
            self._mount_overlay(self.overlay)
        else:
            self.root = tied or self._copy_of_root(self.outside)
            if tied:
                flags = {"propagation": MS["MS_SLAVE"], "recursive": True}
                self.early.set_attributes(tied, **flags, why="what the host mounts there later is seen, not the other way round")  # type: ignore[arg-type]
            if not self.loose:
                self._attach(os.path.join(self.bundle, self.spec["root"]["path"]))
            if self.attached:
                # Below a mount that others share it would be shared as well.
                why = "what is mounted in it stays in it"
                self.ops.set_attributes(self.root, propagation=MS["MS_PRIVATE"], recursive=True, why=why)

    def _copy_of_root(self, ops: Ops, tied: bool = False) -> Slot:
        path = os.path.join(self.bundle, self.spec["root"]["path"])
        slot = ops.clone_tree(None, path, recursive=True, why="the root is a directory of the host: a bind of it")
        slot.name = "root"
        if not self.names.isolated or (self.propagation == MS["MS_SLAVE"] and not tied):
            # Never mounted anywhere, it is a tree of mounts of its own all the same (Linux 6.15), if it is nobody's peer.
            ops.set_attributes(slot, propagation=MS["MS_PRIVATE"], recursive=True, why="what is mounted in it stays in it")
        return slot

    def _mount_overlay(self, o: Overlay) -> None:
        out, label = self.outside, self.label("overlay")
        options = o.options() + "".join(f',{key}="{value}"' for key, value in label)
        why = "the image's layers, read only, below a writable layer of this container alone"
        out.call("mount", "overlay", o.target, "overlay", 0, options, why=why)
        if self.direct:
            why = "the root, by descriptor from here on"
            self.root = out.open(None, o.target, O["O_PATH"] | O["O_DIRECTORY"], name="root", why=why)
        else:
            self.root = out.clone_tree(None, o.target, why="the root, to be mounted in the container's own mount namespace")
            self.root.name = "root"
            self._attach(o.target)

    def _attach(self, path: str) -> None:
        ops, flags = self.ops, O["O_PATH"] | O["O_DIRECTORY"]
        if not self.direct and not self._within_reach(path):
            path = _ANYWHERE
        place = ops.open(None, path, flags, name="root directory", why="where it is bound: over itself, or somewhere")
        ops.attach(self.root, place, why="pivot_root needs the new root to be a mount")

    def _within_reach(self, path: str) -> bool:
        """Whether root of the container's user namespace can walk to a path: by everybody's right, or as a mapped owner."""
        mapped = [self.linux.get("uidMappings") or (), self.linux.get("gidMappings") or ()]
        path = os.path.realpath(path)
        while path != "/":
            try:
                s = os.stat(path)
            except OSError:
                return False  # making the copy tells what is wrong with it
            owned = all(
                any(m["hostID"] <= n < m["hostID"] + m["size"] for m in maps) for n, maps in zip((s.st_uid, s.st_gid), mapped)
            )
            if not (owned or s.st_mode & 0o001):
                return False
            path = os.path.dirname(path)
        return True

    def label(self, fstype: str) -> list[tuple[str, str | None]]:
        """linux.mountLabel as an option of a new file system. Unsupported where there is no SELinux."""
        label = self.linux.get("mountLabel")
        if not label or fstype in ("proc", "sysfs", "mqueue", "cgroup", "cgroup2"):
            return []
        if not os.path.exists("/sys/fs/selinux/enforce"):
            raise Unsupported(f'linux.mountLabel "{label}": this host has no SELinux', "take it out, or boot with selinux=1")
        return [("context", label)]

    def sysctls(self) -> None:
        """linux.sysctl: by the host's proc, which no mount and no symlink of the container can stand in for (CVE-2019-19921,
        CVE-2025-52881). Which namespace a setting is of, the kernel takes from who writes."""
        from minicontainer.runtime.sysctl import parts
        from minicontainer.stub.ops import write_file

        for key, value in self.linux.get("sysctl", {}).items():
            path = "/".join(["sys", *parts(key)])
            self.ops.append(
                write_file(
                    path, value, dir=self.host_proc, resolve=1 | 2 | 4 | 8, why=f"sysctl {key} of the container's own namespace"
                )
            )

    def hide(self) -> None:
        """Masked and read-only paths: what of the kernel's /proc and /sys a container must not see or change."""
        for path in self.linux.get("readonlyPaths") or ():
            self._read_only(clean(path))
        for path in dict.fromkeys(map(clean, self.linux.get("maskedPaths") or ())):
            self._mask(path)

    def _read_only(self, path: str) -> None:
        ops = self.ops
        place = ops.path(self.root, path, ok=(ENOENT, ENOTDIR), why=f"/{path} is to be read only (if this kernel has it)")
        tree = ops.clone_tree(place, "", recursive=True, why=f"a bind of /{path} over itself")
        ops.set_attributes(tree, on=RDONLY, recursive=True, why="read only")
        ops.attach(tree, place, why=f"/{path} is read only")

    def _mask(self, path: str) -> None:
        """A directory is hidden by an empty read-only tmpfs, a file by /dev/null; the host's /proc and /sys tell which."""
        ops = self.ops
        known = path.startswith(("proc/", "sys/"))
        kind = os.path.isdir("/" + path) if known else None
        if known and not os.path.lexists("/" + path):
            return
        if kind is not False:
            place = ops.path(self.root, path, directory=True, ok=(ENOENT, ENOTDIR), why=f"/{path} is to be hidden (if it is there)")
            ops.attach(self._empty_directory(), place, why=f"/{path} looks empty")
        if kind is not True:
            place = ops.path(self.root, path, ok=(ENOENT, ENOTDIR), why=f"/{path} is to be hidden (if it is there)")
            tree = ops.clone_tree(self.null, "", why="the host's own /dev/null: no file of the image poses as it (CVE-2025-31133)")
            # A directory was hidden above already, and a file can't be mounted on one.
            forgiven = (EINVAL, ENOTDIR) if kind is None else ()
            ops.call("move_mount", tree, "", place, "", 4 | 0x40, ok=forgiven, why=f"/{path} reads as nothing")
        if kind is None:
            there = ops.path(self.root, path, ok=(ENOENT, ENOTDIR), why=f"/{path} as programs will find it")
            ops.append(check_filesystem(there, TMPFS_MAGIC, why=f"/{path} is hidden: an empty tmpfs, or a node of /dev"))

    def open_host(self) -> None:
        """What is needed of the host, opened while the host's root is still ours."""
        ops = self.ops
        self.null = ops.open(
            None, "/dev/null", O["O_PATH"] | O["O_NOFOLLOW"], name="null", why="the host's /dev/null, to hide files behind"
        )
        self.host_proc = ops.open(
            None, "/proc", O["O_PATH"] | O["O_DIRECTORY"], name="host's proc", why="for files of the process itself"
        )

    def _empty_directory(self) -> Slot:
        """A mount of an empty read-only directory: each a copy of one that is mounted where pivot_root buries it, if it does."""
        ops = self.ops
        if self._empty is None or not self.names.isolated:
            self._empty = ops.filesystem(
                "tmpfs",
                [("mode", "755"), ("size", "0")],
                RDONLY | NOSUID | NODEV | NOEXEC,
                why="an empty directory, to hide directories behind",
            )
            if not self.names.isolated:
                return self._empty  # in mounts shared with others, nothing gets buried
            ops.attach(self._empty, self.host_proc, why="over the host's /proc, which pivot_root is about to bury")
        return ops.clone_tree(self._empty, "", why="an empty read-only directory")

    def finish(self) -> None:
        """What was to be read only all along, but had to be filled first."""
        for mount, what in self.readonly_later:
            if self.loose:  # only the root of such a tree takes attributes; this file system has no other mount
                self.ops.reconfigure(mount, [("ro", None)], what=what)
            else:
                self.ops.set_attributes(mount, on=RDONLY, why=f"{what} is read only, now that all is in it")

    def pivot(self) -> None:
        """The container's root becomes /, and the host's is gone."""
        ops = self.ops
        self.finish()
        if self.spec["root"].get("readonly", False):
            ops.set_attributes(self.root, on=RDONLY, why="the root is read only (its mounts are what they are)")
        ops.call("fchdir", self.root, why="pivot_root(2): the new root is here")
        if self.names.isolated:
            ops.call("pivot_root", ".", ".", why="the new root becomes /, the host's root lies on top of it")
            ops.call("umount2", ".", MNT["MNT_DETACH"], why="the host's root is gone, and nothing leads back")
            ops.call("chdir", "/", why="stand on the new root")
        else:
            ops.call("chroot", ".", why="mounts are shared with others, so their root can't change: only this process' own does")
        propagation, recursive = self._asked_propagation()
        if propagation:
            flags = propagation | (MS["MS_REC"] if recursive else 0)
            ops.call("mount", 0, "/", 0, flags, 0, why=f"rootfsPropagation {self.linux['rootfsPropagation']}")

    def _asked_propagation(self) -> tuple[int, bool]:
        """linux.rootfsPropagation: MS_* (0 if nothing is asked), and whether for all below too."""
        asked = self.linux.get("rootfsPropagation") or ""
        recursive = asked[:1] == "r" and asked[1:] in _PROPAGATION
        name = asked[1:] if recursive else asked
        if name and name not in _PROPAGATION:
            raise UsageError(f'linux.rootfsPropagation "{asked}" is unknown', f"one of {', '.join(_PROPAGATION)}")
        return (_PROPAGATION[name] if name else 0), recursive


def loose_trees() -> bool:
    """Whether mounts can be made within a tree that is mounted nowhere (Linux 6.15)."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= (6, 15)


def clean(path: str) -> str:
    """A destination, lexically clean and relative to the root: "/a/../b//c" is "b/c"."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."
