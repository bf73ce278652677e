"""run, create, exec: what starts processes."""

from __future__ import annotations

import os
import sys

from minicontainer.cli.common import helped, launcher, root_needed
from minicontainer.cli.flags import Flag, parse
from minicontainer.cli.run_flags import CREATE_FLAGS, CREATE_SUMMARY, CREATE_USAGE, RUN_FLAGS, RUN_SUMMARY, RUN_USAGE
from minicontainer.engine.config import Config
from minicontainer.engine.options import RunOptions, from_flags
from minicontainer.engine.options_check import check
from minicontainer.engine.values import env_entry, env_file
from minicontainer.errors import UsageError

EXEC_FLAGS = (
    Flag("detach", "d", "bool", "Detached mode: run command in the background"),
    Flag("env", "e", "list", "Set environment variables", parse=env_entry),
    Flag("env-file", kind="list", help="Read in a file of environment variables", parse=env_file),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("privileged", kind="bool", help="Give extended privileges to the command"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("user", "u", help='Username or UID (format: "<name|uid>[:<group|gid>]")'),
    Flag("workdir", "w", help="Working directory inside the container"),
)


def run_(config: Config, argv: list[str]) -> int:
    """run [OPTIONS] IMAGE [COMMAND] [ARG...]"""
    values, args = parse(RUN_FLAGS, argv, interspersed=False, command="minicontainer run")
    if helped(values, RUN_USAGE, RUN_SUMMARY, RUN_FLAGS):
        return 0
    options = _options(values, args)
    if options.dry_run:
        from minicontainer.cli.explain import dry_run

        return dry_run(config, options)
    root_needed()
    from minicontainer.engine.create import create, find_root
    from minicontainer.engine.end import reclaim

    reclaim(config)
    root = find_root(config, options)
    if options.tty and options.interactive and not options.detach and not os.isatty(0):
        raise UsageError("the input device is not a TTY", "leave out -t, or run it in a terminal")
    container, life = create(config, options, ["run", *argv], root)
    from minicontainer.cli.notes import Notes

    observer = Notes()
    if options.explain:
        from minicontainer.cli.explain import Explain

        observer = Explain(options.explain)
    if options.detach:
        from minicontainer.engine.start import start_detached

        start_detached(container, life, launcher(config, container.ident), observer)
        print(container.ident)
        return 0
    from minicontainer.engine.run import run_here

    return run_here(container, life, stdio=_stdio(options), observer=observer)


def create_(config: Config, argv: list[str]) -> int:
    """create [OPTIONS] IMAGE [COMMAND] [ARG...]"""
    values, args = parse(CREATE_FLAGS, argv, interspersed=False, command="minicontainer create")
    if helped(values, CREATE_USAGE, CREATE_SUMMARY, CREATE_FLAGS):
        return 0
    options = _options(values, args)
    root_needed()
    from minicontainer.engine.create import create

    container, life = create(config, options, ["create", *argv])
    life.end()
    print(container.ident)
    return 0


def exec_(config: Config, argv: list[str]) -> int:
    """exec [OPTIONS] CONTAINER COMMAND [ARG...]"""
    values, args = parse(EXEC_FLAGS, argv, interspersed=False, command="minicontainer exec")
    if helped(
        values, "minicontainer exec [OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container", EXEC_FLAGS
    ):
        return 0
    if len(args) < 2:
        raise UsageError('"minicontainer exec" requires at least 2 arguments.', "See 'minicontainer exec --help'.")
    root_needed()
    from minicontainer.engine.container import find
    from minicontainer.engine.exec import ExecOptions, execute

    env = [line for lines in values["env-file"] for line in lines] + list(values["env"])
    if values["tty"] and values["interactive"] and not values["detach"] and not os.isatty(0):
        raise UsageError("the input device is not a TTY", "leave out -t, or run it in a terminal")
    options = ExecOptions(
        args[1:],
        env=tuple(env),
        user=values["user"],
        workdir=values["workdir"],
        tty=values["tty"],
        interactive=values["interactive"],
        detach=values["detach"],
        privileged=values["privileged"],
    )
    return execute(find(config, args[0]), options)


def _options(values: dict, args: list[str]) -> RunOptions:
    options = from_flags(values, args)
    for warning in check(options):
        print(f"WARNING: {warning}", file=sys.stderr)
    return options


def _stdio(options: RunOptions) -> tuple[int, int, int]:
    """Which of the user's streams are relayed: stdin with -i, the outputs unless -a leaves them out."""
    wanted = [a.lower() for a in options.attach]
    return (
        0 if options.interactive or "stdin" in wanted else -1,
        1 if not wanted or "stdout" in wanted else -1,
        2 if not wanted or "stderr" in wanted else -1,
    )
