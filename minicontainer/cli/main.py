"""The command `minicontainer`: finds the verb, runs it, prints what went wrong, exits with docker's codes.

Verbs are listed here by name and imported only when they are called: start-up is a feature.
"""

from __future__ import annotations

import gc
import os
import sys

from minicontainer import __version__
from minicontainer.cli.flags import Flag, help_text, parse
from minicontainer.cli.inherited import unspoilt
from minicontainer.engine.config import Config
from minicontainer.errors import MinicontainerError, UsageError

GLOBAL_FLAGS = (
    Flag("root", help="Where images and containers lie (default /var/lib/minicontainer)"),
    Flag("state", help="Where the state of live containers lies (default /run/minicontainer)"),
    Flag("config", help="Configuration file (default /etc/minicontainer.toml, if it is there)"),
    Flag("version", "v", "bool", "Print version information and quit"),
)

# verb: (module below cli, group, one line). The function has the verb's name.
VERBS = {
    "run": ("run", "Containers", "Create and run a new container from an image"),
    "create": ("run", "Containers", "Create a new container"),
    "start": ("life", "Containers", "Start one or more stopped containers"),
    "stop": ("life", "Containers", "Stop one or more running containers"),
    "restart": ("life", "Containers", "Restart one or more containers"),
    "kill": ("life", "Containers", "Kill one or more running containers"),
    "wait": ("life", "Containers", "Block until one or more containers stop, then print their exit codes"),
    "rm": ("life", "Containers", "Remove one or more containers"),
    "pause": ("life", "Containers", "Pause all processes within one or more containers"),
    "unpause": ("life", "Containers", "Unpause all processes within one or more containers"),
    "exec": ("run", "Containers", "Execute a command in a running container"),
    "ps": ("show", "Containers", "List containers"),
    "logs": ("show", "Containers", "Fetch the logs of a container"),
    "inspect": ("show", "Containers", "Return low-level information on containers and images"),
    "port": ("show", "Containers", "List port mappings of a container"),
    "stats": ("stats", "Containers", "Display a live stream of container resource usage statistics"),
    "import": ("images", "Images", "Import a root file system tarball as an image"),
    "images": ("images", "Images", "List images"),
    "rmi": ("images", "Images", "Remove one or more images"),
    "tag": ("images", "Images", "Give an image one more name"),
    "image": ("images", "Images", "Manage images: ls, inspect, rm, import, tag"),
    "metrics": ("metrics", "System", "Serve the accounting of all containers to Prometheus"),
    "gc": ("system", "System", "Reclaim what containers left whose command or monitor was killed"),
    "version": ("system", "System", "Show the version information"),
    "info": ("system", "System", "Show what this host offers to containers"),
}
_STAY = ("metrics", "stats", "show")
_INTERNAL = {"_ended": ("life", "", "")}  # what a monitor becomes when its container has ended


def usage() -> str:
    """The text of `minicontainer --help`."""
    lines = [help_text("minicontainer [OPTIONS] COMMAND", "A container runtime that can be seen through", GLOBAL_FLAGS)]
    for group in ("Containers", "Images", "System"):
        lines.append(f"\n{group}:\n")
        lines += [f"  {verb:9} {text}\n" for verb, (_, where, text) in VERBS.items() if where == group]
    lines.append("\nRun 'minicontainer COMMAND --help' for more information on a command.\n")
    return "".join(lines)


def dispatch(argv: list[str]) -> int:
    """Runs a command line (without the program's name); its exit code. MinicontainerError for what failed."""
    values, rest = parse(GLOBAL_FLAGS, argv, interspersed=False)
    if values["version"]:
        print(f"minicontainer version {__version__}")
        return 0
    if values.get("help") or not rest or rest == ["help"]:
        print(usage(), end="")
        return 0
    verb, args = rest[0], rest[1:]
    if verb == "help":
        verb, args = args[0], ["--help"]
    if verb == "container" and args:
        verb, args = {"ls": "ps", "list": "ps"}.get(args[0], args[0]), args[1:]
    found = VERBS.get(verb) or _INTERNAL.get(verb)
    if not found:
        from minicontainer.cli.trouble import unknown_verb

        raise UsageError(*unknown_verb(verb, list(VERBS)))
    if found[0] in _STAY:
        gc.enable()
    config = Config(values["root"], values["state"], values["config"])
    module = __import__(f"minicontainer.cli.{found[0]}", fromlist=["_"])
    try:
        return getattr(module, verb.strip("_") + "_")(config, args)
    except MinicontainerError as e:
        # As docker: 125 is for `run`, whose other codes are the container's own, and for flags; else it is 1.
        if verb != "run" and e.exit_code == 125 and not isinstance(e, UsageError):
            e.exit_code = 1
        raise


def main(argv: list[str] | None = None) -> None:
    """The entry point; never returns."""
    unspoilt()
    gc.disable()  # a verb lives for milliseconds and frees by reference counts; those that stay switch it on again
    code = 0
    try:
        code = dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except MinicontainerError as e:
        print(f"minicontainer: {e.message}", file=sys.stderr)
        if e.hint:
            print(e.hint, file=sys.stderr)
        code = e.exit_code
    except BrokenPipeError:
        code = 141  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        code = 130
    except OSError as e:
        from minicontainer.cli.trouble import explain_os_error

        print(f"minicontainer: {explain_os_error(e)}", file=sys.stderr)
        code = 125
    except Exception as e:
        if os.environ.get("MINICONTAINER_DEBUG"):
            raise
        print(
            f"minicontainer: internal error: {type(e).__name__}: {e}\n"
            "This is a bug: run it again with MINICONTAINER_DEBUG=1 and report what it prints.",
            file=sys.stderr,
        )
        code = 125
    sys.stderr.flush()
    os._exit(code)
