"""The mounts of a spec as ops: file systems, binds (with mapped ids), remounts, and the cgroups (config.md, "Mounts").

A file system is made or copied first and gets its place afterwards, by descriptors. What shows another user namespace's
network, processes or queues can't be made from inside (user_namespaces(7)): it is made or copied outside, with our rights.
"""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISDIR
from struct import pack

from minicontainer.errors import Unsupported, UsageError
from minicontainer.kernel.flags import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    CLONE,
    MOUNT_ATTR,
    MS,
    PROC_SUPER_MAGIC,
    RESOLVE_NO_SYMLINKS,
    O,
)
from minicontainer.runtime.builder import IN_ROOT, Ops
from minicontainer.runtime.mounts import MountOptions
from minicontainer.runtime.namespaces import COPY_UP
from minicontainer.runtime.rootfs import RDONLY, Rootfs, clean
from minicontainer.stub.ops import Blob, Slot, check_filesystem, send_fd, store, wait

# File systems that root of a user namespace may make (FS_USERNS_MOUNT).
_ANYBODYS = frozenset(("tmpfs", "ramfs", "devpts", "proc", "sysfs", "mqueue", "overlay", "fuse", "bpf", "binder"))
# What shows a namespace: its type, and where the host has it mounted.
_SHOWS = {"sysfs": ("network", "/sys"), "proc": ("pid", "/proc"), "mqueue": ("ipc", "/dev/mqueue")}
_PLAIN = frozenset(("proc", "sysfs"))
_WHY = {
    "proc": "shows the processes of the new pid namespace, and no others",
    "sysfs": "the kernel's devices and settings; its network part is the new network namespace's",
    "tmpfs": "files in memory, gone with the container",
    "devpts": "terminals of this container alone (newinstance)",
    "mqueue": "POSIX message queues of the new ipc namespace",
}


class Mounting:
    """Collects the ops of the mounts. root: the Rootfs they go into; sync: to the parent, for what takes a program to copy.

    idmaps: the user namespaces that mounts with mapped ids need: slot by (uid mappings, gid mappings) in the form of uid_map;
    copy_ups: how often the stub asks for a copy; warnings: what was asked for and means nothing.
    """

    def __init__(self, root: Rootfs, sync: Slot) -> None:
        self.root = root
        self.ops = root.ops
        self.sync = sync
        self.idmaps: dict[tuple[str, str], Slot] = {}
        self.copy_ups = 0
        self.warnings: list[str] = []
        self._tied: dict[int, Slot] = {}
        self._proc_is_there = False

    def tie(self, mounts: list[dict]) -> None:
        """Binds that stay tied to the host's mounts: its peers are copied before all else, its slaves in their turn.

        A peer shows the host what is mounted in it, so that takes rootfsPropagation as well, as in runc; else it is a slave.
        """
        two_ways = (self.root.linux.get("rootfsPropagation") or "") in ("shared", "rshared")
        for m in mounts:
            options = MountOptions(m.get("options") or [])
            if options.tied() and _is_bind(m, options) and not options.remount:
                if two_ways:
                    source = os.path.join(self.root.bundle, m["source"])
                    self._tied[id(m)] = self._tree(self.root.early, source, options.recursive)
                else:
                    self.root.propagation = MS["MS_SLAVE"]

    def mounts(self, mounts: list[dict]) -> None:
        """The mounts of the spec, in its order."""
        for m in mounts:
            options = MountOptions(m.get("options") or [])
            if options.remount:
                self._remount(m, options)
            elif _is_bind(m, options):
                self._bind(m, options)
            else:
                self._filesystem(m, options)
            self._proc_is_there |= clean(m["destination"]) == "proc"

    def _target(self, m: dict, *, file: bool = False) -> Slot:
        """Where a mount goes. Not into a proc, by whatever link of the image: programs ask it what they may do (CVE-2019-16884)."""
        ops, destination = self.ops, clean(m["destination"])
        why, resolve = f"where {m['destination']} is mounted (made if the image lacks it)", 0
        if m.get("type") in _PLAIN or destination in ("proc", "dev"):
            # By no link: what comes after relies on what is there (CVE-2019-19921, CVE-2023-27561).
            why, resolve = f"{m['destination']} must be mounted on ordinary directory", RESOLVE_NO_SYMLINKS
        target = ops.make(self.root.root, destination, file=file, resolve=resolve, why=why)
        if self._proc_is_there and destination != "proc" and not destination.startswith("proc/"):
            ops.append(check_filesystem(target, PROC_SUPER_MAGIC, other=True, why=f"{m['destination']} is no way into /proc"))
        return target

    def _attach(self, mount: Slot, m: dict, *, file: bool = False, options: MountOptions | None = None) -> None:
        """A mount gets its place; one on / becomes the root that all later ones go into."""
        target = self._target(m, file=file)
        if options and options.copy_up:
            self._copy_up(target, mount, clean(m["destination"]), m["type"])
        self.ops.attach(mount, target, why=f"{m['destination']} is in its place")
        if clean(m["destination"]) == ".":
            self.root.root = mount

    # -- file systems ----------------------------------------------------------------------------------------------------------

    def _filesystem(self, m: dict, options: MountOptions) -> None:
        ops, root, fstype, destination = self.ops, self.root, m["type"], clean(m["destination"])
        if options.idmap or m.get("uidMappings"):
            raise UsageError(f'mount "{m["destination"]}": id-mapped mounts are only supported for bind-mounts')
        data = [*options.data, *root.label(fstype)]
        later = options.attr_set & RDONLY and (fstype == "tmpfs" or destination == "dev")
        attr = options.attr_set & ~RDONLY if later else options.attr_set
        if fstype == "tmpfs" and not any(key == "mode" for key, _ in data):
            data += self._mode_of(destination)
        kind, where = _SHOWS.get(fstype, ("", ""))
        foreign = bool(kind) and root.names.shared(kind)
        if foreign and root.direct:
            mount = ops.clone_tree(None, where, recursive=True, why=f"/{destination}: the host's, since the {kind} namespace is")
            ops.set_attributes(mount, on=attr, recursive=True, why=f"its options: {' '.join(m.get('options') or [])}")
        else:
            out = root.outside if foreign or fstype not in _ANYBODYS or options.copy_up else ops
            if options.copy_up and out is not ops:
                data += _owned_by_root(root.linux)
            if foreign and fstype == "proc" and "pid" in root.names.joined and not root.names.by_parent:
                # Neither this process nor the one that makes it can be in there (Linux 6.17 has the option).
                data.append(("pidns", root.names.joined["pid"]))
            why = f"/{destination}: {_WHY.get(fstype, f'a new {fstype}')}"
            mount = out.filesystem(fstype, data, attr, source=m.get("source") or fstype, why=why)
        self._attach(mount, m, options=options)
        self._propagation(ops, mount, options, destination)
        if later:
            root.readonly_later.append((mount, f"/{destination}"))
        if fstype == "proc" and destination == "proc":
            root.proc = mount
        elif fstype == "devpts" and destination == "dev/pts":
            root.devpts = mount
        elif destination == "dev":
            root.dev = mount

    def _mode_of(self, destination: str) -> list[tuple[str, str | None]]:
        """The mode of the directory that a tmpfs hides, as its own (as runc): of a root that is a folder, looked at from here."""
        if self.root.overlay:
            return []
        from minicontainer.errors import KernelError
        from minicontainer.kernel import calls

        try:
            root = os.open(
                os.path.join(self.root.bundle, self.root.spec["root"]["path"]), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            )
        except OSError:
            return []  # opening it as an op says what is wrong with it
        try:
            fd = calls.openat2(root, destination, O["O_PATH"] | O["O_DIRECTORY"], resolve=IN_ROOT)
        except KernelError:
            return []  # it will be made
        finally:
            os.close(root)
        mode = S_IMODE(os.fstat(fd).st_mode)
        os.close(fd)
        return [("mode", f"{mode:o}")]

    def _copy_up(self, target: Slot, mount: Slot, destination: str, fstype: str) -> None:
        """tmpcopyup: this process copies, since it takes a program, by the descriptors that the stub hands it."""
        if fstype != "tmpfs":
            raise UsageError(f'mount "/{destination}": tmpcopyup is for tmpfs')
        ops = self.ops
        source = ops.open(target, ".", O["O_DIRECTORY"], name=f"old /{destination}", why="what the tmpfs is to begin with")
        ops.append(send_fd(self.sync, source, "from", why="what to copy"))
        ops.append(send_fd(self.sync, mount, COPY_UP.decode(), why="where to copy it"))
        ops.append(wait(self.sync, why="until it is copied"))
        self.copy_ups += 1

    def _remount(self, m: dict, options: MountOptions) -> None:
        """Other options for what is mounted there: of the mount itself; with data, unless it is called a bind, of the file system
        too (mount(2), MS_REMOUNT)."""
        ops, destination = self.ops, clean(m["destination"])
        if self.root.loose and (options.attr_set or options.attr_clr):
            raise Unsupported(
                f'mount "{m["destination"]}": a remount of one mount needs a mount namespace of the container\'s own',
                'add {"type": "mount"} to linux.namespaces, or give the options to the mount itself',
            )
        mount = ops.path(self.root.root, destination, why=f"/{destination}, which is mounted already")
        shown = " ".join(m.get("options") or [])
        ops.set_attributes(mount, on=options.attr_set, off=options.attr_clr, why=f"its options from now on: {shown}")
        if options.data and not _is_bind(m, options):
            ops.reconfigure(mount, options.data, what=f"/{destination}")
        self._propagation(ops, mount, options, destination)

    # -- binds -----------------------------------------------------------------------------------------------------------------

    def _bind(self, m: dict, options: MountOptions) -> None:
        if ignored := options.not_for_bind():
            self.warnings.append(f'mount "{m["destination"]}": a bind mount has no options of a file system: {", ".join(ignored)}')
        source = os.path.join(self.root.bundle, m["source"])
        is_directory = self._is_directory(source, m["destination"])
        out = self.root.outside
        tree = self._tied.get(id(m)) or self._tree(out, source, options.recursive)
        if self.root.propagation == MS["MS_SLAVE"] and not options.tied():
            out.set_attributes(tree, propagation=MS["MS_PRIVATE"], recursive=True, why="what the host mounts later is not seen")
        self._map_ids(out, tree, m, options)
        shown = " ".join(m.get("options") or [])
        out.set_attributes(tree, on=options.attr_set, off=options.attr_clr, why=f"its options: {shown}")
        if self.root.names.user and options.tied():
            # As the kernel does for a new mount namespace: what is mounted in there never shows outside (CL_SHARED_TO_SLAVE).
            out.set_attributes(tree, propagation=MS["MS_SLAVE"], recursive=True, why="a user namespace's mounts stay in it")
        self._propagation(out, tree, options, m["destination"])
        self._attach(tree, m, file=not is_directory)

    def _is_directory(self, source: str, destination: str) -> bool:
        try:
            return S_ISDIR(os.stat(source).st_mode)
        except OSError as e:
            if source not in self.root.promised:
                message = f'cannot bind "{source}" to "{destination}": {e.strerror}'
                raise UsageError(message, "create it, or name a path that exists") from e
            return self.root.promised[source]

    def _tree(self, ops: Ops, source: str, recursive: bool) -> Slot:
        """A detached copy of source; of a mount of another mount namespace (/proc/PID/root/…) it can be made only in there."""
        why = f"a bind of {source}"
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

    def _map_ids(self, ops: Ops, tree: Slot, m: dict, options: MountOptions) -> None:
        """Ids on disk become others in the mount (mount_setattr(2), "ID-mapped mounts"): those of a user namespace made for it."""
        if not options.idmap and not m.get("uidMappings"):
            return
        from minicontainer.runtime.userns import lines

        uids, gids = (m.get(field) or self.root.linux.get(field) or () for field in ("uidMappings", "gidMappings"))
        if not uids or not gids:
            raise UsageError(
                f'mount "{m["destination"]}": id-mapped mounts must have both uid and gid mappings specified', "give both"
            )
        slot = self.idmaps.setdefault((lines(uids), lines(gids)), Slot("user namespace of the ids"))
        words = Blob(pack("QQQQ", MOUNT_ATTR["MOUNT_ATTR_IDMAP"], 0, 0, 0), "set MOUNT_ATTR_IDMAP")
        ops.append(store(slot, words, 24, why="the mapping is that of a user namespace"))
        flags = AT_EMPTY_PATH | (AT_RECURSIVE if options.idmap == "ridmap" else 0)
        ops.call("mount_setattr", tree, "", flags, words, 32, why=f"{m['destination']}: its files belong to other ids in here")

    def _propagation(self, ops: Ops, mount: Slot, options: MountOptions, what: str) -> None:
        ops.set_attributes(mount, on=options.rec_set, off=options.rec_clr, recursive=True, why=f"{what}: options of all below")
        ops.set_attributes(mount, propagation=options.propagation, why=f"{what}: propagation")
        ops.set_attributes(mount, propagation=options.rec_propagation, recursive=True, why=f"{what}: propagation of all below")

    # -- cgroups ---------------------------------------------------------------------------------------------------------------

    def cgroups(self, m: dict, cgroup: object, private: bool) -> None:
        """/sys/fs/cgroup as this host has cgroups: one v2 tree, or a tmpfs with the v1 hierarchies (and unified).

        private: the container has a cgroup namespace, whose root is what it sees.
        """
        ops, options, base = self.ops, MountOptions(m.get("options") or []), clean(m["destination"])
        trees = cgroup.mounts()  # type: ignore[attr-defined]
        if not trees:
            host = self.root.outside.clone_tree(
                None, "/sys/fs/cgroup", recursive=True, why="the host's: we have no group of our own"
            )
            ops.set_attributes(host, on=options.attr_set | RDONLY, recursive=True, why="it is the host's to change")
            ops.attach(host, self._target(m), why=f"/{base} is in its place")
            return
        if len(trees) == 1 and trees[0].name == "":
            self._cgroup_tree(trees[0], self._target(m), base, options.attr_set, private)
            return
        tmpfs = ops.filesystem("tmpfs", [("mode", "755")], options.attr_set & ~RDONLY, why=f"/{base}: holds the v1 hierarchies")
        for tree in trees:
            ops.call("mkdirat", tmpfs, tree.name, 0o755, why=f"where the hierarchy {tree.name} goes")
            for link in tree.links:
                ops.call("symlinkat", tree.name, tmpfs, link, why=f"{link} is in the hierarchy {tree.name}")
        # Now: in a container without a mount namespace a mount that has its place takes no attributes any more.
        ops.set_attributes(tmpfs, on=options.attr_set & RDONLY, why=f"/{base} itself is read only too")
        ops.attach(tmpfs, self._target(m), why=f"/{base} is in its place")
        for tree in trees:
            place = ops.path(tmpfs, tree.name, why="its mount point")
            self._cgroup_tree(tree, place, f"{base}/{tree.name}", options.attr_set, private)

    def _cgroup_tree(self, tree: object, place: Slot, destination: str, attr: int, private: bool) -> None:
        ops = self.ops
        if private:
            why = f"/{destination}: its root is this container's own cgroup"
            mount = ops.filesystem(tree.fstype, tree.options, attr, why=why)  # type: ignore[attr-defined]
        else:
            out = self.root.outside
            mount = out.clone_tree(None, tree.path, why=f"/{destination}: this container's own cgroup")  # type: ignore[attr-defined]
            out.set_attributes(mount, on=attr, why="limits are the host's to set")
        ops.attach(mount, place, why=f"/{destination} is in its place")


def _owned_by_root(linux: dict) -> list[tuple[str, str | None]]:
    """Options by which a tmpfs that is made outside belongs to the root of a new user namespace."""
    return [
        (option, str(m["hostID"]))
        for option, field in (("uid", "uidMappings"), ("gid", "gidMappings"))
        for m in linux.get(field) or ()
        if m["containerID"] == 0
    ]


def _is_bind(m: dict, options: MountOptions) -> bool:
    """By its options, or by its type as older configurations have it; its type is often "none"."""
    return options.bind or m.get("type") in ("bind", "rbind")
