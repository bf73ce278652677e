"""The end of a container of the OCI face: signals, and removing all there is of it."""

from __future__ import annotations

import os

from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import Conflict, KernelError, MinicontainerError
from minicontainer.kernel import calls
from minicontainer.runtime.processes import start_time
from minicontainer.runtime.state import OciContainer, silently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGKILL = 9
_END_SECONDS = 10.0


def kill(container: OciContainer, sig: int, *, everything: bool = False) -> None:
    """A signal to the first process, or to all; Conflict "container not running" in runc's words.

    Without a pid namespace of its own nothing but SIGKILL to every process ends a container, so that is what SIGKILL means then.
    """
    if everything or (sig == SIGKILL and not container.state["own_pids"]):
        cgroup = container.cgroup()
        if cgroup.exists():
            _signal_all(cgroup, sig)
        elif not everything:
            raise Conflict("container not running")
        return
    init = first(container)
    if init < 0:
        raise Conflict("container not running")
    try:
        calls.pidfd_send_signal(init, sig)
    finally:
        os.close(init)
    if sig == SIGKILL and container.cgroup().frozen():
        container.cgroup().thaw()  # what the v1 freezer holds does not die


def first(container: OciContainer) -> int:
    """A pidfd of the first process, or -1 if it has ended."""
    pid = container.state["pid"]
    if not pid:
        return -1
    try:
        pidfd = calls.pidfd_open(pid)
    except KernelError:
        return -1
    if start_time(pid) == container.state["pid_start"]:
        return pidfd
    os.close(pidfd)
    return -1


def _signal_all(cgroup: Cgroup, sig: int) -> None:
    if sig == SIGKILL:
        cgroup.kill()
        return
    for pid in cgroup.pids():
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue  # it has ended by itself


def delete(container: OciContainer, *, force: bool = False, warn: Callable[[str], None] = silently) -> None:
    """Removes a stopped container (any, with force).

    One that was created and not started is not stopped: runtime.md, "Delete", wants that refused. runc does not refuse it.
    """
    status = container.status()
    if status != "stopped" and not force:
        raise Conflict(f"cannot delete container {container.ident} that is not stopped: {status}")
    destroy(container, warn)


def destroy(container: OciContainer, warn: Callable[[str], None]) -> None:
    """Ends and removes whatever there is of a container, also half of one; then its poststop hooks run."""
    _end(container)
    spec = container.spec() if container.state["hooks"] else {}
    for name in os.listdir(container.dir):
        os.unlink(f"{container.dir}/{name}")
    os.rmdir(container.dir)
    if not spec:
        return
    from minicontainer.runtime import hooks

    for message in hooks.run(spec, "poststop", container.hook_state("stopped", 0), go_on=True):
        warn(message)


def _end(container: OciContainer) -> None:
    """Kills every process, waits for their end, and removes the cgroup."""
    init = first(container)
    try:
        if init >= 0:
            calls.pidfd_send_signal(init, SIGKILL)
        cgroup = container.cgroup()
        exists = cgroup.exists()
        if exists:
            cgroup.kill()
        if init >= 0:
            _wait(init, container)
        if exists:
            cgroup.remove()
    finally:
        if init >= 0:
            os.close(init)


def _wait(init: int, container: OciContainer) -> None:
    from select import POLLIN, poll

    ended = poll()
    ended.register(init, POLLIN)
    if not ended.poll(_END_SECONDS * 1000):
        raise MinicontainerError(
            "container init still running", f"process {container.state['pid']} did not die; state D in ps can't: try again"
        )
