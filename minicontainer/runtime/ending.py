"""The end of a container of the OCI face: signals, and removing all there is of it."""

from __future__ import annotations

import posix  # os takes 0.8 ms to import
from errno import EINVAL, ESRCH

from minicontainer.errors import Conflict, KernelError, MinicontainerError
from minicontainer.runtime.processes import start_time
from minicontainer.runtime.state import OciContainer, silently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroup.group import Cgroup

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
            return
    init = first(container)
    if init < 0:
        if everything:
            return
        raise Conflict("container not running")
    try:
        send(init, sig)
    finally:
        posix.close(init)
    if sig == SIGKILL and container.frozen():
        container.cgroup().thaw()  # what the v1 freezer holds does not die


def first(container: OciContainer) -> int:
    """A pidfd of the first process, or -1 if it has ended."""
    pid = container.state["pid"]
    if not pid:
        return -1
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError as e:
        # EINVAL, before Linux 6.9: it has ended, but others are still in its session or process group.
        if e.errno not in (ESRCH, EINVAL):
            raise
        return -1
    if start_time(pid) == container.state["pid_start"]:
        return pidfd
    posix.close(pidfd)
    return -1


def send(pidfd: int, sig: int) -> None:
    """pidfd_send_signal(2), by the interpreter's own module: kernel/calls.py costs a millisecond to load. KernelError."""
    from _signal import pidfd_send_signal  # type: ignore[import-not-found]  # what signal.py takes it from

    try:
        pidfd_send_signal(pidfd, sig)
    except OSError as e:
        raise KernelError("pidfd_send_signal", "", e.errno or 0) from None


def _signal_all(cgroup: Cgroup, sig: int) -> None:
    if sig == SIGKILL:
        cgroup.kill()
        return
    for pid in cgroup.pids():
        try:
            posix.kill(pid, sig)
        except ProcessLookupError:
            continue  # it has ended by itself


def delete(container: OciContainer, *, force: bool = False, warn: Callable[[str], None] = silently) -> None:
    """Removes a container that has stopped, or was never started (any, with force).

    runtime.md, "Delete", wants it refused for a created one; runc and crun end it, and crun's tests hold a runtime to that.
    """
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {container.ident} that is not stopped: {status}")
    destroy(container, warn)


def destroy(container: OciContainer, warn: Callable[[str], None]) -> None:
    """Ends and removes whatever there is of a container, also half of one; then its poststop hooks run."""
    _end(container)
    try:
        spec = container.spec() if container.state["hooks"] else {}
    except FileNotFoundError:  # it was never written, or another command was faster
        spec = {}
    if not _remove(container.dir) or not spec:
        return
    from minicontainer.runtime import hooks

    for message in hooks.run(spec, "poststop", container.hook_state("stopped", 0), go_on=True):
        warn(message)


def _remove(folder: str) -> bool:
    """Removes the container's folder; False if somebody else has, who then runs the hooks."""
    try:
        for name in posix.listdir(folder):
            try:
                posix.unlink(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                _remove(f"{folder}/{name}")  # notify.py's
        posix.rmdir(folder)
    except FileNotFoundError:
        return False
    return True


def _end(container: OciContainer) -> None:
    """Kills every process, waits for their end, and removes the cgroup."""
    init = first(container)
    try:
        if init >= 0:
            _kill(init)
        if init >= 0 or not _swept(container):
            cgroup = container.cgroup()
            exists = cgroup.exists()
            if exists:
                cgroup.kill()
            if init >= 0:
                _wait(init, container)
            if exists:
                cgroup.remove()
        if container.state["resctrl"]:
            from minicontainer.runtime.resctrl import remove

            remove(container.state["resctrl"])
        if container.state["mounted"]:
            from minicontainer.runtime import attached

            attached.remove(container.state["rootfs"], container.state["mounted"])
    finally:
        if init >= 0:
            posix.close(init)


def _swept(container: OciContainer) -> bool:
    """Removes a cgroup that nothing is in, without what knows about cgroups (a fifth of a `delete`); False if that is needed."""
    groups, parents = container.state["sweep"]
    if not groups or not all(map(_rmdir, groups)):
        return False
    for above in parents:
        for parent in above:
            if not _rmdir(parent):
                break
    return True


def _rmdir(path: str) -> bool:
    try:
        posix.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:  # somebody is in it, or a group is below it
        return False
    return True


def _kill(pidfd: int) -> None:
    try:
        send(pidfd, SIGKILL)
    except KernelError as e:
        if e.errno != ESRCH:  # it has ended by itself
            raise


def _wait(init: int, container: OciContainer) -> None:
    from select import POLLIN, poll

    ended = poll()
    ended.register(init, POLLIN)
    if not ended.poll(_END_SECONDS * 1000):
        raise MinicontainerError(
            "container init still running", f"process {container.state['pid']} did not die; state D in ps can't: try again"
        )
