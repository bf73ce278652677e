"""What the harness says when the host lacks something: one exception, and the look-up of programs."""

from __future__ import annotations

import os
import shutil

GUEST_FAILED = 125
"""Exit status when the command never ran to its end: no QEMU, no kernel, a guest that died (docker's 125)."""

TIMED_OUT = 124
"""Exit status when the time was up (as timeout(1))."""


class Trouble(Exception):
    """The guest can't be booted; the message says what is missing and how to get it."""


def program(name: str, package: str) -> str:
    """The path of a program of the host, also from /sbin.

    name: file name, such as "qemu-system-x86_64"; package: the Debian package that has it.
    Raises Trouble with the apt command when it is not there.
    """
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise Trouble(f"{name} is not installed; the v2 guest needs it: apt-get install {package}")
    return path
