"""`exec`: one more command in a running container."""

from __future__ import annotations

import os

from minicontainer.cgroup.entering import Entrance
from minicontainer.engine import container as box
from minicontainer.engine.container import SHORT, Container
from minicontainer.engine.start import Streams
from minicontainer.engine.watch import exit_code
from minicontainer.errors import Conflict, KernelError, StartError
from minicontainer.kernel import calls
from minicontainer.kernel.monitor import run_monitor
from minicontainer.kernel.terminal import Terminal
from minicontainer.runtime.cgroups import cgroup_of
from minicontainer.runtime.joining import make_exec_plan
from minicontainer.runtime.launch import Launch


class ExecOptions:
    """args; env: "NAME=value" additions; user: "name|uid[:group|gid]" or "" for the container's; workdir: "" likewise."""

    __slots__ = ("args", "detach", "env", "interactive", "privileged", "tty", "user", "workdir")

    def __init__(
        self,
        args: list[str],
        *,
        env: tuple[str, ...] = (),
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        interactive: bool = False,
        detach: bool = False,
        privileged: bool = False,
    ) -> None:
        self.args = args
        self.env = env
        self.user = user
        self.workdir = workdir
        self.tty = tty
        self.interactive = interactive
        self.detach = detach
        self.privileged = privileged


def execute(container: Container, options: ExecOptions, *, stdio: tuple[int, int, int] = (0, 1, 2)) -> int:
    """Runs a command in a container and relays its streams: docker's exit code (0 at once when detached)."""
    state = container.live()
    if not state or state.get("status") != "running":
        raise Conflict(f"Container {container.ident[:SHORT]} is not running", f"start it: `minicontainer start {container.name}`")
    cgroup = cgroup_of(state["cgroup"])
    if cgroup.frozen():
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    pid = state["pid"]
    try:
        pidfd = calls.pidfd_open(pid)
    except KernelError:
        raise Conflict(f"Container {container.ident[:SHORT]} is not running") from None
    terminal = Terminal(stdio[0]) if options.tty else None
    spec = {"process": _process(container, options, pid, terminal)}
    seccomp, seccomp_flags = None, 0
    profile = (box.read_json(f"{container.dir}/config.json") or {}).get("linux", {}).get("seccomp")
    if profile is not None and not options.privileged:
        from minicontainer.runtime.seccomp import filter_for, flags_for

        seccomp_flags = flags_for(profile)
        seccomp = filter_for(profile, spec["process"]["capabilities"]["bounding"], f"{container.config.root}/seccomp")
    plan = make_exec_plan(
        spec,
        ident=container.ident,
        pid=pid,
        pidfd=pidfd,
        cgroup=Entrance(cgroup, pid),
        seccomp=seccomp,
        seccomp_flags=seccomp_flags,
        die_with_parent=not options.detach,
    )
    streams = Streams(interactive=options.interactive, tty=options.tty)
    if options.detach:
        streams.inside[1] = streams.inside[2] = streams.inside[0]
    launch = Launch(plan)
    try:
        launch.start(tuple(streams.inside))  # type: ignore[arg-type]  # three of them
    except StartError as e:
        streams.close()
        if e.exit_code == 125 and e.call in ("openat2", "fchdir"):
            e.exit_code = 126
        raise
    streams.close_inside()
    os.close(pidfd)
    if options.detach:
        return 0
    return _relay(launch, streams, options, terminal, stdio)


def _relay(launch: Launch, streams: Streams, options: ExecOptions, terminal: Terminal | None, stdio: tuple[int, int, int]) -> int:
    settings: dict[str, str | int] = {
        "pid": launch.pid,
        "pidfd": launch.pidfd,
        "out": streams.out,
        "err": streams.err,
        "in": streams.stdin,
        "tty": launch.console,
    }
    if terminal:
        terminal.raw()
    try:
        status = run_monitor(
            settings,
            user_in=stdio[0] if options.interactive else -1,
            user_out=stdio[1],
            user_err=stdio[2],
            forward=options.tty or options.interactive,
        )
    finally:
        if terminal:
            terminal.restore()
    return exit_code(status)


def _process(container: Container, options: ExecOptions, pid: int, terminal: Terminal | None) -> dict:
    """process of the spec: the container's own, with what was asked for instead."""
    process = dict((box.read_json(f"{container.dir}/config.json") or {})["process"])
    env = list(process.get("env", ()))
    if options.user:
        from minicontainer.image.users import resolve_user

        uid, gid, groups, home = resolve_user([f"/proc/{pid}/root"], options.user)
        process["user"] = {"uid": uid, "gid": gid, "additionalGids": list(groups)}
        env = [e for e in env if not e.startswith("HOME=")] + [f"HOME={home}"]
    if options.tty and not any(e.startswith("TERM=") for e in env):
        env.append("TERM=xterm")
    given = {e.partition("=")[0] for e in options.env}
    process["env"] = [e for e in env if e.partition("=")[0] not in given] + list(options.env)
    process["args"] = options.args
    process["cwd"] = options.workdir or process["cwd"]
    process["terminal"] = options.tty
    if options.privileged:
        from minicontainer.engine.host import Host

        every = Host().capabilities()
        process["capabilities"] = {"bounding": every, "effective": every, "permitted": every, "inheritable": [], "ambient": []}
    if terminal and (size := terminal.size()):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    return process
