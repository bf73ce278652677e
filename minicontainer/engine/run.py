"""`run` in the foreground: start, watch, clean up; the whole life of a container in one process."""

from __future__ import annotations

from minicontainer.engine import end, watch
from minicontainer.engine.container import Container, Life
from minicontainer.engine.start import Observer, start
from minicontainer.kernel.terminal import Terminal


def run_here(
    container: Container,
    life: Life,
    *,
    stdio: tuple[int, int, int],
    observer: Observer | None = None,
) -> int:
    """Starts a container, stands by until it ends, cleans up. docker's exit code.

    stdio: descriptors of the user's 0, 1, 2 (-1: not wanted).
    """
    tty = container.record["options"].get("tty", False)
    terminal = Terminal(stdio[0] if stdio[0] >= 0 else stdio[1]) if tty else None
    try:
        started = start(container, life, console_size=terminal.size() if terminal else None, observer=observer)
    except BaseException:
        end.finish(container, life)
        raise
    options = container.record["options"]
    if terminal:
        terminal.raw()
    try:
        status = watch.watch(started, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2], sig_proxy=options.get("sig_proxy", True))
    finally:
        if terminal:
            terminal.restore()
    end.finish(container, life)
    return watch.exit_code(status)
