"""The lifecycle of the OCI runtime spec (runtime.md): create and start; kill and delete are in ending.py.

state.py says what lies on disk.
"""

from __future__ import annotations

import os
from time import time_ns

from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import Conflict, StartError, UsageError
from minicontainer.runtime import environment, hooks
from minicontainer.runtime import state as states
from minicontainer.runtime.bundle import load_spec
from minicontainer.runtime.cgroups import cgroup_of, no_group, path_of
from minicontainer.runtime.ending import delete, destroy, kill, silently
from minicontainer.runtime.launch import Launch, exec_error
from minicontainer.runtime.passing import passed
from minicontainer.runtime.plan import Plan, make_plan
from minicontainer.runtime.process import foreign_streams, seccomp_of
from minicontainer.runtime.processes import pid_inside, start_time
from minicontainer.runtime.state import OciContainer
from minicontainer.stub.ops import RUN
from minicontainer.stub.program import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["create", "delete", "kill", "start", "write_pid_file"]


def create(
    root: str,
    ident: str,
    bundle: str,
    *,
    pid_file: str = "",
    console_socket: int = -1,
    foreground: bool = False,
    systemd: bool = False,
    new_keyring: bool = True,
    preserve_fds: int = 0,
    config: str = "",
    cgroups: bool = True,
    warn: Callable[[str], None] = silently,
) -> OciContainer:
    """A container from a bundle, up to its execve, which waits for start(). Nothing is left when it fails.

    foreground: the caller stands by until it ends, so a terminal's master stays here, in .launch.console; systemd: its cgroup
    is a transient unit of systemd's; new_keyring: a session keyring of its own; preserve_fds: how many of our descriptors from
    3 on (after those of LISTEN_FDS) it gets; config: a file in place of the bundle's config.json; cgroups: a group of its own,
    else it stays in the caller's; warn: takes what is to be logged as a warning.
    """
    states.check_id(ident)
    bundle = os.path.abspath(bundle)
    spec, text = load_spec(bundle, config)
    process = spec["process"]
    hooks.check(spec)
    fds, variables = passed(preserve_fds)
    path = path_of(spec, ident, systemd=systemd) if cgroups else no_group(spec)
    check_terminal(process, given=console_socket >= 0, foreground=foreground)
    states.check_free(root, ident)
    # Planned before anything is made: what is refused here (a cgroup in use, say) must not be cleaned up after.
    cgroup = cgroup_of(path)
    seccomp, flags = seccomp_of(spec, f"{root}/@seccomp")
    rootfs = os.path.join(bundle, spec["root"]["path"])
    process["env"] = [*environment.complete(process, rootfs), *variables]
    plan = make_plan(
        spec,
        ident=ident,
        bundle=bundle,
        cgroup=cgroup,
        seccomp=seccomp,
        seccomp_flags=flags,
        waits=True,
        new_keyring=new_keyring,
        passed=len(fds),
        foreign=foreign_streams((0, 1, 2), process),
    )
    plan.inherit.update(zip(plan.passed, fds))
    for words in plan.warnings:
        warn(words)
    container, lock = states.make(
        root,
        ident,
        {
            "ociVersion": spec["ociVersion"],
            "bundle": bundle,
            "rootfs": rootfs,
            "pid": 0,
            "created": _now(),
            "annotations": spec.get("annotations") or {},
            "cgroup": path,
            "own_pids": any(n["type"] == "pid" and not n.get("path") for n in spec.get("linux", {}).get("namespaces", ())),
            "hooks": any((spec.get("hooks") or {}).values()),
            "start_hook": plan.first_start_hook,
        },
    )
    try:
        with open(f"{container.dir}/config.json", "wb") as f:
            f.write(text)
        _launch(container, spec, plan, cgroup, console_socket)
        if pid_file:
            write_pid_file(pid_file, container.state["pid"])
        os.rename(f"{container.dir}/new.fifo", f"{container.dir}/exec.fifo")
    except BaseException:
        destroy(container, warn)
        raise
    finally:
        os.close(lock)
    return container


def check_terminal(process: dict, *, given: bool, foreground: bool) -> None:
    """UsageError, in runc's words, for a terminal that nobody would hold, or a console socket (given) that nobody needs."""
    terminal = bool(process.get("terminal"))
    if terminal and not given and not foreground:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket")
    if given and (foreground or not terminal):
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")


def _launch(container: OciContainer, spec: dict, plan: Plan, cgroup: Cgroup, console_socket: int) -> None:
    os.mkfifo(f"{container.dir}/new.fifo", 0o600)
    fifo = os.open(f"{container.dir}/new.fifo", os.O_RDWR | os.O_CLOEXEC)
    assert plan.fifo
    plan.inherit[plan.fifo] = fifo
    streams = plan.hook_streams
    if streams:
        plan.inherit.update(streams.open(container.dir))
    launch = container.launch = Launch(plan)

    def born(pid: int) -> None:
        container.state.update(pid=pid, pid_start=start_time(pid))
        container.save()
        cgroup.adopt(pid, container.state["annotations"])
        if streams:
            streams.say(container.hook_state("created", pid_inside(pid)))

    def mounted() -> None:
        state = container.hook_state("created", container.state["pid"])
        hooks.run(spec, "prestart", state)
        hooks.run(spec, "createRuntime", state)

    def listening(fd: int) -> None:
        from minicontainer.runtime.listener import hand_over

        pid = container.state["pid"]
        hand_over(spec["linux"]["seccomp"], fd, pid, container.hook_state("creating", pid))

    try:
        launch.start(
            (0, 1, 2),
            console_socket=console_socket,
            plan_file=f"{container.dir}/plan",
            born=born,
            ready=lambda: cgroup.verify(plan.resources),
            mounted=mounted,
            listening=listening,
        )
    except StartError:
        failed = _failure(container)
        if failed and plan.container[failed[0]].kind == RUN:
            before = sum(op.kind == RUN for op in plan.container[: failed[0]])
            raise _hook_failure(container, spec, "createContainer", before, failed[2]) from None
        raise
    finally:
        os.close(fifo)
        if streams:
            streams.close()


def start(container: OciContainer, *, warn: Callable[[str], None] = silently) -> None:
    """Lets a created container go on to its execve. StartError if that or a hook fails; after a hook's the container is gone."""
    status = container.status()
    if status != "created":
        raise _not_created(status)
    _release(container)
    failed = _failure(container)
    if not failed and not container.state["hooks"]:
        return
    spec = container.spec()
    if not failed:
        try:
            hooks.run(spec, "poststart", container.hook_state("running", container.state["pid"]))
        except StartError:
            destroy(container, warn)
            raise
        return
    index, ops, errno = failed
    if index == ops - 1:
        raise exec_error(spec["process"]["args"][0], errno)
    nth = index - container.state["start_hook"]
    if nth >= len(hooks.of(spec, "startContainer")):
        raise StartError("seccomp", "", errno, "the filter is not one this kernel takes")
    error = _hook_failure(container, spec, "startContainer", nth, errno)
    destroy(container, warn)
    raise error


def _release(container: OciContainer) -> None:
    """Writes what the first process waits for, and returns when it has executed its program or ended."""
    try:
        fifo = os.open(f"{container.dir}/exec.fifo", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.unlink(f"{container.dir}/exec.fifo")
    except OSError:  # no such file: another `start` was faster; no such device: the process has ended
        raise _not_created(container.status()) from None
    from select import poll

    try:
        os.write(fifo, b"s")
        gone = poll()
        gone.register(fifo, 0)
        gone.poll()  # POLLERR: the execve has closed the other end, or the process has ended
    except BrokenPipeError:
        raise _not_created("stopped") from None
    finally:
        os.close(fifo)


def _not_created(status: str) -> Conflict:
    if status == "stopped":
        return Conflict("cannot start a container that has stopped")
    return Conflict(
        "cannot start an already running container" if status == "running" else f"cannot start a container in the {status} state"
    )


def _failure(container: OciContainer) -> tuple[int, int, int] | None:
    """What in the stub's plan failed (program.failure)."""
    try:
        with open(f"{container.dir}/plan", "rb") as f:
            return failure(f.read())
    except FileNotFoundError:
        return None  # there was no clone


def _hook_failure(container: OciContainer, spec: dict, name: str, nth: int, errno: int) -> StartError:
    return hooks.failure(name, nth, hooks.of(spec, name)[nth], errno, hooks.written(container.dir))


def write_pid_file(path: str, pid: int) -> None:
    """The pid in a file that is there whole or not at all."""
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    with open(temporary, "w") as f:
        f.write(str(pid))
    os.rename(temporary, path)


def _now() -> str:
    from datetime import UTC, datetime

    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"
