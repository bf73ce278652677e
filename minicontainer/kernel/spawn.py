"""Memory that two processes share, the interpreter of ops in this process, and clone3() with the stub behind it."""

from __future__ import annotations

import os

from minicontainer.errors import KernelError
from minicontainer.kernel._kernel import ffi, lib
from minicontainer.kernel.calls import memfd_create
from minicontainer.kernel.flags import MFD_CLOEXEC


class SharedMemory:
    """A memfd, or a new file at path, mapped here: `fd` for the child, `view` (a writable buffer) for us."""

    def __init__(self, content: bytes | bytearray, path: str = "") -> None:
        if path:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        else:
            self.fd = memfd_create("plan", MFD_CLOEXEC)
        os.write(self.fd, content)
        import mmap

        self.view = mmap.mmap(self.fd, len(content))

    def close(self) -> None:
        """Lets the descriptor go; the view stays readable."""
        os.close(self.fd)


def run_here(code: bytearray) -> int:
    """Runs a program of host ops in this process, without the GIL; the index of the op that failed, or -1."""
    plan = ffi.cast("struct plan *", ffi.from_buffer(code))
    lib.plan_relocate(plan)
    return lib.plan_run(plan, 0, plan.nops)


def spawn(
    exec_fd: int,
    fds: list[int],
    flags: int,
    *,
    cgroup_fd: int = -1,
    argv: tuple[bytes, ...] = (b"minicontainer",),
    env: tuple[bytes, ...] = (),
) -> tuple[int, int]:
    """clone3(flags) of a child that executes exec_fd with fds[i] as its descriptor i; nothing else is open in it.

    The child's pid and pidfd. KernelError names clone3 or execveat.
    """
    strings = [ffi.new("char[]", s) for s in (*argv, *env)]
    s = ffi.new("struct spawn *")
    numbers = ffi.new("int[]", fds)
    vector = ffi.new("char *[]", [*strings[: len(argv)], ffi.NULL])
    environ = ffi.new("char *[]", [*strings[len(argv) :], ffi.NULL])
    s.flags, s.exec_fd, s.cgroup_fd, s.fds, s.nfds, s.argv, s.envp = (flags, exec_fd, cgroup_fd, numbers, len(fds), vector, environ)
    pid = lib.mc_spawn(s)
    if pid < 0:
        raise KernelError("clone3", "", -pid)
    if s.child_errno:
        os.close(s.pidfd)
        os.waitpid(pid, 0)
        raise KernelError("execveat", "the stub", s.child_errno)
    return pid, s.pidfd
