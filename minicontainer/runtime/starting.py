"""`start` of the OCI face: lets a created container go on to its execve."""

from __future__ import annotations

import posix

from minicontainer.errors import Conflict, StartError, UsageError
from minicontainer.runtime.state import OciContainer, silently
from minicontainer.stub.outcome import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def start(container: OciContainer, *, main: int = 0, warn: Callable[[str], None] = silently) -> None:
    """Lets a created container go on to its execve. StartError if that or a hook fails; after a hook's the container is gone.

    With NOTIFY_SOCKET it returns when the container says that it is ready; main: whom to watch then, the first process for 0.
    """
    host = posix.environ.get(b"NOTIFY_SOCKET")
    if host and posix.access(f"{container.dir}/notify", posix.F_OK) and container.status() == "created":
        _start_and_wait(container, main, host.decode(errors="surrogateescape"), warn)
    else:
        _start(container, warn)


def _start_and_wait(container: OciContainer, main: int, host: str, warn: Callable[[str], None]) -> None:
    from minicontainer.runtime.ending import first
    from minicontainer.runtime.notify import Listener

    listener = Listener(container.dir)
    _start(container, warn)
    init = first(container)
    if init < 0:
        return  # it has ended already
    try:
        listener.wait(init, main or container.state["pid"], host)
    except UsageError as e:
        warn(e.message)
    finally:
        posix.close(init)


def _start(container: OciContainer, warn: Callable[[str], None]) -> None:
    status = container.status()
    if status != "created":
        raise _not_created(status)
    _release(container)
    failed = failed_op(container)
    if not failed and not container.state["hooks"]:
        return
    from minicontainer.runtime import hooks

    spec = container.spec()
    if not failed:
        try:
            hooks.run(spec, "poststart", container.hook_state("running", container.state["pid"]))
        except StartError:
            _destroy(container, warn)
            raise
        return
    index, ops, errno = failed
    if index == ops - 1:
        from minicontainer.runtime.launch import exec_error

        raise exec_error(spec["process"]["args"][0], errno)
    nth = index - container.state["start_hook"]
    if not 0 <= nth < len(hooks.of(spec, "startContainer")):  # what is before them
        raise StartError("seccomp", "", errno, "the filter is not one this kernel takes")
    error = hook_failure(container, spec, "startContainer", nth, errno)
    _destroy(container, warn)
    raise error


def _destroy(container: OciContainer, warn: Callable[[str], None]) -> None:
    from minicontainer.runtime.ending import destroy

    destroy(container, warn)


def _release(container: OciContainer) -> None:
    """Writes what the first process waits for, and returns when it has executed its program or ended."""
    try:
        fifo = posix.open(f"{container.dir}/exec.fifo", posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        posix.unlink(f"{container.dir}/exec.fifo")
    except OSError:  # no such file: another `start` was faster; no such device: the process has ended
        raise _not_created(container.status()) from None
    from select import poll

    try:
        posix.write(fifo, b"s")
        gone = poll()
        gone.register(fifo, 0)
        gone.poll()  # POLLERR: the execve has closed the other end, or the process has ended
    except BrokenPipeError:
        raise _not_created("stopped") from None
    finally:
        posix.close(fifo)


def _not_created(status: str) -> Conflict:
    if status == "stopped":
        return Conflict("cannot start a container that has stopped")
    return Conflict(
        "cannot start an already running container" if status == "running" else f"cannot start a container in the {status} state"
    )


def failed_op(container: OciContainer) -> tuple[int, int, int] | None:
    """What in the stub's plan failed (outcome.failure)."""
    try:
        with open(f"{container.dir}/plan", "rb") as f:
            return failure(f.read())
    except FileNotFoundError:
        return None  # there was no clone


def hook_failure(container: OciContainer, spec: dict, name: str, nth: int, errno: int) -> StartError:
    """The error for the nth hook of this name, which failed in the stub with errno."""
    from minicontainer.runtime import hooks

    return hooks.failure(name, nth, hooks.of(spec, name)[nth], errno, hooks.written(container.dir))
