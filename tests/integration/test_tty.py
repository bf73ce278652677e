"""-t: a real terminal of the container's own, with the user's size, keys and settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.integration.engine import IMAGE, Engine, Terminal, until


@pytest.fixture
def terminal(engine: Engine) -> Iterator[Callable[..., Terminal]]:
    """A function: a minicontainer command line in a terminal of 30 rows and 100 columns."""
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(engine.enter(*words)))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


RUN = ("run", "--rm", "--network", "none", "-it", IMAGE)


def test_terminal_of_its_own(terminal: Callable[..., Terminal]) -> None:
    """The streams are a pty of the container's own devpts, /dev/console is it too, and TERM is set."""
    t = terminal(*RUN, "sh", "-c", "tty; echo $TERM; stat -c %t /dev/console /dev/pts/0; ls -1 /dev/pts; ls -l /proc/self/fd/2")
    assert t.wait() == 0
    lines = t.shown.decode().split("\r\n")
    assert lines[:6] == ["/dev/pts/0", "xterm", "88", "88", "0", "ptmx"]
    assert lines[6].endswith("/dev/pts/0")


def test_window_size_and_its_change(terminal: Callable[..., Terminal]) -> None:
    """The container's terminal is as large as the user's, also after the window was resized."""
    t = terminal(*RUN, "sh", "-c", "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")
    t.expect(b"30 100\r\n")
    t.expect(b"ready")
    t.resize(40, 120)
    t.expect(b"40 120\r\n")
    assert t.wait() == 0


def test_keys_reach_the_program(terminal: Callable[..., Terminal]) -> None:
    """A shell can be used: what is typed is echoed once and executed; ctrl-d ends it."""
    t = terminal(*RUN, "sh")
    t.expect(b"# ")
    t.type(b"echo $((6*7))\n")
    t.expect(b"42\r\n")
    t.type(b"exit 5\n")
    assert t.wait() == 5


def test_ctrl_c_is_the_containers(terminal: Callable[..., Terminal]) -> None:
    """ctrl-c interrupts the program inside, not the command outside."""
    t = terminal(*RUN, "sh", "-c", "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.1; done")
    t.expect(b"ready")
    t.type(b"\x03")
    t.expect(b"interrupted")
    assert t.wait() == 3


def test_terminal_is_given_back(terminal: Callable[..., Terminal]) -> None:
    """The user's terminal is raw while a container has it, and as before afterwards."""
    t = terminal(*RUN, "sh", "-c", "echo ready; read line")
    t.expect(b"ready")
    assert t.settings() != t.before
    t.type(b"\n")
    assert t.wait() == 0
    assert t.settings() == t.before


def test_terminal_is_given_back_after_a_failed_start(terminal: Callable[..., Terminal]) -> None:
    """A program that is not there leaves the terminal as it was."""
    t = terminal(*RUN, "no-such-program")
    assert t.wait() == 127
    assert t.settings() == t.before


def test_tty_without_input(terminal: Callable[..., Terminal]) -> None:
    """-t alone gives a terminal for output."""
    t = terminal("run", "--rm", "--network", "none", "-t", IMAGE, "tty")
    assert t.wait() == 0
    assert t.shown == b"/dev/pts/0\r\n"


def test_a_pipe_is_no_terminal(engine: Engine) -> None:
    """-it with a pipe as input is refused with docker's words and the way out."""
    done = engine.box("-it", IMAGE, "true", stdin=b"x")
    assert done.code in (1, 125)
    assert "the input device is not a TTY" in done.err


def test_output_of_a_terminal_into_a_pipe(engine: Engine) -> None:
    """-t with stdout elsewhere still gives the program a terminal: CR LF tells."""
    assert engine.box("-t", IMAGE, "echo", "x").out == "x\r\n"


def test_hanging_up_ends_it(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    """A container whose command is killed with its terminal does not stay."""
    t = terminal("run", "--rm", "--name", "orphan", "--network", "none", "-it", IMAGE, "sh", "-c", "echo ready; exec sleep 600")
    t.expect(b"ready")
    inside = engine.pid("orphan")
    t.process.send_signal(signal.SIGKILL)
    t.process.wait()
    until(lambda: not os.path.exists(f"/proc/{inside}"), "the program is gone with the command that watched it")
    assert engine.ok("ps", "-aq") == ""


def test_exec_in_a_terminal(engine: Engine, terminal: Callable[..., Terminal]) -> None:
    """exec -it has a pty of its own with the user's size, and hears of its change."""
    name = engine.detached(IMAGE, "sleep", "600")
    t = terminal(
        "exec", "-it", name, "sh", "-c", "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done"
    )
    t.expect(b"/dev/pts/0\r\n30 100\r\nready\r\n")
    t.resize(50, 90)
    t.expect(b"50 90\r\n")
    assert t.wait() == 4


def test_controlling_terminal_is_the_containers(terminal: Callable[..., Terminal]) -> None:
    """/dev/tty inside is the container's terminal: no character can be pushed into the user's (TIOCSTI)."""
    t = terminal(
        *RUN, "sh", "-c", "echo through >/dev/tty; ps -o pid,sid,tty 2>/dev/null | head -n 2; cat /proc/self/stat | cut -d ' ' -f 7"
    )
    assert t.wait() == 0
    shown = t.shown.decode().split("\r\n")
    assert shown[0] == "through"
    assert int(shown[-2]) == os.makedev(136, 0)


def test_detached_with_a_terminal(engine: Engine) -> None:
    """-dt: the program has a terminal though nobody watches, and its output is in the log."""
    name = engine.detached("-t", IMAGE, "sh", "-c", "tty; stty size")
    assert engine.ok("wait", name) == "0\n"
    assert engine.ok("logs", name).startswith("/dev/pts/0\r\n")
