"""The lifecycle of the OCI runtime spec (runtime.md): create; start is in starting.py, kill and delete in ending.py.

state.py says what lies on disk.
"""

from __future__ import annotations

import os
from time import gmtime, strftime, time_ns

from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import StartError, UsageError
from minicontainer.runtime import environment, hooks
from minicontainer.runtime import state as states
from minicontainer.runtime.bundle import load_spec
from minicontainer.runtime.cgroups import cgroup_of, no_group, path_of
from minicontainer.runtime.ending import delete, destroy, kill
from minicontainer.runtime.launch import Launch
from minicontainer.runtime.passing import passed
from minicontainer.runtime.plan import Plan, make_plan
from minicontainer.runtime.process import foreign_streams, seccomp_of
from minicontainer.runtime.processes import pid_inside, start_time
from minicontainer.runtime.starting import failed_op, hook_failure, start
from minicontainer.runtime.state import OciContainer, silently
from minicontainer.stub.ops import RUN

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
    rootless: bool | None = None,
    warn: Callable[[str], None] = silently,
) -> OciContainer:
    """A container from a bundle, up to its execve, which waits for start(). Nothing is left when it fails.

    foreground: the caller stands by until it ends, so a terminal's master stays here, in .launch.console; systemd: its cgroup
    is a transient unit of systemd's; new_keyring: a session keyring of its own; preserve_fds: how many of our descriptors from
    3 on (after those of LISTEN_FDS) it gets; config: a file in place of the bundle's config.json; cgroups: a group of its own,
    else it stays in the caller's; rootless: see path_of; warn: takes what is to be logged as a warning.
    """
    states.check_id(ident)
    bundle = os.path.abspath(bundle)
    spec, text = load_spec(bundle, config)
    process = spec["process"]
    hooks.check(spec)
    fds, variables = passed(preserve_fds)
    path = path_of(spec, ident, systemd=systemd, rootless=rootless) if cgroups else no_group(spec)
    check_terminal(process, given=console_socket >= 0, foreground=foreground)
    states.check_free(root, ident)
    # Planned before anything is made: what is refused here (a cgroup in use, say) must not be cleaned up after.
    cgroup = cgroup_of(path)
    seccomp, flags = seccomp_of(spec, f"{root}/@seccomp")
    rootfs = os.path.join(bundle, spec["root"]["path"])
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:
        from minicontainer.runtime.notify import add

        add(spec, f"{root}/{ident}")
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
        plain=foreground and not os.isatty(1),
        promised={f"{root}/{ident}/notify": True} if notify else None,
    )
    plan.inherit.update(zip(plan.passed, fds))
    for words in plan.warnings:
        warn(words)
    first = first_state(spec, bundle, path, cgroup)
    first |= {
        "start_hook": plan.first_start_hook,
        "resctrl": plan.resctrl,
        "mounted": _mark(rootfs) if plan.attached else [],
    }
    container, lock = states.make(root, ident, first)
    try:
        with open(f"{container.dir}/config.json", "wb") as f:
            f.write(text)
        if notify:
            from minicontainer.runtime.notify import make

            make(container.dir)
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


def _mark(rootfs: str) -> list[int]:
    from minicontainer.runtime.attached import mark

    return mark(rootfs)


def first_state(spec: dict, bundle: str, path: str, cgroup: Cgroup) -> dict:
    """What state.json says of a container that has no process yet (state.OciContainer). path: the cgroup's, as of path_of()."""
    return {
        "ociVersion": spec["ociVersion"],
        "bundle": bundle,
        "rootfs": os.path.join(bundle, spec["root"]["path"]),
        "pid": 0,
        "created": _now(),
        "annotations": spec.get("annotations") or {},
        "cgroup": path,
        "freezers": cgroup.freezers(),
        "sweep": cgroup.sweep(),
        "own_pids": any(n["type"] == "pid" and not n.get("path") for n in spec.get("linux", {}).get("namespaces", ())),
        "hooks": any((spec.get("hooks") or {}).values()),
        "start_hook": 0,
        "resctrl": [],
        "mounted": [],
    }


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
        failed = failed_op(container)
        if failed and plan.container[failed[0]].kind == RUN:
            before = sum(op.kind == RUN for op in plan.container[: failed[0]])
            raise hook_failure(container, spec, "createContainer", before, failed[2]) from None
        raise
    finally:
        os.close(fifo)
        if streams:
            streams.close()


def write_pid_file(path: str, pid: int) -> None:
    """The pid in a file that is there whole or not at all. Nobody's link is followed: the folder may be everybody's, as /tmp is."""
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    if os.path.lexists(temporary):  # what a killed command left, or somebody put there
        os.unlink(temporary)
    with open(temporary, "x") as f:
        f.write(str(pid))
    os.rename(temporary, path)


def _now() -> str:
    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{rest:09}Z"
