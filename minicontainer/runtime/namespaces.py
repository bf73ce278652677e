"""Namespaces: which are new, which are joined by path, and the births by which a process comes into them.

Most containers are born once, by a clone3 with a flag for each new namespace. A user namespace must be filled in before
anybody can be root in it, and a time namespace takes only children (user_namespaces(7), time_namespaces(7)). Who is root of
another user namespace than the host's may join a pid namespace, but not go back from it (pid_namespaces(7)). Then there are
two births, and between them all is done that takes the caller's rights:

    this process                    the stub, in our namespaces                     its child: the container
    ────────────                    ───────────────────────────                     ────────────────────────
    clone3 ───────────────────────▶ cgroups, a mount namespace for the while,
                                    copies of what will be mounted,
                                    namespaces by path
                                    unshare(CLONE_NEWUSER)
    uid_map, gid_map ◀── users ──── waits
    one byte ─────────────────────▶ is root in it, unshare(CLONE_NEWTIME)
    timens_offsets ◀── clocks ───── waits
    one byte ─────────────────────▶ clone3(CLONE_PARENT, all other namespaces) ───▶ goes on with the plan
    knows the pid ◀── pidfd ─────── and ends
"""

from __future__ import annotations

import os

from minicontainer.errors import KernelError, UsageError
from minicontainer.kernel import calls
from minicontainer.kernel.flags import CLONE, MS, PR
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob, Slot, clone, wait, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.stub.ops import Op

FLAGS = {
    "pid": CLONE["CLONE_NEWPID"],
    "network": CLONE["CLONE_NEWNET"],
    "mount": CLONE["CLONE_NEWNS"],
    "ipc": CLONE["CLONE_NEWIPC"],
    "uts": CLONE["CLONE_NEWUTS"],
    "cgroup": CLONE["CLONE_NEWCGROUP"],
    "user": CLONE["CLONE_NEWUSER"],
    "time": CLONE["CLONE_NEWTIME"],
}
# In this order: in another mount namespace the paths of the others may lead nowhere. A user namespace comes before or after.
JOINED = ("network", "ipc", "uts", "cgroup", "time", "pid", "mount")
_LATER = FLAGS["user"] | FLAGS["time"] | FLAGS["cgroup"]  # not by a flag of the last clone3
# What the stub says to launch.py, with descriptors: the pidfd of who goes on with the plan; a directory to copy, and where to.
BORN, COPY_UP = b"born", b"copy"
_NS_GET_NSTYPE = 0xB703  # ioctl_nsfs(2)
_SIGKILL = 9


class Namespaces:
    """What a spec asks for.

    new: CLONE_NEW* flags; joined: path by type; user: whether the container has another user namespace than we; privileged:
    whether we are root (of whatever user namespace we are in ourselves); mapped: whether that or the container's is not the host's
    own, so that no device node can be made; by_parent: the path of a pid namespace that this process joins for its children (it
    can't in another user namespace than the host's), or ""; twice: whether it takes two births; isolated: whether its mounts are
    its own.
    """

    __slots__ = ("by_parent", "isolated", "joined", "mapped", "new", "privileged", "twice", "user")

    def __init__(self, entries: list[dict] | tuple = ()) -> None:
        self.new = 0
        self.joined: dict[str, str] = {}
        for entry in entries:
            kind, path = entry["type"], entry.get("path")
            if kind not in FLAGS:
                raise UsageError(f'unknown namespace type "{kind}"', f"one of {', '.join(FLAGS)}")
            if not path:
                self.new |= FLAGS[kind]
            elif _check(kind, path):
                self.joined[kind] = path
        self.privileged = os.geteuid() == 0
        self.user = bool(self.new & FLAGS["user"]) or "user" in self.joined
        outermost = initial_user_namespace()
        self.mapped = self.user or not outermost
        self.by_parent = self.joined.get("pid", "") if outermost else ""
        self.twice = self.user or bool(self.new & FLAGS["time"]) or ("pid" in self.joined and not outermost)
        self.isolated = bool(self.new & FLAGS["mount"])

    def has(self, kind: str) -> bool:
        """Whether the container has a namespace of this type that is new, or joined by path."""
        return bool(self.new & FLAGS[kind]) or kind in self.joined

    def join(self, ops: Ops) -> None:
        """Ops that join all but a user namespace, and a pid namespace that we join ourselves."""
        join(ops, {kind: path for kind, path in self.joined.items() if kind != "pid" or not self.by_parent}, JOINED)

    def shared(self, kind: str) -> bool:
        """Whether a namespace of this type belongs to another user namespace: no file system that shows it can be made inside."""
        return self.mapped and not self.new & FLAGS[kind] and not (kind in self.joined and not self.new & FLAGS["user"])


def initial_user_namespace(proc: str = "/proc") -> bool:
    """Whether this process is in the host's own user namespace: all ids are mapped to themselves (user_namespaces(7))."""
    with open(f"{proc}/self/uid_map", "rb", buffering=0) as f:
        return f.read(64).split() == [b"0", b"0", b"4294967295"]


def setgroups_denied(pid: int | str = "self") -> bool:
    """Whether a process' user namespace denies setgroups(2), as one does that somebody without privileges has filled in."""
    with open(f"/proc/{pid}/setgroups", "rb", buffering=0) as f:
        return f.read(16).strip() == b"deny"


def _check(kind: str, path: str) -> bool:
    """Whether the namespace at path is to be joined: not a user namespace that we are in already (setns(2) refuses that).

    UsageError if it is no namespace of this type (config-linux.md, "path").
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(f"cannot join the {kind} namespace {path}: {e.strerror}", "name a file like /proc/PID/ns/net") from None
    try:
        found = calls.syscall("ioctl", fd, _NS_GET_NSTYPE, 0)
        if kind == "user" and found == FLAGS[kind]:
            here, there = os.stat("/proc/self/ns/user"), os.fstat(fd)
            return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
    except KernelError:
        found = 0
    finally:
        os.close(fd)
    if found != FLAGS[kind]:
        what = next((f"a {k} namespace" for k, flag in FLAGS.items() if flag == found), "no namespace")
        raise UsageError(f"cannot join the {kind} namespace {path}: it is {what}", f"name a {kind} namespace's file")
    return True


def join(ops: Ops, joined: dict[str, str], kinds: tuple[str, ...]) -> None:
    """Ops that join the namespaces of these types."""
    for kind in kinds:
        if kind in joined:
            path = joined[kind]
            fd = ops.open(None, path, 0, name=f"{kind} namespace", why=f"the {kind} namespace to join")
            ops.call("setns", fd, FLAGS[kind], why=f"share {kind} with {path}")


def groups_denied(names: Namespaces, linux: dict) -> bool:
    """Whether setgroups(2) may be denied in the container: its groups were mapped by an unprivileged owner (user_namespaces(7))."""
    if "user" in names.joined:
        return True  # who mapped them is not known here
    if names.mapped and setgroups_denied():
        return True  # a new user namespace inherits that
    if names.privileged or not names.user:
        return False
    from minicontainer.runtime import userns

    return not userns.helpers_needed(linux.get("gidMappings") or (), os.getegid())


class Births:
    """The ops around two births. meetings: what this process does when the stub asks: ops by (what it says, its pid)."""

    def __init__(self, names: Namespaces, spec: dict, sync: Slot) -> None:
        self.names = names
        self.linux = spec.get("linux") or {}
        self.process = spec["process"]
        self.sync = sync
        self.meetings: dict[bytes, Callable[[int], list[Op]]] = {}

    def before(self, enter: list[Op], early: Ops, outside: Ops, propagation: int) -> Ops:
        """The first process' ops. enter: into the cgroups; early, outside: copies of the host's mounts, from before and after these
        get another propagation (MS_*)."""
        ops, names = Ops(), self.names
        ops.call("prctl", PR["PR_SET_PDEATHSIG"], _SIGKILL, why="if the command that starts us dies half-way, so do we")
        ops.call("prctl", PR["PR_SET_DUMPABLE"], 0, why="nobody may trace us or read our descriptors")
        ops.extend(enter)
        if names.user:
            from minicontainer.runtime import userns

            userns.before(ops, self.process)
        if names.privileged:
            if names.isolated:
                ops.call("unshare", FLAGS["mount"], why="mounts on the way to the container: neither the host's nor its own")
                ops.extend(early)
                ops.call("mount", 0, "/", 0, MS["MS_REC"] | propagation, 0, why="what is mounted here stays unknown to the host")
            names.join(ops)
            ops.extend(outside)
        self._user(ops)
        if not names.privileged:
            names.join(ops)
        self._time(ops)
        if not names.privileged:
            ops.call("prctl", PR["PR_SET_DUMPABLE"], 0, why="no longer: nobody may trace us")
        why = "the container's first process: it gets the namespaces that only a child can have"
        ops.append(clone(self.sync, names.new & ~_LATER, BORN.decode(), why=why))
        return ops

    def _user(self, ops: Ops) -> None:
        from minicontainer.runtime import userns

        names = self.names
        if not names.user:
            return
        if names.privileged:
            denied = (1,) if setgroups_denied() else ()
            ops.call("setgroups", 0, 0, ok=denied, why="no group of ours: in there it may be denied to change them")
        if "user" in names.joined:
            join(ops, names.joined, ("user",))
        else:
            ops.call("unshare", FLAGS["user"], why="its own user namespace: root in there is nobody special outside")
            if not names.privileged:
                ops.call("prctl", PR["PR_SET_DUMPABLE"], 1, why="newuidmap(1) takes only processes that are its caller's own")
            self._meet(ops, b"users", lambda pid: userns.map_ops(pid, self.linux, names.privileged), "until the ids are mapped")
        userns.become_root(ops)

    def _time(self, ops: Ops) -> None:
        if not self.names.new & FLAGS["time"]:
            return
        ops.call("unshare", FLAGS["time"], why="a time namespace for our children; its clocks can be set until there is one")
        offsets = self.linux.get("timeOffsets") or {}
        text = "".join(f"{clock} {o.get('secs', 0)} {o.get('nanosecs', 0)}\n" for clock, o in offsets.items())
        if text:
            told = " ".join(text.split())
            self._meet(
                ops,
                b"clocks",
                lambda pid: [write_file(f"/proc/{pid}/timens_offsets", text, why=f"its clocks differ from the host's: {told}")],
                "until the clocks are set",
            )

    def _meet(self, ops: Ops, what: bytes, host: Callable[[int], list[Op]], why: str) -> None:
        self.meetings[what] = host
        ops.call("write", self.sync, Blob(what, what.decode()), len(what), why=f"our turn to wait {why}")
        ops.append(wait(self.sync, why=why))
