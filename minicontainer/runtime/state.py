"""Containers by id below a root: what is remembered of each, and what it is doing now.

<root>/             0711: who knows an id may pass, nobody may list
    <id>/           0700: root's alone, since config.json holds the environment
        state.json  written first of all, so that whatever a killed `create` leaves can be found and deleted
        config.json the spec as it was at create: a bundle that changes or goes away later does no harm
        new.fifo    while it is being created; then renamed:
        exec.fifo   the container's first process waits at it until `start` writes into it
        plan        the plan with its results, so that `start` can tell why an execve failed
        notify/     with NOTIFY_SOCKET: the folder that the container sees (notify.py)
"""

from __future__ import annotations

import posix  # os takes 0.8 ms to import, which start, state and delete do without
from fcntl import LOCK_EX, LOCK_NB, flock

from minicontainer import fastjson
from minicontainer.errors import Conflict, MinicontainerError, NotFound, UsageError
from minicontainer.runtime.processes import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroup.group import Cgroup
    from minicontainer.runtime.launch import Launch

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FROZEN = (b"1", b"FROZEN", b"FREEZING")
_LONGEST_ID = 255  # it names a folder


class OciContainer:
    """A container by id below root. state is state.json's content: ociVersion, bundle, rootfs, created, annotations, cgroup,
    freezers, sweep (cgroup.Cgroup), pid (0 before there is a process), pid_start (processes.start_time), own_pids (whether it has
    a pid namespace of its own), hooks (whether it has any), start_hook (Plan.first_start_hook), resctrl (Plan.resctrl), mounted
    (attached.mark, or nothing)."""

    __slots__ = ("dir", "ident", "launch", "state")

    def __init__(self, root: str, ident: str, state: dict) -> None:
        self.launch: Launch | None = None  # with whoever created it
        self.dir = f"{root}/{ident}"
        self.ident = ident
        self.state = state

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md, "State")."""
        pid = self.state["pid"]
        if not pid:
            return "creating" if self._locked() else "stopped"
        if start_time(pid) != self.state["pid_start"]:
            return "stopped"
        if _there(f"{self.dir}/new.fifo"):
            return "creating"
        if self.frozen():
            return "paused"
        return "created" if _there(f"{self.dir}/exec.fifo") else "running"

    def frozen(self) -> bool:
        """Whether its cgroup is frozen, found out without what knows about cgroups."""
        return any(_read(path) in _FROZEN for path in self.state["freezers"])

    def _locked(self) -> bool:
        """Whether the `create` that makes it is alive: it holds the lock of the folder until it ends."""
        fd = posix.open(self.dir, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            posix.close(fd)
        return False

    def describe(self) -> dict:
        """What `state` prints."""
        status = self.status()
        return {
            "ociVersion": self.state["ociVersion"],
            "id": self.ident,
            "pid": 0 if status == "stopped" else self.state["pid"],
            "status": status,
            "bundle": self.state["bundle"],
            "rootfs": self.state["rootfs"],
            "created": self.state["created"],
            "owner": "",
            **({"annotations": self.state["annotations"]} if self.state["annotations"] else {}),
        }

    def hook_state(self, status: str, pid: int) -> dict:
        """What hooks and seccomp listeners are told (runtime.md, "State"); pid 0 for none."""
        state = self.state
        return {
            "ociVersion": state["ociVersion"],
            "id": self.ident,
            "status": status,
            **({"pid": pid} if pid else {}),
            "bundle": state["bundle"],
            **({"annotations": state["annotations"]} if state["annotations"] else {}),
        }

    def spec(self) -> dict:
        """config.json as it was at create."""
        with open(f"{self.dir}/config.json", "rb") as f:
            spec = fastjson.loads(f.read())
        assert isinstance(spec, dict)
        return spec

    def cgroup(self) -> Cgroup:
        """Its group in every hierarchy."""
        from minicontainer.runtime.cgroups import cgroup_of

        return cgroup_of(self.state["cgroup"])

    def save(self) -> None:
        """Writes state.json, whole or not at all."""
        with open(f"{self.dir}/.state.json", "w") as f:
            f.write(fastjson.dumps(self.state))
        posix.rename(f"{self.dir}/.state.json", f"{self.dir}/state.json")


def _there(path: str) -> bool:
    """Whether there is a file of this name."""
    return posix.access(path, posix.F_OK)


def _read(path: str) -> bytes:
    """What a file of a cgroup says; b"" if it is gone."""
    try:
        with open(path, "rb", buffering=0) as f:
            return f.read().strip()
    except OSError:
        return b""


def silently(text: str) -> None:
    """Takes a warning that nobody wants to hear."""


def make(root: str, ident: str, state: dict) -> tuple[OciContainer, int]:
    """A new container's folder with its state.json, and the folder's descriptor, which holds the lock of `create`.

    Conflict in runc's words when the id is taken.
    """
    container = OciContainer(root, ident, state)
    try:
        posix.mkdir(container.dir, 0o700)
    except FileExistsError:
        raise _taken() from None
    fd = posix.open(container.dir, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    flock(fd, LOCK_EX)
    container.save()
    return container, fd


def check_free(root: str, ident: str) -> None:
    """Makes the root; Conflict in runc's words when the id is taken."""
    import os

    os.makedirs(root, 0o711, exist_ok=True)
    if os.path.lexists(f"{root}/{check_id(ident)}"):
        raise _taken()


def _taken() -> Conflict:
    return Conflict("container with given ID already exists")


def check_id(ident: str) -> str:
    """The id, if it is one that may name a folder and a cgroup."""
    if not ident or not set(ident) <= _NAME or ident in (".", "..") or len(ident) > _LONGEST_ID:
        raise UsageError(f"invalid container id format: {ident!r}", "letters, digits, and _ + - .")
    return ident


def load(root: str, ident: str) -> OciContainer:
    """The container with this id, also one that a killed `create` left. NotFound in runc's words; MinicontainerError if its
    state.json can't be read, as after a loss of power, with a root that is no tmpfs."""
    folder = f"{root}/{check_id(ident)}"
    try:
        with open(f"{folder}/state.json", "rb") as f:
            state = fastjson.loads(f.read())
        if type(state) is not dict:
            raise ValueError("no object")
    except ValueError:
        raise MinicontainerError(
            f"the state of container {ident} can't be read: {folder}/state.json is damaged",
            "end its processes, then remove that folder and its cgroup",
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        if not _there(f"{folder}/."):
            raise NotFound("container does not exist") from None
        # Killed between mkdir and the first save: there is nothing yet but the folder.
        names = ("ociVersion", "bundle", "rootfs", "created", "annotations", "cgroup", "hooks")
        lists = ("freezers", "resctrl", "mounted")
        state = {**dict.fromkeys(names, ""), **dict.fromkeys(lists, []), "pid": 0, "own_pids": True, "sweep": [[], []]}
    return OciContainer(root, ident, state)


def every(root: str, warn: Callable[[str], None]) -> list[OciContainer]:
    """All containers below root, by id. Those that vanish meanwhile are left out; those that can't be read too, with a warning."""
    try:
        idents = sorted(posix.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for ident in idents:
        try:
            found.append(load(root, ident))
        except (NotFound, UsageError):
            continue  # deleted just now, or something else that lies here
        except MinicontainerError as e:
            warn(e.message)
    return found
