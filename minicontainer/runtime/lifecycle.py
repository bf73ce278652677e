"""The lifecycle of the OCI runtime spec (runtime.md): create, start, state, kill, delete, exec, by files below a root.

<root>/<id>/state.json   written by create; pid and its start time tell whether the process lives
            exec.fifo    the container's first process waits in it until start opens the other end
            plan         the plan with its results, so that start can tell why an execve failed
"""

from __future__ import annotations

import os
from time import time_ns

from minicontainer import fastjson
from minicontainer.errors import Conflict, NotFound, UsageError
from minicontainer.kernel import calls
from minicontainer.runtime.cgroups import cgroup_of
from minicontainer.runtime.launch import Launch, exec_error
from minicontainer.runtime.plan import make_plan
from minicontainer.runtime.processes import start_time

SIGKILL = 9
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class OciContainer:
    """A container by id below root. state is state.json's content."""

    __slots__ = ("dir", "ident", "state")

    def __init__(self, root: str, ident: str, state: dict) -> None:
        self.dir = f"{root}/{ident}"
        self.ident = ident
        self.state = state

    def status(self) -> str:
        """creating, created, running, paused or stopped (runtime.md, "State")."""
        pid = self.state.get("pid", 0)
        if not pid:
            return "creating"
        if start_time(pid) != self.state["pid_start"]:
            return "stopped"
        if os.path.exists(f"{self.dir}/exec.fifo"):
            return "created"
        return "paused" if cgroup_of(self.state["cgroup"]).frozen() else "running"

    def describe(self) -> dict:
        """What `state` prints."""
        status = self.status()
        return {
            "ociVersion": self.state["ociVersion"],
            "id": self.ident,
            "pid": 0 if status == "stopped" else self.state.get("pid", 0),
            "status": status,
            "bundle": self.state["bundle"],
            "rootfs": self.state["rootfs"],
            "created": self.state["created"],
            "owner": "",
            **({"annotations": self.state["annotations"]} if self.state["annotations"] else {}),
        }

    def save(self) -> None:
        """Writes state.json, whole or not at all."""
        with open(f"{self.dir}/.state.json", "w") as f:
            f.write(fastjson.dumps(self.state))
        os.rename(f"{self.dir}/.state.json", f"{self.dir}/state.json")


def check_id(ident: str) -> str:
    """The id, if it is one that may name a folder and a cgroup."""
    if not ident or not set(ident) <= _NAME or ident in (".", "..") or len(ident) > 1024:
        raise UsageError(f"invalid container id format: {ident!r}", "letters, digits, and _ + - .")
    return ident


def load(root: str, ident: str) -> OciContainer:
    """The container with this id. NotFound in runc's words."""
    try:
        with open(f"{root}/{check_id(ident)}/state.json", "rb") as f:
            state = fastjson.loads(f.read())
    except FileNotFoundError:
        raise NotFound("container does not exist") from None
    assert isinstance(state, dict)
    return OciContainer(root, ident, state)


def load_spec(bundle: str) -> dict:
    """config.json of a bundle."""
    path = f"{bundle}/config.json"
    try:
        with open(path, "rb") as f:
            spec = fastjson.loads(f.read())
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found", f"is {bundle} a bundle?") from None
    except ValueError as e:
        raise UsageError(f"{path} is not JSON: {e}") from None
    if not isinstance(spec, dict) or not isinstance(spec.get("root"), dict) or not isinstance(spec.get("process"), dict):
        raise UsageError(f"{path} lacks root or process", "see the OCI runtime spec, config.md")
    if not str(spec.get("ociVersion", "")).startswith("1."):
        raise UsageError(f"{path}: ociVersion {spec.get('ociVersion')!r} is not 1.x")
    if any(spec.get("hooks", {}).values()):
        raise UsageError("hooks are not run yet", "take them out of config.json")
    return spec


def create(root: str, ident: str, bundle: str, *, pid_file: str = "", console_socket: int = -1) -> OciContainer:
    """A container from a bundle, up to its execve, which waits for start(). Nothing is left when it fails."""
    check_id(ident)
    bundle = os.path.abspath(bundle)
    spec = load_spec(bundle)
    if spec["process"].get("terminal") and console_socket < 0:
        raise UsageError("cannot allocate tty without a console socket", "give --console-socket, or set process.terminal to false")
    os.makedirs(root, 0o711, exist_ok=True)
    try:
        os.mkdir(f"{root}/{ident}", 0o711)
    except FileExistsError:
        raise Conflict(f"container with given ID already exists: {ident}") from None
    path = spec.get("linux", {}).get("cgroupsPath") or f"/{ident}"
    container = OciContainer(
        root,
        ident,
        {
            "ociVersion": spec["ociVersion"],
            "bundle": bundle,
            "rootfs": os.path.join(bundle, spec["root"].get("path", "")),
            "pid": 0,
            "created": _now(),
            "annotations": spec.get("annotations") or {},
            "cgroup": path,
        },
    )
    try:
        _launch(container, spec, bundle, console_socket)
        if pid_file:
            write_pid_file(pid_file, container.state["pid"])
    except BaseException:
        _remove(container)
        raise
    return container


def _launch(container: OciContainer, spec: dict, bundle: str, console_socket: int) -> None:
    cgroup = cgroup_of(container.state["cgroup"])
    os.mkfifo(f"{container.dir}/exec.fifo", 0o600)
    seccomp, flags = _filter(spec)
    plan = make_plan(
        spec, ident=container.ident, bundle=bundle, cgroup=cgroup, seccomp=seccomp, seccomp_flags=flags, fifo_folder=container.dir
    )
    launch = Launch(plan)

    def born(pid: int) -> None:
        container.state.update(pid=pid, pid_start=start_time(pid))
        container.save()

    launch.start(
        (0, 1, 2),
        console_socket=console_socket,
        plan_file=f"{container.dir}/plan",
        born=born,
        ready=lambda: cgroup.verify(plan.resources),
    )


def _filter(spec: dict) -> tuple[bytes | None, int]:
    seccomp = spec.get("linux", {}).get("seccomp")
    if not seccomp:
        return None, 0
    from minicontainer.runtime.seccomp import filter_for, flags_for

    return filter_for(seccomp, (spec["process"].get("capabilities") or {}).get("bounding") or [], ""), flags_for(seccomp)


def start(container: OciContainer) -> None:
    """Lets a created container go on to its execve. StartError if that failed."""
    status = container.status()
    if status != "created":
        raise Conflict(
            "cannot start a container that has stopped" if status == "stopped" else f"cannot start an already {status} container"
        )
    fifo = os.open(f"{container.dir}/exec.fifo", os.O_RDONLY | os.O_CLOEXEC)
    os.unlink(f"{container.dir}/exec.fifo")
    os.read(fifo, 1)  # end of file: the execve has closed the other end, or the process is gone
    os.close(fifo)
    failed = _failed_execve(f"{container.dir}/plan")
    if failed:
        spec = load_spec(container.state["bundle"])
        raise exec_error(spec["process"]["args"][0], failed)


def _failed_execve(path: str) -> int:
    """The errno of the last op, the execve, of a plan file; 0 if it did not fail."""
    from minicontainer.stub.program import last_errno

    with open(path, "rb") as f:
        return last_errno(f.read())


def kill(container: OciContainer, sig: int, *, everything: bool = False) -> None:
    """A signal to the first process, or to all. Conflict "container not running" in runc's words."""
    if everything:
        cgroup = cgroup_of(container.state["cgroup"])
        if sig == SIGKILL:
            cgroup.kill()
        else:
            for pid in cgroup.pids():
                os.kill(pid, sig)
        return
    if container.status() not in ("created", "running", "paused"):
        raise Conflict("container not running")
    pidfd = calls.pidfd_open(container.state["pid"])
    if start_time(container.state["pid"]) == container.state["pid_start"]:
        calls.pidfd_send_signal(pidfd, sig)
    os.close(pidfd)


def delete(container: OciContainer, *, force: bool = False) -> None:
    """Removes a stopped container (any, with force)."""
    status = container.status()
    if status not in ("stopped", "creating") and not force:
        raise Conflict(f"cannot delete container {container.ident} that is not stopped: {status}")
    _remove(container)


def _remove(container: OciContainer) -> None:
    cgroup = cgroup_of(container.state["cgroup"])
    if cgroup.exists():
        cgroup.kill()
        cgroup.remove()
    for name in os.listdir(container.dir):
        os.unlink(f"{container.dir}/{name}")
    os.rmdir(container.dir)


def every(root: str) -> list[OciContainer]:
    """All containers below root."""
    if not os.path.isdir(root):
        return []
    return [load(root, ident) for ident in sorted(os.listdir(root)) if os.path.exists(f"{root}/{ident}/state.json")]


def execute(
    container: OciContainer,
    process: dict,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: int = -1,
    detach: bool = False,
) -> Launch:
    """One more process in a running container; process as in config.json."""
    from minicontainer.runtime.joining import make_exec_plan

    if container.status() != "running":
        raise Conflict(f"cannot exec in a {container.status()} container")
    spec = load_spec(container.state["bundle"])
    seccomp, flags = _filter(spec)
    pid = container.state["pid"]
    pidfd = calls.pidfd_open(pid)
    try:
        plan = make_exec_plan(
            {"process": process},
            ident=container.ident,
            pid=pid,
            pidfd=pidfd,
            cgroup=cgroup_of(container.state["cgroup"]),
            seccomp=seccomp,
            seccomp_flags=flags,
            die_with_parent=not detach,
        )
        launch = Launch(plan)
        launch.start(stdio, console_socket=console_socket)
    finally:
        os.close(pidfd)
    return launch


def write_pid_file(path: str, pid: int) -> None:
    """The pid in a file that is there whole or not at all."""
    with open(f"{path}.{os.getpid()}", "w") as f:
        f.write(str(pid))
    os.rename(f"{path}.{os.getpid()}", path)


def _now() -> str:
    from datetime import UTC, datetime

    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"
