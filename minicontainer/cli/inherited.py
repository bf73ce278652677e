"""What a command inherits from its caller and must not depend on."""

from __future__ import annotations

import posix  # os takes 0.8 ms to import, a tenth of the shortest commands
import sys
from _signal import SIG_DFL, SIGCHLD, signal  # type: ignore[import-not-found]  # what signal.py takes them from


def unspoilt() -> None:
    """Makes this process independent of three things that it inherits.

    A closed stream (`<&-`) becomes /dev/null: no file of ours gets its number, and with it a container's output. The umask
    is 022: what containers are given, such as /etc/resolv.conf, is for all users in them. And a caller that ignores SIGCHLD,
    which exec keeps, would take from us the status of a container, or of a hook: wait(2) finds no child then.
    """
    fd = posix.open("/dev/null", posix.O_RDWR)
    while fd <= 2:
        fd = posix.dup(fd)
    posix.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    posix.umask(0o022)
    signal(SIGCHLD, SIG_DFL)
