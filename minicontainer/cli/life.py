"""start, stop, restart, kill, wait, rm, pause, unpause, and _ended, which a monitor becomes."""

from __future__ import annotations

from minicontainer.cli import Values
from minicontainer.cli.common import at_least, for_each, helped, launcher, root_needed
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine import actions
from minicontainer.engine.config import Config
from minicontainer.engine.container import Container, Life, every, find
from minicontainer.engine.values import signal_number
from minicontainer.errors import Conflict, UsageError

_TIME = Flag("time", "t", "int", "Seconds to wait before killing the container", None)
_SIGNAL = Flag("signal", "s", help="Signal to send to the container")
_STOP = (_TIME, _SIGNAL)


def _parse(flags: tuple[Flag, ...], argv: list[str], verb: str, summary: str, minimum: int = 1) -> tuple[Values, list[str]] | None:
    values, args = parse(flags, argv, command=f"minicontainer {verb}")
    if helped(values, f"minicontainer {verb} [OPTIONS] CONTAINER [CONTAINER...]", summary, flags):
        return None
    at_least(args, minimum, verb)
    root_needed()
    return values, args


def start_(config: Config, argv: list[str]) -> int:
    """start [OPTIONS] CONTAINER [CONTAINER...]"""
    flags = (
        Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
        Flag("interactive", "i", "bool", "Attach container's STDIN"),
    )
    parsed = _parse(flags, argv, "start", "Start one or more stopped containers")
    if not parsed:
        return 0
    values, names = parsed
    if values["attach"] or values["interactive"]:
        if len(names) > 1:
            raise UsageError("you cannot start and attach multiple containers at once")
        container = find(config, names[0])
        if container.live():
            raise Conflict(
                f"container {container.name} is running already, and `attach` is not there yet",
                "see it with `minicontainer logs -f`",
            )
        from minicontainer.cli.notes import Notes
        from minicontainer.engine.run import run_here

        life = actions.begin(container)
        if life is None:
            raise Conflict(f"container {container.name} was started meanwhile", "see it with `minicontainer logs -f`")
        return run_here(container, life, stdio=(0 if values["interactive"] else -1, 1, 2), observer=Notes())
    return for_each(names, lambda name: _start(config, find(config, name)))


def _start(config: Config, container: Container) -> None:
    from minicontainer.cli.notes import Notes
    from minicontainer.engine.start import start_detached

    life = actions.begin(container)
    if life:
        start_detached(container, life, launcher(config, container.ident), Notes())


def stop_(config: Config, argv: list[str]) -> int:
    """stop [OPTIONS] CONTAINER [CONTAINER...]"""
    parsed = _parse(_STOP, argv, "stop", "Stop one or more running containers")
    if not parsed:
        return 0
    values, names = parsed
    return for_each(names, lambda n: actions.stop(find(config, n), seconds=values.get("time"), sig=values["signal"]))


def restart_(config: Config, argv: list[str]) -> int:
    """restart [OPTIONS] CONTAINER [CONTAINER...]"""
    parsed = _parse(_STOP, argv, "restart", "Restart one or more containers")
    if not parsed:
        return 0
    values, names = parsed

    def restart(name: str) -> None:
        container = find(config, name)
        actions.stop(container, seconds=values.get("time"), sig=values["signal"])
        _start(config, container)

    return for_each(names, restart)


def kill_(config: Config, argv: list[str]) -> int:
    """kill [OPTIONS] CONTAINER [CONTAINER...]"""
    flags = (Flag("signal", "s", help="Signal to send to the container", default="KILL", parse=signal_number),)
    parsed = _parse(flags, argv, "kill", "Kill one or more running containers")
    if not parsed:
        return 0
    sig = parsed[0].get("signal", actions.SIGKILL)
    return for_each(parsed[1], lambda n: actions.kill(find(config, n), sig))


def wait_(config: Config, argv: list[str]) -> int:
    """wait CONTAINER [CONTAINER...]"""
    parsed = _parse((), argv, "wait", "Block until one or more containers stop, then print their exit codes")
    for name in parsed[1] if parsed else ():
        print(actions.wait(find(config, name)), flush=True)
    return 0


def rm_(config: Config, argv: list[str]) -> int:
    """rm [OPTIONS] CONTAINER [CONTAINER...]"""
    flags = (
        Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
        Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
        Flag("all", kind="bool", help="All containers that do not run"),
    )
    parsed = _parse(flags, argv, "rm", "Remove one or more containers", minimum=0)
    if not parsed:
        return 0
    values, names = parsed
    if values["all"]:
        names = [c.ident for c in every(config) if values["force"] or not c.live()]
    else:
        at_least(names, 1, "rm")
    return for_each(names, lambda n: actions.remove(find(config, n), force=values["force"], volumes=values["volumes"]))


def pause_(config: Config, argv: list[str]) -> int:
    """pause CONTAINER [CONTAINER...]"""
    parsed = _parse((), argv, "pause", "Pause all processes within one or more containers")
    return for_each(parsed[1], lambda n: actions.pause(find(config, n), frozen=True)) if parsed else 0


def unpause_(config: Config, argv: list[str]) -> int:
    """unpause CONTAINER [CONTAINER...]"""
    parsed = _parse((), argv, "unpause", "Unpause all processes within one or more containers")
    return for_each(parsed[1], lambda n: actions.pause(find(config, n), frozen=False)) if parsed else 0


def ended_(config: Config, argv: list[str]) -> int:
    """_ended ID FD: cleans up after a container; the monitor that this process was left the descriptor of its lock."""
    from minicontainer.engine.end import finish, orphan

    life = Life.inherit(config, argv[0], int(argv[1]))
    finish(orphan(config, argv[0], life), life)
    return 0
