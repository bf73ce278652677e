"""`exec` of the OCI face: one more process in a running container."""

from __future__ import annotations

import os

from minicontainer.cgroup.entering import Entrance
from minicontainer.errors import Conflict
from minicontainer.kernel import calls
from minicontainer.runtime.launch import Launch
from minicontainer.runtime.process import seccomp_of
from minicontainer.runtime.state import OciContainer


def execute(
    container: OciContainer,
    process: dict,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: int = -1,
    detach: bool = False,
    cgroup: list[str] | tuple[str, ...] = (),
) -> Launch:
    """One more process in a running container; process as in config.json, UsageError for what is wrong in it.

    cgroup: groups below the container's that it enters instead, as runc's `exec --cgroup` names them (cgroup.Entrance).
    """
    from minicontainer.runtime.joining import make_exec_plan
    from minicontainer.runtime.validate import check_process

    check_process(process)
    if container.status() != "running":
        raise Conflict(f"cannot exec in a {container.status()} container")
    seccomp, flags = seccomp_of(container.spec(), f"{os.path.dirname(container.dir)}/@seccomp")
    pid = container.state["pid"]
    pidfd = calls.pidfd_open(pid)
    try:
        plan = make_exec_plan(
            {"process": process},
            ident=container.ident,
            pid=pid,
            pidfd=pidfd,
            cgroup=Entrance(container.cgroup(), pid, cgroup),
            seccomp=seccomp,
            seccomp_flags=flags,
            die_with_parent=not detach,
        )
        launch = Launch(plan)
        launch.start(stdio, console_socket=console_socket)
    finally:
        os.close(pidfd)
    return launch
