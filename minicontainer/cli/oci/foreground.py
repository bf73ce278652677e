"""Standing by a process of a container until it ends: its terminal, its signals, its orphans, its status."""

from __future__ import annotations

import os

from minicontainer.kernel import calls
from minicontainer.kernel.flags import PR
from minicontainer.kernel.monitor import run_monitor
from minicontainer.kernel.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.launch import Launch

_NONE = -1
# SIGILL TRAP BUS FPE KILL SEGV PIPE, CHLD STOP TTIN TTOU URG; the C library's own
_NOT_HELD = frozenset((4, 5, 7, 8, 9, 11, 13, 17, 19, 21, 22, 23, 32, 33))


def become_subreaper() -> None:
    """Orphans of the container's process become children of ours (prctl(2)), and are reaped while we stand by."""
    calls.syscall("prctl", PR["PR_SET_CHILD_SUBREAPER"], 1, 0, 0, 0)


def hold_signals() -> None:
    """Signals that come from now on wait for stand_by(), which passes them on: none ends us and leaves a container unattended.

    Not held are those that a process does to itself, stops at its terminal, and what the C library keeps (32, 33).
    """
    from _signal import SIG_BLOCK, pthread_sigmask  # type: ignore[import-not-found]  # what signal.py takes them from

    pthread_sigmask(SIG_BLOCK, set(range(1, 65)) - _NOT_HELD)


def stand_by(launch: Launch) -> int:
    """The exit status of a child of ours: its code, or 128 + signal. Signals that we get are passed on to it.

    If it has a terminal whose master is with us, our standard streams are relayed to that.
    """
    relayed = launch.console >= 0
    settings: dict[str, str | int] = {"pid": launch.pid, "pidfd": launch.pidfd, "tty": launch.console, "reap": 1}
    settings |= {"out": _NONE, "err": _NONE, "in": _NONE}
    terminal = Terminal(0) if relayed else None
    if terminal:
        terminal.raw()
    try:
        status = run_monitor(settings, user_in=0 if relayed else _NONE, user_out=1, user_err=2, forward=True)
    finally:
        if terminal:
            terminal.restore()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
