"""minicontainer for the integration tests: a command line with its results as text, and a terminal to run it in."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence

from tests.clients.ours import Ours

PATIENCE = 120.0
"""Seconds that anything may take: the cgroup v2 guest runs Python some 30 times slower than its host."""

SLOW = os.path.exists("/run/guest")
"""Whether this is that guest: what is sampled is sampled less."""

IMAGE = "busybox"


class Done:
    """A command that has ended: its exit code and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit code {self.code}\nstdout: {self.out[-2000:]}\nstderr: {self.err[-2000:]}"


class Engine(Ours):
    """minicontainer on directories, cgroups and a network namespace of its own."""

    empty: dict[str, set[str]]  # leftovers.here() without a container

    def do(self, *words: str, stdin: bytes | None = None, prefix: Sequence[str] = (), env: dict[str, str] | None = None) -> Done:
        """One command line to its end; stdin None is /dev/null. prefix comes before it (strace, setpriv …)."""
        argv = [*self.enter()[:2], *prefix, *self.command(*words)]
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, **(env or {})},
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape"))

    def ok(self, *words: str, stdin: bytes | None = None) -> str:
        """What a command printed that must succeed."""
        done = self.do(*words, stdin=stdin)
        assert done.code == 0, (words, done)
        return done.out

    def box(self, *words: str, stdin: bytes | None = None) -> Done:
        """`run --rm --network none WORDS`: flags, image, command."""
        return self.do("run", "--rm", "--network", "none", *words, stdin=stdin)

    def sh(self, script: str, *flags: str, stdin: bytes | None = None) -> str:
        """What a shell script prints in a container that must end with 0."""
        done = self.box(*flags, IMAGE, "sh", "-c", script, stdin=stdin)
        assert done.code == 0, (script, flags, done)
        return done.out

    def spawn(self, *words: str, **settings: object) -> subprocess.Popen[bytes]:
        """A command line that is still running."""
        return subprocess.Popen(self.enter(*words), **settings)  # type: ignore[call-overload]

    def detached(self, *words: str) -> str:
        """`run -d --network none WORDS`: the id."""
        return self.ok("run", "-d", "--network", "none", *words).strip()

    def field(self, name: str, template: str) -> str:
        """`inspect --format`."""
        return self.ok("inspect", "--format", template, name).rstrip("\n")

    def pid(self, name: str) -> int:
        """The first process of a running container."""
        return int(self.field(name, "{{.State.Pid}}"))

    def clear(self) -> None:
        """Removes every container."""
        names = self.ok("ps", "-aq").split()
        if names:
            self.do("rm", "-fv", *names)  # one may go by itself meanwhile


def disk() -> str:
    """A folder on a file system that overlayfs can write on: in the guest / is an overlay itself, and /tmp a disk."""
    for folder in ("/var/tmp", "/tmp"):
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
        if kind not in ("overlayfs", "tmpfs"):
            return folder
    return "/tmp"


def new_engine() -> Engine:
    """An engine with the image IMAGE in a folder of its own; remove_engine() ends it."""
    engine = Engine(tempfile.mkdtemp(prefix="mc-test-", dir=disk()))
    engine.start()
    return engine


def until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Terminal:
    """A command in a terminal of its own, as a person has it: what it shows, what is typed, its size."""

    def __init__(self, argv: Sequence[str], rows: int = 30, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.shown = b""
        self.resize(rows, columns, tell=False)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.slave = slave

    def resize(self, rows: int, columns: int, *, tell: bool = True) -> None:
        """A new window size; whoever has the terminal hears of it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text: bytes) -> None:
        """Keys are pressed."""
        os.write(self.master, text)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.master, 65536)
        return True

    def expect(self, text: bytes) -> None:
        """Waits until a text is on the screen that was not expected before."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            ended = self.process.poll() is not None
            assert (self._read(0.1) or not ended) and time.monotonic() < end, f"{text!r} is not in {self.shown!r}"
        self.shown = self.shown.partition(text)[2]

    def wait(self) -> int:
        """The exit code; what was shown is read to its end."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end; it shows {self.shown!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def settings(self) -> list:
        """termios of the user's terminal."""
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        """Lets the terminal go."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def processes_of(engine: Engine) -> Iterator[int]:
    """Processes that belong to an engine: in one of its cgroups, or with its folder on their command line."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            with open(f"/proc/{pid}/cgroup") as f:
                mine = engine.cgroup in f.read()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                mine = mine or engine.directory.encode() in f.read()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if mine:
            yield pid
