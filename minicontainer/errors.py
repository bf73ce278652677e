"""Everything that minicontainer raises on purpose.

    MinicontainerError               exit code 125: the runtime failed, not the program inside
    ├── UsageError                   a flag or argument is wrong
    ├── NotFound                     no such container, image, network …
    ├── Conflict                     a name, port or id is taken; a container is in the wrong state
    ├── ImageError                   a tarball, layer or image is not what it should be
    ├── NetworkError                 bridge, address or published port
    ├── LimitError                   a cgroup limit that is wrong or did not take
    ├── Unsupported                  this host lacks what was asked for
    └── KernelError                  a system call failed; .call .path .errno
        └── StartError               a step of a plan failed; exit code 125, or 126/127 from the final execve

The message says what failed, on what, and why; the hint says what to do. Only cli/ prints them.
"""

from __future__ import annotations

from posix import strerror  # not os, which start and state do without: it takes 0.8 ms to import


class MinicontainerError(Exception):
    """The root of the tree. `message` and `hint` are one line each."""

    exit_code = 125

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(MinicontainerError):
    """A flag or argument is wrong."""


class NotFound(MinicontainerError):
    """What was named is not there."""


class Conflict(MinicontainerError):
    """What was asked for is taken, or the state does not allow it."""


class ImageError(MinicontainerError):
    """A tarball, layer or image is not what it should be."""


class NetworkError(MinicontainerError):
    """Bridge, address or published port."""


class LimitError(MinicontainerError):
    """A cgroup limit that is wrong, or that the kernel did not take as asked."""


class Unsupported(MinicontainerError):
    """This host lacks what was asked for."""


class KernelError(MinicontainerError):
    """A system call failed.

    call: its name; path: what it was done to ("" if nothing has a name); errno: the number.
    """

    def __init__(self, call: str, path: str, errno: int, hint: str = "") -> None:
        where = f" {path}" if path else ""
        super().__init__(f"{call}{where}: {strerror(errno)}", hint)
        self.call = call
        self.path = path
        self.errno = errno


class StartError(KernelError):
    """A step of a plan failed. exit_code is docker's: 126 not executable, 127 not found, 125 everything else."""

    def __init__(self, call: str, path: str, errno: int, hint: str = "", *, message: str = "", exit_code: int = 125) -> None:
        super().__init__(call, path, errno, hint)
        if message:
            self.message = message
            self.args = (message,)
        self.exit_code = exit_code
