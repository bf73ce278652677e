"""The container's view of files as ops: root, mounts, devices, masked and read-only paths, pivot_root.

Order and content follow the OCI runtime spec (config.md, config-linux.md "Default Filesystems" and "Default Devices").
Every path of the image is resolved once, by openat2 below the root's descriptor, and used as a descriptor from then on:
a symlink in an image can't send a mount elsewhere (CVE-2021-30465, CVE-2024-45310).
"""

from __future__ import annotations

import os
from stat import S_ISDIR
from struct import pack

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CLONE, MNT, MOUNT_ATTR, MS, RESOLVE_NO_SYMLINKS, S_IF, O
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.mounts import MountOptions
from minicontainer.stub.ops import Blob, Slot

ENOENT, EEXIST, ENOTDIR, EINVAL = 2, 17, 20, 22
TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ = 0x40045431, 0x5441, 0x5414
RDONLY, NOSUID, NODEV, NOEXEC = (MOUNT_ATTR[f"MOUNT_ATTR_{n}"] for n in ("RDONLY", "NOSUID", "NODEV", "NOEXEC"))

# config-linux.md "Default Devices": path, major, minor; all mode 0666.
DEFAULT_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
DEFAULT_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)


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

    spec: OCI config; overlay: how its root is made, or None when root.path is a directory; bundle: what a relative
    root.path is relative to; promised: sources of binds that are not there yet, and whether each will be a directory (a dry run).
    """

    def __init__(self, ops: Ops, spec: dict, overlay: Overlay | None, bundle: str, promised: dict[str, bool] | None = None) -> None:
        self.ops = ops
        self.spec = spec
        self.linux = spec.get("linux", {})
        self.overlay = overlay
        self.bundle = bundle
        self.promised = promised or {}
        self.root = Slot("root")
        self.proc: Slot | None = None
        self.dev: Slot | None = None
        self.devpts: Slot | None = None
        self._empty: Slot | None = None

    def enter(self) -> None:
        """Private propagation, and the root file system mounted in the container's own mount namespace."""
        ops = self.ops
        shares = (
            any(o in ("shared", "rshared", "slave", "rslave") for m in self.spec.get("mounts", ()) for o in m.get("options", ()))
            or "s" in self.linux.get("rootfsPropagation", "")[:2]
        )
        ops.call(
            "mount",
            0,
            "/",
            0,
            MS["MS_REC"] | (MS["MS_SLAVE"] if shares else MS["MS_PRIVATE"]),
            0,
            why="what is mounted here from now on stays unknown to the host",
        )
        readonly = self.spec["root"].get("readonly", False)
        if self.overlay:
            o = self.overlay
            ops.call(
                "mount",
                "overlay",
                o.target,
                "overlay",
                0,
                o.options(),
                why="the image's layers, read only, below a writable layer of this container alone",
            )
            ops.open(None, o.target, O["O_PATH"] | O["O_DIRECTORY"], name="root", why="the root, by descriptor from here on")
            self.root = ops[-1].out
        else:
            path = os.path.join(self.bundle, self.spec["root"]["path"])
            self.root = ops.clone_tree(None, path, recursive=True, why="the root is a directory of the host: a bind of it")
            self.root.name = "root"
            place = ops.open(
                None, path, O["O_PATH"] | O["O_DIRECTORY"], name="root directory", why="where it is bound: over itself"
            )
            ops.attach(self.root, place, why="pivot_root needs the new root to be a mount")
        self.readonly = readonly

    def mounts(self, mounts: list[dict]) -> None:
        """The mounts of the spec, in its order."""
        for m in mounts:
            options = MountOptions(m.get("options") or [])
            if m.get("type") == "bind" or options.bind:
                self._bind(m, options)
            elif m.get("type") in ("cgroup", "cgroup2"):
                raise UsageError("cgroup mounts are planned by plan.py")
            else:
                self._filesystem(m, options)

    def _target(self, m: dict, *, file: bool = False, mode: int = 0o755) -> Slot:
        return self.ops.make(
            self.root,
            clean(m["destination"]),
            file=file,
            mode=mode,
            why=f"where {m['destination']} is mounted (made if the image lacks it)",
        )

    def _filesystem(self, m: dict, options: MountOptions) -> None:
        ops, fstype, destination = self.ops, m["type"], clean(m["destination"])
        why = _WHY.get(fstype, f"a new {fstype}")
        mount = ops.filesystem(
            fstype, options.data, options.attr_set, source=m.get("source") or fstype, why=f"{destination}: {why}"
        )
        target = self._target(m)
        ops.attach(mount, target, why=f"{destination} is in its place")
        self._recursive(mount, options, destination)
        if fstype == "proc" and destination == "proc":
            self.proc = mount
        elif fstype == "devpts" and destination == "dev/pts":
            self.devpts = mount
        elif destination == "dev":
            self.dev = mount

    def _bind(self, m: dict, options: MountOptions) -> None:
        ops = self.ops
        source = os.path.join(self.bundle, m["source"])
        try:
            is_directory = S_ISDIR(os.stat(source).st_mode)
        except OSError as e:
            if source not in self.promised:
                raise UsageError(
                    f'cannot bind "{source}" to "{m["destination"]}": {e.strerror}', "create it, or name a path that exists"
                ) from e
            is_directory = self.promised[source]
        tree = self._tree(source, options.recursive)
        ops.set_attributes(tree, on=options.attr_set, off=options.attr_clr, why=f"its options: {' '.join(m.get('options') or [])}")
        self._recursive(tree, options, m["destination"])
        target = self._target(m, file=not is_directory)
        ops.attach(tree, target, why=f"{m['destination']} is in its place")

    def _tree(self, source: str, recursive: bool) -> Slot:
        """A detached copy of source; of a mount of another mount namespace (/proc/PID/root/…) it can be made only in there."""
        ops, why = self.ops, f"a bind of {source}"
        top, proc, pid, root, *rest = [*source.split("/", 4), "", "", "", ""][:5]
        if (top, proc, root) != ("", "proc", "root") or not pid.isdecimal() or not rest[0]:
            return ops.clone_tree(None, source, recursive=recursive, why=why)
        here = ops.open(None, "/proc/self/ns/mnt", 0, name="our mount namespace", why="the way back")
        there = ops.open(None, f"/proc/{pid}/ns/mnt", 0, name=f"mount namespace of {pid}", why=f"{source} is mounted in there")
        ops.call("setns", there, CLONE["CLONE_NEWNS"], why="the kernel copies only mounts of the namespace that one is in")
        inside = ops.open(
            None, "/" + rest[0], O["O_PATH"], name=source, resolve=RESOLVE_NO_SYMLINKS, why="no link of its container is followed"
        )
        tree = ops.clone_tree(inside, "", recursive=recursive, why=why)
        ops.call("setns", here, CLONE["CLONE_NEWNS"], why="back")
        return tree

    def _recursive(self, mount: Slot, options: MountOptions, what: str) -> None:
        self.ops.set_attributes(mount, on=options.rec_set, off=options.rec_clr, recursive=True, why=f"{what}: options of all below")
        self.ops.set_attributes(mount, propagation=options.propagation, why=f"{what}: propagation")
        self.ops.set_attributes(mount, propagation=options.rec_propagation, recursive=True, why=f"{what}: propagation of all below")

    def cgroup_mount(self, m: dict, cgroup: object, private: bool) -> None:
        """/sys/fs/cgroup as this host has cgroups: one v2 tree, or a tmpfs with the v1 hierarchies (and unified)."""
        ops, options = self.ops, MountOptions(m.get("options") or [])
        trees = cgroup.mounts()  # type: ignore[attr-defined]
        if len(trees) == 1 and trees[0].name == "":
            self._cgroup_tree(trees[0], clean(m["destination"]), options.attr_set, private)
            return
        base = clean(m["destination"])
        tmpfs = ops.filesystem("tmpfs", [("mode", "755")], options.attr_set & ~RDONLY, why=f"{base}: holds the v1 hierarchies")
        ops.attach(tmpfs, self._target(m), why=f"{base} is in its place")
        for tree in trees:
            self._cgroup_tree(tree, f"{base}/{tree.name}", options.attr_set, private)
            for link in tree.links:
                ops.call("symlinkat", tree.name, tmpfs, link, why=f"{link} is in the hierarchy {tree.name}")
        if options.attr_set & RDONLY:
            ops.set_attributes(tmpfs, on=RDONLY, why=f"{base} itself is read only too")

    def _cgroup_tree(self, tree: object, destination: str, attr: int, private: bool) -> None:
        ops = self.ops
        if private:
            mount = ops.filesystem(tree.fstype, tree.options, attr, why=f"/{destination}: its root is this container's own cgroup")  # type: ignore[attr-defined]
        else:
            mount = ops.clone_tree(None, tree.path, why=f"/{destination}: this container's own cgroup")  # type: ignore[attr-defined]
            ops.set_attributes(mount, on=attr, why="limits are the host's to set")
        ops.attach(mount, ops.make(self.root, destination, why="its mount point"), why=f"/{destination} is in its place")

    def devices(self) -> None:
        """Device nodes and links in /dev."""
        ops = self.ops
        dev = self.dev or ops.path(self.root, "dev", directory=True, why="/dev of the root itself")
        ops.call("umask", 0, why="modes are meant as they are written")
        for name, major, minor in DEFAULT_DEVICES:
            self._node(
                dev, name, S_IF["S_IFCHR"] | 0o666, os.makedev(major, minor), f"/dev/{name}: config-linux.md, Default Devices"
            )
        for name, target in DEFAULT_LINKS:
            if name == "core" and not os.path.exists(target):
                continue  # as runc: no link to what this kernel was built without
            ops.call("symlinkat", target, dev, name, ok=(EEXIST,), why=f"/dev/{name} -> {target}")
        for d in self.linux.get("devices", ()):
            self._device(dev, d)

    def _device(self, dev: Slot, d: dict) -> None:
        path = clean(d["path"])
        kind = {"c": "S_IFCHR", "u": "S_IFCHR", "b": "S_IFBLK", "p": "S_IFIFO"}[d["type"]]
        mode = S_IF[kind] | d.get("fileMode", 0o666) & 0o7777
        folder, _, name = path.rpartition("/")
        where = dev if folder == "dev" else self.ops.make(self.root, folder or ".", why=f"where {name} goes")
        self._node(where, name, mode, os.makedev(d.get("major", 0), d.get("minor", 0)), f"/{path}: asked for")
        if d.get("uid") or d.get("gid"):
            self.ops.call("fchownat", where, name, d.get("uid", 0), d.get("gid", 0), 0x100, why=f"/{path}: its owner")

    def _node(self, dev: Slot, name: str, mode: int, number: int, why: str) -> None:
        self.ops.call("mknodat", dev, name, mode, number, ok=(EEXIST,), why=why)

    def console(self, socket: Slot, process: dict) -> Slot:
        """A terminal of the container's own devpts: its master goes to whoever asked, its peer becomes /dev/console."""
        ops, uid, size = self.ops, process.get("user", {}).get("uid", 0), process.get("consoleSize")
        devpts = self.devpts or ops.path(self.root, "dev/pts", directory=True, why="terminals of the root itself")
        master = ops.open(
            devpts,
            "ptmx",
            O["O_RDWR"] | O["O_NOCTTY"],
            name="pty master",
            resolve=1 | 2 | 4 | 8,
            why="a new terminal pair; the number comes from the container's own devpts",
        )
        ops.call("ioctl", master, TIOCSPTLCK, Blob(bytes(4), "0"), why="unlock its other end")
        peer = Slot("pty peer")
        ops.call(
            "ioctl",
            master,
            TIOCGPTPEER,
            O["O_RDWR"] | O["O_NOCTTY"] | O["O_CLOEXEC"],
            out=peer,
            why="the other end by descriptor: no path, so nothing to swap (CVE-2025-52565)",
        )
        if size:
            ops.call(
                "ioctl",
                master,
                TIOCSWINSZ,
                Blob(pack("HHHH", size["height"], size["width"], 0, 0), f"{size['height']} rows, {size['width']} columns"),
                why="its size, before the program asks for it",
            )
        if uid:
            ops.call("fchown", peer, uid, 0xFFFFFFFF, why="the terminal belongs to the container's user")
        if self.dev:
            tree = ops.clone_tree(peer, "", why="a bind of the terminal")
            ops.attach(tree, ops.make(self.root, "dev/console", file=True, why="/dev/console"), why="/dev/console is this terminal")
        from minicontainer.stub.ops import send_fd

        ops.append(send_fd(socket, master, "/dev/ptmx", why="its master end goes to the caller, who shows it to a person"))
        return peer

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
        for path in self.linux.get("maskedPaths") or ():
            self._mask(clean(path))

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
            tree = ops.clone_tree(self._empty_directory(), "", why="an empty read-only directory")
            ops.attach(tree, place, why=f"/{path} looks empty")
        if kind is not True:
            place = ops.path(self.root, path, ok=(ENOENT, ENOTDIR), why=f"/{path} is to be hidden (if it is there)")
            tree = ops.clone_tree(self.null, "", why="the host's own /dev/null: no file of the image poses as it (CVE-2025-31133)")
            # A directory was hidden above already, and a file can't be mounted on one.
            ops.call(
                "move_mount", tree, "", place, "", 4 | 0x40, ok=(ENOTDIR,) if kind is None else (), why=f"/{path} reads as nothing"
            )

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
        if self._empty is None:
            # It has to be mounted somewhere before it can be cloned: over the place that pivot_root will bury.
            ops = self.ops
            self._empty = ops.filesystem(
                "tmpfs",
                [("mode", "755"), ("size", "0")],
                RDONLY | NOSUID | NODEV | NOEXEC,
                why="an empty directory, to hide directories behind",
            )
            ops.attach(self._empty, self.host_proc, why="over the host's /proc, which pivot_root is about to bury")
        return self._empty

    def pivot(self) -> None:
        """The container's root becomes /, and the host's is gone."""
        ops = self.ops
        propagation = {"shared": "MS_SHARED", "slave": "MS_SLAVE", "private": "MS_PRIVATE", "unbindable": "MS_UNBINDABLE"}
        asked = self.linux.get("rootfsPropagation", "")
        if self.readonly:
            ops.set_attributes(self.root, on=RDONLY, why="the root is read only (its mounts are what they are)")
        ops.call("fchdir", self.root, why="pivot_root(2): the new root is here")
        ops.call("pivot_root", ".", ".", why="the new root becomes /, the host's root lies on top of it")
        ops.call("umount2", ".", MNT["MNT_DETACH"], why="the host's root is gone, and nothing leads back")
        ops.call("chdir", "/", why="stand on the new root")
        if asked:
            name = propagation[asked[1:] if asked[0] == "r" and asked[1:] in propagation else asked]
            recursive = MS["MS_REC"] if asked[1:] in propagation else 0
            ops.call("mount", 0, "/", 0, MS[name] | recursive, 0, why=f"rootfsPropagation {asked}")


def clean(path: str) -> str:
    """A destination, lexically clean and relative to the root: "/a/../b//c" is "b/c"."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


_WHY = {
    "proc": "shows the processes of the new pid namespace, and no others",
    "sysfs": "the kernel's devices and settings; its network part is the new network namespace's",
    "tmpfs": "files in memory, gone with the container",
    "devpts": "terminals of this container alone (newinstance)",
    "mqueue": "POSIX message queues of the new ipc namespace",
}
