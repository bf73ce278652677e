"""`exec` of the OCI face: one more process in a running container."""

from __future__ import annotations

import os

from minicontainer.cgroup.entering import Entrance
from minicontainer.errors import Conflict
from minicontainer.runtime import environment
from minicontainer.runtime.ending import first
from minicontainer.runtime.launch import Launch
from minicontainer.runtime.passing import passed
from minicontainer.runtime.process import foreign_streams, seccomp_of
from minicontainer.runtime.state import OciContainer, silently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What a process has from the container's own, unless it says otherwise: as in runc.
_INHERITED = ("capabilities", "rlimits", "apparmorProfile", "selinuxLabel", "oomScoreAdj", "scheduler", "ioPriority",
              "execCPUAffinity")  # fmt: skip


def execute(
    container: OciContainer,
    process: dict,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: int = -1,
    detach: bool = False,
    cgroup: list[str] | tuple[str, ...] = (),
    preserve_fds: int = 0,
    ignore_paused: bool = False,
    warn: Callable[[str], None] = silently,
) -> Launch:
    """One more process in a container; process as in config.json, UsageError for what is wrong in it.

    cgroup: groups below the container's that it enters instead, as runc's `exec --cgroup` names them (cgroup.Entrance);
    preserve_fds, warn: as for create; ignore_paused: start it in a paused container, where it waits until that goes on.
    Conflict in runc's words if the container has stopped, or is paused.
    """
    from minicontainer.runtime.joining import make_exec_plan
    from minicontainer.runtime.validate import check_process

    check_process(process)
    pidfd = _entered(container, ignore_paused)
    try:
        spec, pid = container.spec(), container.state["pid"]
        fds, variables = passed(preserve_fds)
        own = spec["process"]
        process = {**{field: own[field] for field in _INHERITED if field in own}, **process}
        if "umask" in (own.get("user") or {}):
            process["user"] = {"umask": own["user"]["umask"], **(process.get("user") or {})}
        process["env"] = [*environment.complete(process, f"/proc/{pid}/root"), *variables]
        seccomp, flags = seccomp_of(spec, f"{os.path.dirname(container.dir)}/@seccomp")
        plan = make_exec_plan(
            {"process": process, "linux": spec.get("linux") or {}},
            ident=container.ident,
            pid=pid,
            pidfd=pidfd,
            cgroup=Entrance(container.cgroup(), pid, cgroup),
            seccomp=seccomp,
            seccomp_flags=flags,
            die_with_parent=not detach,
            passed=len(fds),
            foreign=foreign_streams(stdio, process),
            plain=not detach and not os.isatty(stdio[1]),
            isolated=any(n["type"] == "mount" and not n.get("path") for n in (spec.get("linux") or {}).get("namespaces") or ()),
        )
        for message in plan.warnings:
            warn(message)
        plan.inherit.update(zip(plan.passed, fds))
        launch = Launch(plan)

        def listening(fd: int) -> None:
            from minicontainer.runtime.listener import hand_over

            hand_over(spec["linux"]["seccomp"], fd, launch.pid, container.hook_state("running", pid))

        launch.start(
            stdio,
            console_socket=console_socket,
            listening=listening,
        )
    finally:
        os.close(pidfd)
    return launch


def _entered(container: OciContainer, ignore_paused: bool) -> int:
    """A pidfd of the container's first process, if it may be joined."""
    status = container.status()
    if status == "paused" and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    pidfd = first(container) if status in ("created", "running", "paused") else -1
    if pidfd < 0:
        raise Conflict(f"cannot exec in a {'stopped' if status == 'running' else status} container")
    return pidfd
