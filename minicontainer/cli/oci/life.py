"""start, state, kill, delete, pause and resume: what a caller does to a container by its id."""

from __future__ import annotations

from posix import strerror

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb
from minicontainer.cli.oci.flags import Flag
from minicontainer.errors import Conflict, KernelError, NotFound, UsageError
from minicontainer.runtime import state

_ALL = Flag("all", "a", "bool", "send the specified signal to all processes inside the container")
_FORCE = Flag("force", "f", "bool", "Forcibly deletes the container if it is still running (uses SIGKILL)")


def container_of(call: Call) -> state.OciContainer:
    """The container that the first argument names. NotFound, UsageError in runc's words."""
    if not call.args[0]:
        raise UsageError("container id cannot be empty")
    return state.load(call.root, call.args[0])


def start_(call: Call) -> int:
    """start CONTAINER"""
    from minicontainer.runtime.starting import start

    start(container_of(call), warn=call.log.warn)
    return 0


def state_(call: Call) -> int:
    """state CONTAINER"""
    print(fastjson.dumps(container_of(call).describe(), indent="  "), end="")
    return 0


def kill_(call: Call) -> int:
    """kill [OPTIONS] CONTAINER [SIGNAL]"""
    from minicontainer.runtime.ending import kill

    container = container_of(call)
    sig = _signal(call.args[1] if len(call.args) > 1 else "")
    try:
        kill(container, sig, everything=call.values["all"])
    except KernelError as e:
        raise UsageError(f"unable to signal init: {strerror(e.errno).lower()}") from None
    return 0


def _signal(text: str) -> int:
    """A signal by number or name, with or without SIG; SIGTERM for none. Any C int is let through: the kernel knows."""
    try:
        number = int(text or "15")
    except ValueError:
        from minicontainer.engine.values import signal_number

        try:
            return signal_number(text)
        except ValueError:
            raise _unknown_signal(text) from None
    if not -(1 << 31) <= number < 1 << 31:
        raise _unknown_signal(text)
    return number


def _unknown_signal(text: str) -> UsageError:
    from minicontainer.cli.oci.log import quoted

    return UsageError(f"unknown signal {quoted(text)}")


def delete_(call: Call) -> int:
    """delete [OPTIONS] CONTAINER"""
    from minicontainer.runtime.ending import delete

    force = call.values["force"]
    try:
        container = container_of(call)
    except NotFound:
        if force:
            return 0
        raise
    delete(container, force=force, warn=call.log.warn)
    return 0


def pause_(call: Call) -> int:
    """pause CONTAINER"""
    container = container_of(call)
    if container.status() not in ("created", "running"):
        raise Conflict("container not running")
    container.cgroup().freeze()
    return 0


def resume_(call: Call) -> int:
    """resume CONTAINER"""
    container = container_of(call)
    if container.status() != "paused":
        raise Conflict("container not paused")
    container.cgroup().thaw()
    return 0


VERBS = {
    "start": Verb(start_),
    "state": Verb(state_),
    "kill": Verb(kill_, (_ALL,), most=2),
    "delete": Verb(delete_, (_FORCE,)),
    "pause": Verb(pause_),
    "resume": Verb(resume_),
}
