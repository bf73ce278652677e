"""create and run."""

from __future__ import annotations

import os

from minicontainer.cli import FALSE, TRUE
from minicontainer.cli.oci import Call, Verb, reason
from minicontainer.cli.oci.flags import Flag
from minicontainer.errors import UsageError
from minicontainer.runtime import lifecycle
from minicontainer.runtime.ending import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.launch import Launch
    from minicontainer.runtime.state import OciContainer

BUNDLE = Flag("bundle", "b", help="path to the root of the bundle directory, defaults to the current directory")
CONSOLE = Flag("console-socket", help="path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal")
CONFIG = Flag("config", "f", help="the file to read in place of the bundle's config.json (crun's flag)")
PID_FILE = Flag("pid-file", help="specify the file to write the process id to")
PRESERVE = Flag(
    "preserve-fds", kind="int", help="Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)"
)
_CREATE = (
    BUNDLE,
    CONFIG,
    CONSOLE,
    PID_FILE,
    Flag("no-pivot", kind="bool", help="refused: without pivot_root the host's root stays in reach"),
    Flag("no-new-keyring", kind="bool", help="do not create a new session keyring for the container"),
    PRESERVE,
)
_RUN = (
    *_CREATE,
    Flag("detach", "d", "bool", "detach from the container's process"),
    Flag("keep", kind="bool", help="do not delete the container after it exits"),
    Flag("no-subreaper", kind="bool", help="disable the use of the subreaper used to reap reparented processes"),
)


def connect(path: str) -> int:
    """A connection to a console socket; -1 for no path."""
    if not path:
        return -1
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as e:
        raise UsageError(f"dial unix {path}: connect: {reason(e)}") from None
    return sock.detach()


def _create(call: Call, *, foreground: bool = False) -> OciContainer:
    values = call.values
    ident, bundle = check_bundle(call)
    container = lifecycle.create(
        call.root,
        ident,
        bundle,
        pid_file=values["pid-file"],
        console_socket=connect(values["console-socket"]),
        foreground=foreground,
        systemd=call.options["systemd-cgroup"] or call.options["cgroup-manager"] == "systemd",
        new_keyring=not values["no-new-keyring"],
        preserve_fds=values["preserve-fds"],
        config=os.path.abspath(values["config"]) if values["config"] else "",
        cgroups=call.options["cgroup-manager"] != "disabled",
        rootless=rootless(call.options["rootless"]),
        warn=call.log.warn,
    )
    if call.log.debugging and container.launch:
        log_steps(call, container.launch)
    return container


def check_bundle(call: Call) -> tuple[str, str]:
    """The id and the bundle of a container to be made. UsageError for what is wrong with them, and for --no-pivot."""
    if call.values["no-pivot"]:
        raise UsageError("--no-pivot is refused: without pivot_root the host's root stays in reach")
    bundle = call.values["bundle"] or "."
    if not os.path.isdir(bundle):
        raise UsageError(f"chdir {bundle}: no such file or directory")
    if not call.args[0]:
        raise UsageError("container id cannot be empty")
    return call.args[0], bundle


def rootless(text: str) -> bool | None:
    """--rootless: whether cgroups that we may not make are no error; None for auto."""
    if text.lower() in ("", "auto"):
        return None
    if text not in TRUE and text not in FALSE:
        from minicontainer.cli.oci.log import quoted

        raise UsageError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax", "true, false or auto")
    return text in TRUE


def log_steps(call: Call, launch: Launch) -> None:
    """--debug: every step of a start as it was taken, with the time it took."""
    from minicontainer.stub import describe

    for where, op, result in launch.steps:
        call.log.debug(f"{where}: {describe.call(op)}: {op.why} ({result.duration_ns // 1000} µs)")


def create_(call: Call) -> int:
    """create [OPTIONS] CONTAINER"""
    _create(call)
    return 0


def run_(call: Call) -> int:
    """run [OPTIONS] CONTAINER"""
    values = call.values
    if values["detach"]:
        _started(call, _create(call))
        return 0
    from minicontainer.cli.oci.foreground import become_subreaper, hold_signals, stand_by

    if not values["no-subreaper"]:
        become_subreaper()
    container = _create(call, foreground=True)
    hold_signals()
    code = stand_by(_started(call, container, main=os.getpid()))
    if not values["keep"]:
        delete(container, force=True, warn=call.log.warn)
    return code


def _started(call: Call, container: OciContainer, *, main: int = 0) -> Launch:
    """Starts a container of ours. One that can't be started is gone. main: as of lifecycle.start."""
    assert container.launch
    try:
        lifecycle.start(container, main=main, warn=call.log.warn)
    except BaseException:
        if os.path.exists(container.dir):  # a hook that fails takes the container along
            delete(container, force=True, warn=call.log.warn)
        raise
    return container.launch


VERBS = {"create": Verb(create_, _CREATE), "run": Verb(run_, _RUN)}
