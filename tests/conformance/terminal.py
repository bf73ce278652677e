"""A program on a terminal of its own: some tests of the suites want one, as at a developer's desk, and skip or fail without."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import termios
import time

import orphan


def run(argv: list[str], cwd: str, environment: dict[str, str], seconds: float) -> tuple[int, str]:
    """Runs a program as the leader of a session on a new pty, at most so long; its exit status (-9: the time was up) and output."""
    master, slave = os.openpty()
    plain = termios.tcgetattr(slave)
    plain[1] &= ~termios.OPOST  # a newline stays a newline
    termios.tcsetattr(slave, termios.TCSANOW, plain)
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    output = bytearray()
    deadline = time.monotonic() + seconds
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
            output += _ready(master, 0.1)
            orphan.reap(process.pid)
        while more := _ready(master, 0):
            output += more
    finally:
        os.close(master)
    return process.wait(), output.decode(errors="replace")


def _ready(master: int, seconds: float) -> bytes:
    """What can be read within that time; nothing once all have closed the terminal (EIO)."""
    if not select.select([master], [], [], seconds)[0]:
        return b""
    try:
        return os.read(master, 1 << 16)
    except OSError as e:
        if e.errno != errno.EIO:
            raise
        time.sleep(seconds)
        return b""
