"""The command `minicontainer-oci`: the OCI runtime command line, with runc's verbs, flags, messages and exit codes.

Verbs are listed here by name and imported only when they are called: a container's life is three of these commands.

    global flags ──▶ Call ──▶ the verb's function ──▶ exit code
                               │ MinicontainerError ──▶ the log (last error line: what the caller shows), 1, or 255 from exec
                               └ FlagError ───────────▶ help on stdout, the log, 1
"""

from __future__ import annotations

import gc
import posix  # os takes 0.8 ms to import, a tenth of the shortest commands
import sys

from minicontainer.cli.inherited import unspoilt
from minicontainer.cli.oci.flags import Flag, FlagError, parse
from minicontainer.cli.oci.log import Log
from minicontainer.errors import MinicontainerError, StartError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cli import Values

PROGRAM = "minicontainer-oci"
GLOBAL_FLAGS = (
    Flag("debug", kind="bool", help="enable debug logging: every step of a start is logged"),
    Flag("log", help="set the log file to write logs to (default is '/dev/stderr')"),
    Flag("log-format", help="set the log format ('text' (default), or 'json')", default="text"),
    Flag("root", help="root directory for storage of container state (this should be located in tmpfs)"),
    Flag("criu", help="path to the criu binary used for checkpoint and restore", default="criu"),
    Flag(
        "systemd-cgroup",
        kind="bool",
        help='enable systemd cgroup support, expects cgroupsPath to be of form "slice:prefix:name"',
    ),
    Flag(
        "cgroup-manager",
        help="'cgroupfs', 'systemd' (as --systemd-cgroup), or 'disabled': no cgroup (crun's flag)",
        default="cgroupfs",
    ),
    Flag("rootless", help="ignore cgroup permission errors ('true', 'false', or 'auto')", default="auto"),
    Flag("version", "v", "bool", "print the version"),
)

# verb: (module below this package, one line of help)
VERBS = {
    "checkpoint": ("criu", "checkpoint a running container"),
    "create": ("create", "create a container"),
    "delete": ("life", "delete any resources held by the container often used with detached container"),
    "events": ("events", "display container events such as OOM notifications, cpu, memory, and IO usage statistics"),
    "exec": ("exec", "execute new process inside the container"),
    "features": ("spec", "show the enabled features"),
    "kill": ("life", "kill sends the specified signal (default: SIGTERM) to the container's init process"),
    "list": ("show", "lists containers started by this runtime with the given root"),
    "pause": ("life", "pause suspends all processes inside the container"),
    "ps": ("show", "ps displays the processes running inside a container"),
    "restore": ("criu", "restore a container from a previous checkpoint"),
    "resume": ("life", "resumes all processes that have been previously paused"),
    "run": ("create", "create and run a container"),
    "spec": ("spec", "create a new specification file"),
    "start": ("life", "executes the user defined process in a created container"),
    "state": ("life", "output the state of a container"),
    "update": ("update", "update container resource constraints"),
}
_NO_TOPIC = 3  # urfave/cli's exit code


class Verb:
    """What a module says of a verb of its: function(call) -> exit code, its flags, how many arguments it takes, and whether
    flags may stand behind them (not where the arguments are another program's)."""

    __slots__ = ("flags", "function", "interspersed", "least", "most")

    def __init__(
        self,
        function: Callable[[Call], int],
        flags: tuple[Flag, ...] = (),
        *,
        least: int = 1,
        most: int | None = 1,
        interspersed: bool = True,
    ) -> None:
        self.function = function
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed


class Call:
    """One command line. options: the global flags; root: where state lies, absolute; values, args: the verb's own."""

    __slots__ = ("args", "log", "options", "root", "values", "verb")

    options: Values
    values: Values

    def __init__(self) -> None:
        self.log = Log()
        self.root = ""
        self.verb = ""
        self.args: list[str] = []

    def configure(self, options: Values) -> None:
        """--root, --log, --log-format, --debug. UsageError for what is wrong there."""
        self.options = options
        self.root = _absolute(options["root"] or _default_root())
        kind, path = options["log-format"], options["log"]
        if kind not in ("", "text", "json"):
            raise UsageError(f"invalid log-format: {kind}")
        if options["cgroup-manager"] not in ("cgroupfs", "systemd", "disabled"):
            raise UsageError(f"unknown cgroup manager: {options['cgroup-manager']}", "one of cgroupfs, systemd, disabled")
        if self.root == "/":
            raise UsageError("Option --root argument should not be set to /")
        fd = 2
        if path:
            try:
                fd = posix.open(path, posix.O_CREAT | posix.O_WRONLY | posix.O_APPEND | posix.O_SYNC | posix.O_CLOEXEC, 0o644)
            except OSError as e:
                raise UsageError(f"open {path}: {reason(e)}") from None
        self.log = Log(fd, json=kind == "json", debug=options["debug"])


def _absolute(path: str) -> str:
    """The path without dots and doubled slashes; callers give it so."""
    if path[:1] == "/" and "//" not in path and "/." not in path:
        return path.rstrip("/") or "/"
    from os.path import abspath

    return abspath(path)


def _default_root() -> str:
    """In the user's own runtime folder unless root of the host calls: root of a user namespace is a user, too (as in runc)."""
    import os

    mine = os.environ.get("XDG_RUNTIME_DIR")
    if mine and not os.geteuid():
        from minicontainer.runtime.namespaces import initial_user_namespace

        if initial_user_namespace() or os.environ.get("USER") == "root":
            mine = None
    return f"{mine}/{PROGRAM}" if mine else "/run/minicontainer/oci"


def verb_of(name: str) -> Verb:
    """A verb by a name of VERBS."""
    return __import__(f"minicontainer.cli.oci.{VERBS[name][0]}", fromlist=["_"]).VERBS[name]


def _run(call: Call, name: str, argv: list[str]) -> int:
    call.verb = name
    verb = verb_of(name)
    call.values, call.args = parse(verb.flags, argv, interspersed=verb.interspersed)
    if call.values["help"]:
        from minicontainer.cli.oci.help import verb_help

        print(verb_help(name), end="")
        return 0
    for wrong, limit, words in (
        (verb.least == verb.most and len(call.args) != verb.most, verb.least, "exactly"),
        (len(call.args) < verb.least, verb.least, "a minimum of"),
        (verb.most is not None and len(call.args) > verb.most, verb.most, "a maximum of"),
    ):
        if wrong:
            raise FlagError(f'{sys.argv[0]}: "{name}" requires {words} {limit} argument(s)', "Incorrect Usage.")
    return verb.function(call)


def _dispatch(call: Call, words: list[str]) -> int:
    if call.options["version"]:
        from minicontainer.cli.oci.help import version

        print(version())
        return 0
    name, argv = (words[0], words[1:]) if words and not call.options["help"] else ("help", [])
    if name not in VERBS:
        from minicontainer.cli.oci.help import app_help, verb_help

        topic = argv[:1] if name in ("help", "h") else [name]
        if topic and topic[0] not in VERBS:
            call.log.error(f"No help topic for '{topic[0]}'\n")
            return _NO_TOPIC
        print(verb_help(topic[0]) if topic else app_help(), end="")
        return 0
    return _run(call, name, argv)


def main() -> None:
    """The entry point; never returns."""
    unspoilt()
    gc.disable()  # a verb lives for milliseconds and frees by reference counts
    call = Call()
    try:
        options, words = parse(GLOBAL_FLAGS, sys.argv[1:], interspersed=False)
        call.configure(options)
        code = _dispatch(call, words)
        sys.stdout.flush()
    except (MinicontainerError, OSError, KeyboardInterrupt) as e:
        code = failed(e, call)
    except Exception as e:
        if posix.environ.get(b"MINICONTAINER_DEBUG"):
            raise
        call.log.error(
            f"internal error: {type(e).__name__}: {e}: this is a bug: run it again with MINICONTAINER_DEBUG=1 and report it"
        )
        code = _exit_code(call.verb)
    posix._exit(code)


def _exit_code(verb: str) -> int:
    """Of a command that could not do what it was to do."""
    return 255 if verb == "exec" else 1


def failed(e: MinicontainerError | OSError | KeyboardInterrupt, call: Call) -> int:
    """Says what went wrong; the exit code."""
    if isinstance(e, KeyboardInterrupt):
        return 130
    if isinstance(e, BrokenPipeError):
        return 141  # whoever read our output has gone
    if isinstance(e, FlagError):
        from minicontainer.cli.oci.help import app_help, verb_help

        heading = e.heading if call.verb else e.heading.replace("Usage:", "Usage.", 1)
        print(f"{heading}\n\n{verb_help(call.verb) if call.verb else app_help()}", end="", flush=True)
        call.log.error(e.message)
        return 1
    call.log.error(_prefix(e, call.verb) + explain(e))
    return _exit_code(call.verb)


def _prefix(e: Exception, verb: str) -> str:
    """What runc puts before its errors, by the verb."""
    start = f"{PROGRAM} {verb} failed: " if verb in ("create", "run") else "exec failed: " if verb == "exec" else ""
    return start + ("unable to start container process: " if isinstance(e, StartError) else "")


def explain(e: MinicontainerError | OSError) -> str:
    """An error as one line; the hint, which runc has none of, in parentheses."""
    if isinstance(e, MinicontainerError):
        return f"{e.message} ({e.hint})" if e.hint else e.message
    return f"{e.filename}: {reason(e)}" if e.filename else reason(e)


def reason(e: OSError) -> str:
    """What an errno says, in Go's words: C's, without the capital (but "AF_UNIX path too long")."""
    text = e.strerror or str(e)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
