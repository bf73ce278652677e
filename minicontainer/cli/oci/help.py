"""--help in the layout of urfave/cli, and --version as dockerd and podman read it."""

from __future__ import annotations

from minicontainer import __version__
from minicontainer.cli.oci import GLOBAL_FLAGS, PROGRAM, VERBS, verb_of
from minicontainer.cli.oci.flags import HELP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.cli.oci.flags import Flag

_ID = 'Where "<container-id>" is the name of the container.'
_NEW_ID = 'Where "<container-id>" is a name for the new container, unique on this host.'
_CONFIG = """\
The bundle is a directory with a
specification file named "config.json" and a root filesystem. What the container runs is process.args of that file."""
# verb: (arguments, what they are, description)
_TEXTS = {
    "checkpoint": ("<container-id>", _ID, "Saves the state of a running container. This takes CRIU: criu(8)."),
    "create": (
        "<container-id>",
        _NEW_ID,
        f"Creates a container from a bundle, up to its command, which waits for `start`. {_CONFIG}",
    ),
    "delete": (
        "<container-id>",
        _ID,
        "Deletes a container that is stopped, or created and never started; with --force one in any state, and none is as good.",
    ),
    "events": (
        "<container-id>",
        _ID,
        "Prints one JSON object a line: the container's statistics, every 5 seconds by default, and each time that the kernel\n"
        "kills a process of it for want of memory. It ends with the container.",
    ),
    "exec": (
        "<container-id> <command> [command options]  || -p process.json <container-id>",
        'Where "<command>" is what to execute in the container. Options of ours come before "<container-id>".',
        "Exits with the command's status, 128 + N if signal N ended it, 255 if it could not be started.",
    ),
    "features": ("", "", "Prints the features of this runtime as JSON (features.md of the OCI runtime specification)."),
    "kill": (
        "<container-id> [signal]",
        f'{_ID}\n"[signal]" is a name ("KILL", "SIGKILL") or a number.',
        "",
    ),
    "list": ("", "", "Containers are listed from the folder that the global option --root names."),
    "pause": ("<container-id>", _ID, "Suspends all processes of a container."),
    "ps": (
        "<container-id> [ps options]",
        _ID,
        "Runs ps with the options given (-ef by default), and shows what it says of this container.",
    ),
    "restore": ("<container-id>", _NEW_ID, "Restores a container from what `checkpoint` saved. This takes CRIU: criu(8)."),
    "resume": ("<container-id>", _ID, "Resumes all processes of a paused container."),
    "run": ("<container-id>", _NEW_ID, f"Creates a container, starts it, and exits with its status. {_CONFIG}"),
    "spec": (
        "",
        "",
        "Writes a config.json to start from: it runs sh in the folder rootfs beside it. With --rootless it is one for a user who\n"
        "is not root: a user namespace in which that user is root, and nothing that takes more.",
    ),
    "start": ("<container-id>", _ID, "Executes the command of a created container."),
    "state": ("<container-id>", _ID, "Prints the state of a container as JSON (runtime.md of the OCI runtime specification)."),
    "update": (
        "<container-id>",
        _ID,
        'Changes limits of a container. With --resources they are read from a file, or from standard input for "-", in the form\n'
        "of linux.resources of config.json, and all other options are ignored. What is not mentioned stays as it is.",
    ),
}


def verb_help(name: str) -> str:
    """`minicontainer-oci VERB --help`."""
    usage, where, description = _TEXTS[name]
    flags = [flag for flag in verb_of(name).flags if flag.help]
    options = "[command options] " if flags else ""
    return _sections(
        [
            ("NAME", f"{PROGRAM} {name} - {VERBS[name][1]}"),
            ("USAGE", f"{PROGRAM} {name} {options}{usage}".rstrip() + (f"\n\n{where}" if where else "")),
            ("DESCRIPTION", description),
            ("OPTIONS", _options(flags)),
        ]
    )


def app_help() -> str:
    """`minicontainer-oci --help`."""
    width = max(map(len, VERBS))
    commands = [f"{name:{width}}  {text}" for name, (_, text) in VERBS.items()]
    return _sections(
        [
            ("NAME", f"{PROGRAM} - Open Container Initiative runtime"),
            ("USAGE", f"{PROGRAM} [global options] command [command options] [arguments...]"),
            ("VERSION", version().removeprefix(f"{PROGRAM} version ")),
            ("COMMANDS", "\n   ".join([*commands, f"{'help, h':{width}}  Shows a list of commands or help for one command"])),
            ("GLOBAL OPTIONS", _options((*GLOBAL_FLAGS[:-1], HELP, GLOBAL_FLAGS[-1]))),
        ]
    )


def _sections(sections: list[tuple[str, str]]) -> str:
    return "\n".join(f"{title}:\n   {text}\n" for title, text in sections if text)


def _options(flags: Iterable[Flag]) -> str:
    heads = {}
    for flag in flags:
        value = "" if flag.kind == "bool" else " value"
        heads[f"--{flag.name}{value}" + (f", -{flag.short}{value}" if flag.short else "")] = flag
    width = max(map(len, heads), default=0)
    return "\n   ".join(f"{head:{width}}  {flag.help}{_default(flag)}" for head, flag in heads.items())


def _default(flag: Flag) -> str:
    if not flag.default:
        return ""
    return f' (default: "{flag.default}")' if flag.kind == "string" else f" (default: {flag.default})"


def version() -> str:
    """runc's form, which dockerd and podman read: name, commit, spec, libseccomp."""
    from minicontainer.kernel import seccomp
    from minicontainer.runtime.schema import NEWEST

    found = seccomp.version()
    lines = [f"{PROGRAM} version {__version__}", f"commit: v{__version__}", f"spec: {NEWEST}"]
    return "\n".join([*lines, f"libseccomp: {found}"] if found else lines)
