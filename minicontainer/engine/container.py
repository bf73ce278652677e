"""Containers on disk: what was asked for (data root), what is alive (state root), and the lock that says who cares for it.

    <root>/containers/<id>/container.json   what it is; written once, by rename
                           upper work merged  its writable layer, and where the overlay is mounted (in its own namespace)
                           hosts hostname resolv.conf <id>-json.log[.n]
                           exit.json          how it ended last, written by its monitor
    <root>/names/<name> -> <id>             a symlink: made or not, in one step
    <state>/containers/<id>/lock            flock'ed by the process that cares for it: starts, watches, or cleans up
                            state.json        pid and its start time, cgroup, network

A state folder whose lock is free belongs to nobody any more: whoever finds it takes the lock and reclaims what is left.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from minicontainer import fastjson
from minicontainer.engine.config import Config
from minicontainer.errors import Conflict, NotFound
from minicontainer.runtime.processes import start_time

ID_HEX = 64
SHORT = 12


def write_json(path: str, value: object) -> None:
    """A JSON file that is there whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, fastjson.dumps(value).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def read_json(path: str) -> dict | None:
    """The object in a JSON file, None if there is no such file. ValueError if it is broken."""
    try:
        with open(path, "rb") as f:
            value = fastjson.loads(f.read())
    except FileNotFoundError:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


class Life:
    """The state folder of a container and its lock, held by this process (or handed to a monitor by exec)."""

    __slots__ = ("ident", "lock", "path", "state")

    def __init__(self, path: str, ident: str, lock: int) -> None:
        self.path = path
        self.ident = ident
        self.lock = lock
        self.state: dict = {}

    @classmethod
    def begin(cls, config: Config, ident: str) -> Life:
        """Makes the state folder, its lock held from the first moment. Conflict if there is one: it is alive."""
        base = f"{config.state}/containers"
        path, hidden = f"{base}/{ident}", f"{base}/.{ident}.{os.getpid()}"
        make_private(hidden)
        lock = os.open(f"{hidden}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(lock, LOCK_EX)
        try:
            os.rename(hidden, path)
        except OSError:
            os.close(lock)
            os.unlink(f"{hidden}/lock")
            os.rmdir(hidden)
            raise Conflict(f"container {ident[:SHORT]} is already running, or being started or removed") from None
        return cls(path, ident, lock)

    @classmethod
    def take(cls, config: Config, ident: str) -> Life | None:
        """Takes over a state folder that nobody cares for; None if there is none or somebody does."""
        path = f"{config.state}/containers/{ident}"
        while True:
            try:
                lock = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return None
            # Whoever held it may have removed the folder meanwhile, or another container may have begun in it.
            try:
                if os.stat(f"{path}/lock").st_ino == os.fstat(lock).st_ino:
                    life = cls(path, ident, lock)
                    life.state = life._read()
                    return life
            except FileNotFoundError:
                pass  # gone for good: the next open says so
            os.close(lock)

    @classmethod
    def inherit(cls, config: Config, ident: str, lock: int) -> Life:
        """The life that this process held before an execve; lock is its descriptor."""
        life = cls(f"{config.state}/containers/{ident}", ident, lock)
        life.state = life._read()
        return life

    def _read(self) -> dict:
        try:
            return read_json(f"{self.path}/state.json") or {}
        except ValueError:
            return {}  # half-written by a crash of the machine: everything in it can be found by id

    def save(self, **changes: object) -> None:
        """Updates state.json."""
        self.state.update(changes)
        write_json(f"{self.path}/state.json", self.state)

    def end(self) -> None:
        """Removes the state folder and lets the lock go."""
        # In one step first: a kill half-way leaves a folder that says whose it was, as in begin().
        gone = f"{os.path.dirname(self.path)}/.{self.ident}.{os.getpid()}"
        os.rename(self.path, gone)
        for name in os.listdir(gone):
            os.unlink(f"{gone}/{name}")
        os.rmdir(gone)
        os.close(self.lock)


class Container:
    """One container. record: container.json; see the module's drawing for the rest."""

    __slots__ = ("config", "dir", "ident", "record")

    def __init__(self, config: Config, ident: str, record: dict) -> None:
        self.config = config
        self.ident = ident
        self.dir = f"{config.root}/containers/{ident}"
        self.record = record

    @property
    def name(self) -> str:
        """Its name."""
        return self.record["name"]

    @property
    def log(self) -> str:
        """Path of its log (docker's json-file)."""
        return f"{self.dir}/{self.ident}-json.log"

    @property
    def cgroup_path(self) -> str:
        """Its cgroup, below the root of each hierarchy."""
        parent = self.record.get("options", {}).get("cgroup_parent") or self.config.settings["cgroup.parent"]
        return f"/{str(parent).strip('/')}/{self.ident}"

    def live(self) -> dict | None:
        """state.json while its process lives, else None."""
        try:
            state = read_json(f"{self.config.state}/containers/{self.ident}/state.json")
        except ValueError:
            return None
        return state if state and is_alive(state) else None

    def exit(self) -> dict | None:
        """exit.json: exit_code, signal, finished_ns, oom (kills); None if it never ran to an end.

        A container that ran when the machine went down has none, and no state either: it was killed, then or a little later.
        """
        try:
            ended = read_json(f"{self.dir}/exit.json")
        except ValueError:
            ended = None
        if ended is None and not os.path.exists(f"{self.config.state}/containers/{self.ident}"):
            try:
                started = os.stat(f"{self.dir}/config.json").st_mtime_ns
            except FileNotFoundError:
                return None
            return {"exit_code": 137, "signal": 9, "finished_ns": started, "oom": 0}
        return ended

    def status(self) -> str:
        """created, running, paused, exited, or starting."""
        state = self.live()
        if state:
            from minicontainer.runtime.cgroups import cgroup_of

            return "paused" if cgroup_of(state["cgroup"]).frozen() else "running"
        return "exited" if self.exit() else "created"


def is_alive(state: dict) -> bool:
    """Whether the process of a state.json lives: same pid, same start time, and not a zombie."""
    pid = state.get("pid", 0)
    return pid > 0 and start_time(pid) == state.get("pid_start")


def all_ids(config: Config) -> list[str]:
    """The ids of all containers on disk."""
    try:
        return [n for n in os.listdir(f"{config.root}/containers") if len(n) == ID_HEX]
    except FileNotFoundError:
        return []


def load(config: Config, ident: str) -> Container | None:
    """The container with this full id, None if there is none (any more)."""
    try:
        record = read_json(f"{config.root}/containers/{ident}/container.json")
    except ValueError:
        return None
    return Container(config, ident, record) if record else None


def every(config: Config) -> list[Container]:
    """All containers, newest first; one that a crash left without its record is not there."""
    found = [c for c in (load(config, i) for i in all_ids(config)) if c]
    return sorted(found, key=lambda c: c.record["created_ns"], reverse=True)


def find(config: Config, reference: str) -> Container:
    """By name, full id, or a prefix of the id that only one has. NotFound, Conflict when several have it."""
    container = None
    if reference and "/" not in reference and reference not in (".", ".."):
        try:
            container = load(config, os.readlink(f"{config.root}/names/{reference}"))
        except OSError:
            matches = [i for i in all_ids(config) if i.startswith(reference)] if len(reference) <= ID_HEX else []
            if len(matches) > 1:
                raise Conflict(f'"{reference}" is the beginning of {len(matches)} container ids', "give more of it") from None
            if matches:
                container = load(config, matches[0])
    if container is None:
        raise NotFound(f"No such container: {reference}", "`minicontainer ps -a` lists all")
    return container


def make_private(path: str, *, exist_ok: bool = False) -> None:
    """A new folder of root's alone, and what is missing above it too: os.makedirs gives its mode to the last one only."""
    above = os.path.dirname(path)
    if not os.path.exists(above):
        make_private(above, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not exist_ok:
            raise


def reserve_name(config: Config, name: str, ident: str) -> None:
    """Takes a name for a container. Conflict, in docker's words, if another has it."""
    path = f"{config.root}/names/{name}"
    try:
        os.symlink(ident, path)
        return None
    except FileNotFoundError:
        make_private(f"{config.root}/names", exist_ok=True)
        return reserve_name(config, name, ident)
    except FileExistsError:
        owner = os.readlink(path)
    raise Conflict(
        f'The container name "/{name}" is already in use by container "{owner}".',
        f"remove it (`minicontainer rm {name}`) or choose another name",
    )
