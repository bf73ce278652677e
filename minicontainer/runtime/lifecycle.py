"""The lifecycle of the OCI runtime spec (runtime.md): create, start, kill, delete. state.py says what lies on disk."""

from __future__ import annotations

import os
from time import time_ns

from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import Conflict, UsageError
from minicontainer.kernel import calls
from minicontainer.runtime import state as states
from minicontainer.runtime.bundle import load_spec
from minicontainer.runtime.cgroups import cgroup_of, path_of
from minicontainer.runtime.launch import Launch, exec_error
from minicontainer.runtime.plan import Plan, make_plan
from minicontainer.runtime.process import seccomp_of
from minicontainer.runtime.processes import start_time
from minicontainer.runtime.state import OciContainer

SIGKILL = 9


def create(
    root: str, ident: str, bundle: str, *, pid_file: str = "", console_socket: int = -1, systemd: bool = False
) -> OciContainer:
    """A container from a bundle, up to its execve, which waits for start(). Nothing is left when it fails.

    systemd: its cgroup is a transient unit of systemd's.
    """
    states.check_id(ident)
    bundle = os.path.abspath(bundle)
    spec, text = load_spec(bundle)
    path = path_of(spec, ident, systemd=systemd)
    if spec["process"].get("terminal") and console_socket < 0:
        raise UsageError("cannot allocate tty without a console socket", "give --console-socket, or set process.terminal to false")
    states.check_free(root, ident)
    # Planned before anything is made: what is refused here (a cgroup in use, say) must not be cleaned up after.
    cgroup = cgroup_of(path)
    seccomp, flags = seccomp_of(spec, f"{root}/@seccomp")
    plan = make_plan(spec, ident=ident, bundle=bundle, cgroup=cgroup, seccomp=seccomp, seccomp_flags=flags, waits=True)
    container, lock = states.make(
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
        with open(f"{container.dir}/config.json", "wb") as f:
            f.write(text)
        _launch(container, plan, cgroup, console_socket)
        if pid_file:
            write_pid_file(pid_file, container.state["pid"])
        os.rename(f"{container.dir}/new.fifo", f"{container.dir}/exec.fifo")
    except BaseException:
        _remove(container)
        raise
    finally:
        os.close(lock)
    return container


def _launch(container: OciContainer, plan: Plan, cgroup: Cgroup, console_socket: int) -> None:
    os.mkfifo(f"{container.dir}/new.fifo", 0o600)
    fifo = os.open(f"{container.dir}/new.fifo", os.O_RDWR | os.O_CLOEXEC)
    assert plan.fifo
    plan.inherit[plan.fifo] = fifo
    launch = Launch(plan)

    def born(pid: int) -> None:
        container.state.update(pid=pid, pid_start=start_time(pid))
        container.save()
        cgroup.adopt(pid, container.state["annotations"])

    try:
        launch.start(
            (0, 1, 2),
            console_socket=console_socket,
            plan_file=f"{container.dir}/plan",
            born=born,
            ready=lambda: cgroup.verify(plan.resources),
        )
    finally:
        os.close(fifo)


def start(container: OciContainer) -> None:
    """Lets a created container go on to its execve. StartError if that failed."""
    status = container.status()
    if status != "created":
        raise _not_created(status)
    try:
        fifo = os.open(f"{container.dir}/exec.fifo", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.unlink(f"{container.dir}/exec.fifo")
    except OSError:  # no such file: another `start` was faster; no such device: the process has ended
        raise _not_created(container.status()) from None
    from select import poll

    os.write(fifo, b"s")
    gone = poll()
    gone.register(fifo, 0)
    gone.poll()  # POLLERR: the execve has closed the other end, or the process has ended
    os.close(fifo)
    failed = _failed_execve(f"{container.dir}/plan")
    if failed:
        raise exec_error(container.spec()["process"]["args"][0], failed)


def _not_created(status: str) -> Conflict:
    if status == "stopped":
        return Conflict("cannot start a container that has stopped")
    return Conflict(f"cannot start an already {status} container")


def _failed_execve(path: str) -> int:
    """The errno of the last op, the execve, of a plan file; 0 if it did not fail."""
    from minicontainer.stub.program import last_errno

    with open(path, "rb") as f:
        return last_errno(f.read())


def kill(container: OciContainer, sig: int, *, everything: bool = False) -> None:
    """A signal to the first process, or to all. Conflict "container not running" in runc's words."""
    if everything:
        cgroup = container.cgroup()
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
    if container.state["cgroup"]:
        cgroup = container.cgroup()
        if cgroup.exists():
            cgroup.kill()
            cgroup.remove()
    for name in os.listdir(container.dir):
        os.unlink(f"{container.dir}/{name}")
    os.rmdir(container.dir)


def write_pid_file(path: str, pid: int) -> None:
    """The pid in a file that is there whole or not at all."""
    with open(f"{path}.{os.getpid()}", "w") as f:
        f.write(str(pid))
    os.rename(f"{path}.{os.getpid()}", path)


def _now() -> str:
    from datetime import UTC, datetime

    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"
