"""The command `minicontainer-oci`: the OCI runtime command line, with runc's verbs and flags, over runtime/lifecycle.py."""

from __future__ import annotations

import os
import sys

from minicontainer import __version__, fastjson
from minicontainer.cli.common import unspoilt
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine.values import signal_number
from minicontainer.errors import MinicontainerError, UsageError
from minicontainer.runtime import execute, lifecycle, state

GLOBAL_FLAGS = (
    Flag("root", help="root directory for storage of container state", default="/run/minicontainer/oci"),
    Flag("log", help="set the log file to write logs to (default stderr)"),
    Flag("log-format", help="set the log format ('text' or 'json')", default="text"),
    Flag("debug", kind="bool", help="enable debug logging"),
    Flag("systemd-cgroup", kind="bool", help="systemd cgroup support (refused: not there yet)"),
    Flag("rootless", help="ignored: it is found out", default="auto"),
    Flag("version", "v", "bool", "print the version"),
)
_BUNDLE = Flag("bundle", "b", help="path to the root of the bundle directory", default=".")
_CONSOLE = Flag("console-socket", help="path to an AF_UNIX socket which will receive the master end of the pseudoterminal")
_PID_FILE = Flag("pid-file", help="file to write the process id to")
_NO_OP = (
    Flag("no-pivot", kind="bool", help="refused"),
    Flag("no-new-keyring", kind="bool", help="accepted"),
    Flag("preserve-fds", kind="int", help="refused unless 0"),
    Flag("no-subreaper", kind="bool", help="accepted"),
)


def _args(flags: tuple[Flag, ...], argv: list[str], verb: str, count: int) -> tuple[dict, list[str]]:
    values, args = parse(flags, [_double(a, flags) for a in argv], interspersed=count != 2, command=f"minicontainer-oci {verb}")
    if len(args) < count:
        raise UsageError(f'minicontainer-oci: "{verb}" requires {"exactly " if count == 1 else "a minimum of "}{count} argument(s)')
    if values["no-pivot"] if any(f.name == "no-pivot" for f in flags) else False:
        raise UsageError("--no-pivot is refused: without pivot_root the host's root stays reachable")
    return values, args


def _double(word: str, flags: tuple[Flag, ...]) -> str:
    """runc takes -long like --long."""
    name = word[1:].partition("=")[0]
    return f"-{word}" if word[:1] == "-" and word[1:2] != "-" and len(name) > 1 and any(f.name == name for f in flags) else word


def _connect(path: str) -> int:
    """A connection to a console socket; -1 for no path."""
    if not path:
        return -1
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.connect(path)
    return sock.detach()


def create_(root: str, argv: list[str]) -> int:
    """create [OPTIONS] CONTAINER"""
    values, (ident, *_) = _args((_BUNDLE, _CONSOLE, _PID_FILE, *_NO_OP), argv, "create", 1)
    lifecycle.create(root, ident, values["bundle"], pid_file=values["pid-file"], console_socket=_connect(values["console-socket"]))
    return 0


def start_(root: str, argv: list[str]) -> int:
    """start CONTAINER"""
    lifecycle.start(state.load(root, _args((), argv, "start", 1)[1][0]))
    return 0


def run_(root: str, argv: list[str]) -> int:
    """run [OPTIONS] CONTAINER"""
    flags = (
        _BUNDLE,
        _CONSOLE,
        _PID_FILE,
        *_NO_OP,
        Flag("detach", "d", "bool", "detach from the container's process"),
        Flag("keep", kind="bool", help="do not delete the container after it exits"),
    )
    values, (ident, *_) = _args(flags, argv, "run", 1)
    container = lifecycle.create(
        root, ident, values["bundle"], pid_file=values["pid-file"], console_socket=_connect(values["console-socket"])
    )
    try:
        lifecycle.start(container)
        if values["detach"]:
            return 0
        code = _wait(container.state["pid"])
    except BaseException:
        lifecycle.delete(container, force=True)
        raise
    if not values["keep"]:
        lifecycle.delete(container, force=True)
    return code


def _wait(pid: int) -> int:
    """Waits for a child, passing signals on; its exit code."""
    import signal

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(sig, lambda number, _: os.kill(pid, number))
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status := os.waitpid(pid, 0)[1]) else 128 + os.WTERMSIG(status)


def state_(root: str, argv: list[str]) -> int:
    """state CONTAINER"""
    print(fastjson.dumps(state.load(root, _args((), argv, "state", 1)[1][0]).describe(), indent="  "))
    return 0


def kill_(root: str, argv: list[str]) -> int:
    """kill [OPTIONS] CONTAINER [SIGNAL]"""
    values, args = _args((Flag("all", "a", "bool", "send the signal to all processes"),), argv, "kill", 1)
    try:
        sig = signal_number(args[1] if len(args) > 1 else "TERM")
    except ValueError as e:
        raise UsageError(str(e)) from None
    lifecycle.kill(state.load(root, args[0]), sig, everything=values["all"])
    return 0


def delete_(root: str, argv: list[str]) -> int:
    """delete [OPTIONS] CONTAINER"""
    values, (ident, *_) = _args(
        (Flag("force", "f", "bool", "forcibly delete the container if it is still running"),), argv, "delete", 1
    )
    if values["force"] and not os.path.isdir(f"{root}/{state.check_id(ident)}"):
        return 0
    lifecycle.delete(state.load(root, ident), force=values["force"])
    return 0


def list_(root: str, argv: list[str]) -> int:
    """list [OPTIONS]"""
    values, _ = _args(
        (Flag("format", "f", help="table or json", default="table"), Flag("quiet", "q", "bool", "only ids")), argv, "list", 0
    )
    found = [c.describe() for c in state.every(root)]
    if values["quiet"]:
        print("".join(f"{c['id']}\n" for c in found), end="")
    elif values["format"] == "json":
        print(fastjson.dumps(found))
    else:
        from minicontainer.cli.common import table

        print(
            table(
                [
                    ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
                    *([c["id"], str(c["pid"]), c["status"], c["bundle"], c["created"], c["owner"]] for c in found),
                ]
            ),
            end="",
        )
    return 0


def pause_(root: str, argv: list[str]) -> int:
    """pause CONTAINER"""
    return _freeze(root, argv, "pause", "running")


def resume_(root: str, argv: list[str]) -> int:
    """resume CONTAINER"""
    return _freeze(root, argv, "resume", "paused")


def _freeze(root: str, argv: list[str], verb: str, needed: str) -> int:
    container = state.load(root, _args((), argv, verb, 1)[1][0])
    if container.status() != needed:
        raise UsageError(f"container not {needed}")
    cgroup = container.cgroup()
    cgroup.freeze() if verb == "pause" else cgroup.thaw()
    return 0


def exec_(root: str, argv: list[str]) -> int:
    """exec [OPTIONS] CONTAINER COMMAND [ARG...]"""
    flags = (
        _CONSOLE,
        _PID_FILE,
        Flag("process", "p", help="path to the process.json"),
        Flag("detach", "d", "bool", "detach"),
        Flag("tty", "t", "bool", "allocate a pseudo-TTY"),
        Flag("cwd", help="working directory"),
        Flag("env", "e", "list", "environment"),
    )
    values, args = _args(flags, argv, "exec", 2 if not any("process" in a or a == "-p" for a in argv) else 1)
    container = state.load(root, args[0])
    if values["process"]:
        with open(values["process"], "rb") as f:
            process: dict = fastjson.loads(f.read())  # type: ignore[assignment]  # an object, by the spec
    else:
        process = dict(container.spec()["process"])
        process.update(args=args[1:], terminal=values["tty"], env=[*process.get("env", ()), *values["env"]])
        if values["cwd"]:
            process["cwd"] = values["cwd"]
    launch = execute.execute(container, process, console_socket=_connect(values["console-socket"]), detach=values["detach"])
    if values["pid-file"]:
        lifecycle.write_pid_file(values["pid-file"], launch.pid)
    return 0 if values["detach"] else _wait(launch.pid)


# verb: (function, one line of help; no docstring, which an installed command has none of)
VERBS = {
    "create": (create_, "create a container"),
    "start": (start_, "executes the user defined process in a created container"),
    "run": (run_, "create and run a container"),
    "state": (state_, "output the state of a container"),
    "kill": (kill_, "send the specified signal (default: SIGTERM) to the container's init process"),
    "delete": (delete_, "delete any resources held by the container"),
    "list": (list_, "list containers started by this runtime with the given root"),
    "pause": (pause_, "suspend all processes inside the container"),
    "resume": (resume_, "resume all processes that have been previously paused"),
    "exec": (exec_, "execute new process inside the container"),
}


def main() -> None:
    """The entry point; never returns. runc's exit codes: 1 for what the runtime could not do, 255 for exec."""
    unspoilt()
    values: dict = {}
    verb = ""
    try:
        values, rest = parse(
            GLOBAL_FLAGS, [_double(a, GLOBAL_FLAGS) for a in sys.argv[1:]], interspersed=False, command="minicontainer-oci"
        )
        if values["version"]:
            print(f"minicontainer-oci version {__version__}\ncommit: v{__version__}\nspec: 1.2.0")
            code = 0
        elif values.get("help") or not rest:
            print("Usage: minicontainer-oci [global options] command [command options] [arguments...]\n\nCommands:")
            print("".join(f"  {name:8} {text}\n" for name, (_, text) in VERBS.items()), end="")
            code = 0
        else:
            verb, argv = rest[0], rest[1:]
            if verb not in VERBS:
                raise UsageError(f"'{verb}' is not there yet", f"commands are {', '.join(VERBS)}")
            if values["systemd-cgroup"]:
                raise UsageError("--systemd-cgroup: the systemd cgroup driver is not there yet", "use the cgroupfs driver")
            code = VERBS[verb][0](os.path.abspath(values["root"]), argv)
    except MinicontainerError as e:
        _log(values, ": ".join(str(e).split("\n")))
        code = 255 if verb == "exec" else 1
    except OSError as e:
        _log(values, f"{e.filename + ': ' if e.filename else ''}{e.strerror or e}")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _log(values: dict, message: str) -> None:
    """An error where the caller looks for it: the last error line of --log, or stderr."""
    from datetime import UTC, datetime

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = (
        fastjson.dumps({"level": "error", "msg": message, "time": now})
        if values.get("log-format") == "json"
        else f'time="{now}" level=error msg={fastjson.dumps(message)}'
    )
    if values.get("log"):
        with open(values["log"], "a") as f:
            f.write(line + "\n")
    print(f"minicontainer-oci: {message}" if not values.get("log") else line, file=sys.stderr)
