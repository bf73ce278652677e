"""Cgroup: one container's group in every hierarchy of the host, behind one interface."""

from __future__ import annotations

import os
from errno import ENOENT

from minicontainer.cgroup import making, settings, tree
from minicontainer.cgroup.blockio import blockio
from minicontainer.cgroup.cpu import cpu, cpuset
from minicontainer.cgroup.hierarchy import Hierarchy
from minicontainer.cgroup.memory import memory
from minicontainer.cgroup.others import hugetlb, network, pids, rdma, unified
from minicontainer.cgroup.paths import DEFAULT_PARENT, clean
from minicontainer.cgroup.settings import Setting
from minicontainer.errors import LimitError, Unsupported
from minicontainer.stub.ops import Op, syscall, write_file

# (v1 controller, v2 controller, settings of a section of resources)
_SECTIONS = (
    ("memory", "memory", memory),
    ("cpu", "cpu", cpu),
    ("cpuset", "cpuset", cpuset),
    ("pids", "pids", pids),
    ("blkio", "io", blockio),
    ("hugetlb", "hugetlb", hugetlb),
    ("rdma", "rdma", rdma),
)
# Files with a line for each device, which several settings may write.
_BY_DEVICE = frozenset(("io.max", "io.weight", "io.bfq.weight", "rdma.max"))


class Tree:
    """One hierarchy as a container sees it mounted.

    name: below /sys/fs/cgroup ("" if it is all there is); fstype and options as for mount(8); path: the container's group on
    the host; links: further names, for a hierarchy with several controllers.
    """

    __slots__ = ("fstype", "links", "name", "options", "path")

    def __init__(self, name: str, fstype: str, options: list[tuple[str, str | None]], path: str, links: list[str]) -> None:
        self.name = name
        self.fstype = fstype
        self.options = options
        self.path = path
        self.links = links


class Cgroup(settings.Group):
    """The group at path ("/minicontainer/ID", or "ID" below parent) in every tree of the hierarchy.

    born_outside: the first process can't be born in it or enter it by itself, but has to be moved from outside by adopt(pid)
    and enter_ops(pid), while it waits (systemd.py).
    UsageError for a path that a container may not have (paths.clean). Nothing is made before the ops of create_ops run.
    """

    born_outside = False

    def __init__(self, hierarchy: Hierarchy, path: str, parent: str = DEFAULT_PARENT) -> None:
        self.hierarchy = hierarchy
        self.path = clean(path, parent)
        self.sys = hierarchy.sys
        self._names = self.path.split("/")[1:]
        self._planned: tuple[object, list[Setting]] | None = None

    # --- where things are

    def unified_dir(self) -> str | None:
        """The group in the v2 tree, for clone3's CLONE_INTO_CGROUP; None on pure v1."""
        return self.hierarchy.unified + self.path if self.hierarchy.unified else None

    def directories(self) -> list[str]:
        """The group in every tree."""
        return [base + self.path for base in self.hierarchy.trees()]

    def directory(self, controller: str) -> str:
        """The group in the tree that has this controller (v1's or v2's name of it). Unsupported if none has."""
        folder = self._folder(controller)
        if not folder:
            raise Unsupported(
                f"this host has no cgroup controller {controller}",
                f"it has {' '.join(sorted(self.hierarchy.controllers)) or 'none'}",
            )
        return folder

    def _folder(self, controller: str) -> str:
        h = self.hierarchy
        base = h.mounts.get(controller)
        if base is None and (controller in h.unified_controllers or controller == "cgroup"):
            base = h.unified
        return base + self.path if base else ""

    def mounts(self) -> list[Tree]:
        """The trees as a container with a cgroup mount should see them; none where it has no group of its own."""
        h = self.hierarchy
        if not h.trees():
            return []
        if h.mode == "v2":
            return [Tree("", "cgroup2", [], f"{h.unified}{self.path}", [])]
        out = []
        for base in dict.fromkeys(h.mounts.values()):
            held = [c for c, where in h.mounts.items() if where == base]
            options: list[tuple[str, str | None]] = []
            for c in held:
                named, _, name = c.partition("=")
                options += [("none", None), ("name", name)] if name else [(named, None)]
            last = base.rpartition("/")[2]
            out.append(Tree(last, "cgroup", options, base + self.path, [c for c in held if c != last and "=" not in c]))
        if h.unified:
            out.append(Tree("unified", "cgroup2", [], h.unified + self.path, []))
        return out

    # --- what settings.Group asks

    def current(self, controller: str, file: str) -> str:
        folder = self._folder(controller)
        return tree.read(f"{folder}/{file}") if folder else ""

    def parent(self, controller: str, file: str) -> str:
        at = self.directory(controller)
        for _ in self._names:
            at = at.rpartition("/")[0]
            text = tree.read(f"{at}/{file}")
            if text.strip():
                return text
        return ""

    def has(self, controller: str, file: str) -> bool:
        """Looks at the groups there are, since a root lacks most v2 files; if there are none the kernel will say."""
        at = self.directory(controller)
        base = at[: -len(self.path)]
        if os.path.exists(f"{base}/{file}"):
            return True
        if controller in self.hierarchy.mounts and controller != "blkio":
            return False  # of the v1 files that are asked for here, only blkio's weights are missing in the root
        above = [base + "/" + "/".join(self._names[:n]) for n in range(len(self._names), 0, -1)]
        for group in (*above, *tree.groups_in(base)):
            known = (
                os.path.exists(group)
                if controller in self.hierarchy.mounts
                else (controller == "cgroup" or controller in tree.read(f"{group}/cgroup.controllers").split())
            )
            if known:
                return os.path.exists(f"{group}/{file}")
        return True

    def known(self, controller: str) -> bool:
        return bool(self._folder(controller))

    def is_v1(self, controller: str) -> bool:
        return controller in self.hierarchy.mounts

    # --- limits

    def settings(self, resources: dict) -> list[Setting]:
        """Every limit asked for, checked: LimitError for a wrong value, Unsupported for what this host can't do."""
        h = self.hierarchy
        out: list[Setting] = []
        if not h.trees() and not any(resources.values()):
            return out  # no group, and none needed: a container without root
        for v1_name, v2_name, section in _SECTIONS:
            out += section(resources, self, v1_name not in h.mounts and v2_name in h.unified_controllers)
        out += network(resources, self, not h.mounts.keys() & {"net_cls", "net_prio"})
        if resources.get("unified"):
            if not h.unified:
                raise Unsupported(
                    "invalid configuration: cannot use unified on cgroup v1: this host has no cgroup v2 tree",
                    "use the other sections of resources, or boot with cgroup v2",
                )
            by_name = unified(resources, self)
            named = {setting.file for setting in by_name if setting.file not in _BY_DEVICE}
            out = [setting for setting in out if setting.file not in named] + by_name  # unified has the last word
        if resources.get("devices") and "devices" in h.mounts:
            from minicontainer.cgroup import devices

            out += devices.v1_settings(resources, self)
        if out:
            self._check_any()
        for setting in out:
            if setting.controller not in h.controllers and setting.controller != "cgroup":
                raise Unsupported(
                    f"{setting.limit}: this host has no cgroup controller {setting.controller}",
                    f"it has {' '.join(sorted(h.controllers))}",
                )
        self._planned = (resources, out)
        return out

    def verify(self, resources: dict) -> None:
        """Reads every limit back. LimitError names the first that the kernel does not hold as asked."""
        planned = self._planned
        asked = planned[1] if planned and planned[0] is resources else self.settings(resources)
        texts: dict[str, str] = {}
        for setting in asked:
            path = f"{self.directory(setting.controller)}/{setting.shown}"
            got = texts.get(path)
            if got is None:
                got = texts[path] = tree.read(path)
            if not setting.same(setting.value, got):
                raise LimitError(
                    f'{setting.limit}: asked for "{setting.value}", but the kernel has "{_short(got)}"',
                    f"see {path}; a limit of a group above it may be in the way",
                )
        if self._asks_bpf(resources):
            from minicontainer.cgroup import bpf

            bpf.verify(self.directory("cgroup"))

    def _asks_bpf(self, resources: dict) -> bool:
        return bool(self.hierarchy.unified) and self.hierarchy.mode == "v2" and bool(resources.get("devices"))

    # --- ops

    def create_ops(self, resources: dict) -> list[Op]:
        """Host ops that make the group in every tree, with its limits.

        A group that is there already, with no process in it, is used as it is (kubelet and administrators prepare groups);
        Conflict if it is frozen or has processes.
        """
        asked = self.settings(resources)
        return making.existing_ops(self.directories(), self.frozen) + self._make_ops(asked, resources)

    def _make_ops(self, asked: list[Setting], resources: dict) -> list[Op]:
        h = self.hierarchy
        ops: list[Op] = []
        for base in h.trees():
            ops += making.mkdir_ops(base, self.path)
            if base == h.unified:
                ops += making.controller_ops(h, self.path, asked)
            if base == h.mounts.get("cpu"):
                ops += making.realtime_ops(base, self.path, asked)
            if base == h.mounts.get("cpuset"):
                ops += making.cpuset_ops(base, self.path, {setting.file for setting in asked})
        return ops + self._set_ops(asked, resources)

    def update_ops(self, resources: dict) -> list[Op]:
        """Host ops that change the limits named, in an order in which each step is valid."""
        asked = self.settings(resources)
        ops = making.controller_ops(self.hierarchy, self.path, asked) if self.hierarchy.unified else []
        return ops + self._set_ops(asked, resources)

    def adopt(self, pid: int, annotations: dict[str, str]) -> None:
        """Has whoever owns the tree take the process in; nothing to do where that is us. annotations: of config.json."""

    def announce(self, resources: dict) -> None:
        """Tells whoever owns the tree the limits that update_ops is about to set; nothing to do where that is us."""

    def _set_ops(self, asked: list[Setting], resources: dict) -> list[Op]:
        ops = [
            write_file(f"{self.directory(setting.controller)}/{setting.file}", setting.value, why=f"{setting.limit}: {setting.why}")
            for setting in asked
        ]
        if self._asks_bpf(resources):
            from minicontainer.cgroup import bpf

            ops += bpf.attach_ops(self.directory("cgroup"), resources["devices"])
        return ops

    def own_ops(self, uid: int) -> list[Op]:
        """Host ops that hand the group in the v2 tree to a user, who can make groups below then (cgroups(7), delegation)."""
        group = self.unified_dir()
        names = (
            tree.read(f"{self.sys}/kernel/cgroup/delegate").split() or "cgroup.procs cgroup.subtree_control cgroup.threads".split()
        )
        why = "the container's user may make groups below"
        return [
            syscall("fchownat", -1, path, uid, (1 << 32) - 1, 0, ok=() if path == group else (ENOENT,), why=why)
            for path in (group, *(f"{group}/{name}" for name in names))
        ]

    def enter_ops(self, pid: int = 0) -> list[Op]:
        """Ops by which a process enters every v1 tree; in the v2 tree CLONE_INTO_CGROUP bears it in the group.

        pid 0: for the process that runs the ops (the stub, which has one thread). Writing "0" to `tasks` moves only the writing
        thread, and so the kernel need not wait 6 to 20 ms for all forks to settle (cgroup_threadgroup_rwsem; kernel
        commit 9a3284fad42f, 5.5). Any other pid is moved with all its threads, and waits.
        """
        file = "cgroup.procs" if pid else "tasks"
        why = "the process enters the group" if pid else "enters the group; its one thread alone, so the kernel waits for nobody"
        trees = dict.fromkeys(self.hierarchy.mounts.values())
        return [write_file(f"{base}{self.path}/{file}", str(pid), why=why) for base in trees]

    # --- control

    def exists(self) -> bool:
        """Whether any tree has the group."""
        return any(map(os.path.exists, self.directories()))

    def pids(self) -> list[int]:
        """The processes in the group and below it, as this pid namespace numbers them; [] if it is gone."""
        trees = self.directories()
        return tree.pids(self.unified_dir() or trees[0]) if trees else []

    def freeze(self) -> None:
        """Stops every process; returns when all have stopped."""
        self._check_any()
        from minicontainer.cgroup import control

        control.freeze(self.unified_dir(), self._freezer())

    def thaw(self) -> None:
        """Lets the processes go on."""
        from minicontainer.cgroup import control

        control.thaw(self.unified_dir(), self._freezer())

    def frozen(self) -> bool:
        """Whether the group is frozen."""
        from minicontainer.cgroup import control

        return control.frozen(self.unified_dir(), self._freezer())

    def freezers(self) -> list[str]:
        """The files that say whether it is frozen: cgroup.freeze is 1, or freezer.state is FROZEN or FREEZING."""
        unified, freezer = self.unified_dir(), self._freezer()
        return [f"{unified}/cgroup.freeze"] * bool(unified) + [f"{freezer}/freezer.state"] * bool(freezer)

    def sweep(self) -> tuple[list[str], list[list[str]]]:
        """What remove() comes to for groups that nothing is in, for who does it without us: rmdir of the first, and then of each
        list of parents up to one that is in use. ([], []) where there is more to it."""
        return self.directories(), [making.ancestors(base, self.path)[:0:-1] for base in self._auxiliary()]

    def kill(self, timeout_seconds: float = 5.0) -> bool:
        """SIGKILL to every process, frozen or not, and in groups below too; whether none was left in that time."""
        from minicontainer.cgroup import control

        return control.kill(self.directories(), self.unified_dir(), self._freezer(), timeout_seconds)

    def remove(self, timeout_seconds: float = 2.0) -> None:
        """Removes the group and what is below it from every tree; nothing if it is gone. KernelError while processes stay in it."""
        from minicontainer.cgroup import control

        for path in self.directories():
            control.remove(path, timeout_seconds)
        for base in self._auxiliary():
            control.prune(making.ancestors(base, self.path)[:0:-1])

    def stats(self) -> dict[str, float]:
        """The accounting of the group: plain numbers, the unit in each name; what can't be known is absent (accounting.py)."""
        from minicontainer.cgroup import accounting

        return accounting.stats(self.hierarchy, self.path)

    def _check_any(self) -> None:
        """Unsupported for a container that stays in the group of whoever started it."""
        if not self.hierarchy.trees():
            raise Unsupported(
                "the container has no cgroup of its own: it was made without permission for cgroups",
                "make it as root, or have a cgroup v2 group delegated to you",
            )

    def _freezer(self) -> str | None:
        base = self.hierarchy.mounts.get("freezer")
        return base + self.path if base else None

    def _auxiliary(self) -> list[str]:
        """Trees without controllers. Whoever made our parents (kubelet) did so in the others only; here it was us."""
        h = self.hierarchy
        named = [base for name, base in h.mounts.items() if name.startswith("name=")]
        return [*named, h.unified] if h.unified and h.mode == "hybrid" else named


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "…"
