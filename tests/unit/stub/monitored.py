"""The monitor at work: a real container and a real user, before, behind and beside the real binary and the same loop through cffi."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import select
import signal
import sys
import termios
import time

PART = 16384
TIMEOUT = 20.0


def exit_code(pid: int, late: str) -> int:
    """Of a child of ours; one that does not end in time is killed, and an AssertionError."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(late)


class Detached:
    """A monitor beside a `container` (any program), which is its child as in `run -d`."""

    def __init__(self, program: str, directory, argv: list[str], *, tty: bool = False, options: tuple[str, ...] = (),
                 cleanup: tuple[str, ...] = (), stdin: bool = False) -> None:
        self.log, self.exit = str(directory / "c-json.log"), str(directory / "exit")
        self.stdin, master = None, -1
        ready, told = os.pipe()
        self.monitor = os.fork()
        if self.monitor == 0:
            try:
                fds = {}
                if tty:
                    master, slave = pty.openpty()
                    fds["tty"], inside = master, [slave] * 3
                else:
                    out, err = os.pipe(), os.pipe()
                    fds["out"], fds["err"], inside = out[0], err[0], [os.open("/dev/null", os.O_RDONLY), out[1], err[1]]
                child = os.fork()
                if child == 0:
                    os.setsid()
                    for to, fd in enumerate(inside):
                        os.dup2(fd, to)
                    os.execvp(argv[0], argv)
                for fd in set(inside):
                    os.close(fd)
                fds["pidfd"] = os.pidfd_open(child)
                for fd in fds.values():
                    os.set_inheritable(fd, True)
                os.write(told, str(child).encode())
                words = [f"{k}={v}" for k, v in fds.items()] + [f"pid={child}", f"log={self.log}", f"exit-file={self.exit}"]
                os.execv(program, ["monitor", *words, *options, *(("--", *cleanup) if cleanup else ())])
            finally:
                os._exit(99)
        os.close(told)
        self.container = int(os.read(ready, 20))
        os.close(ready)

    def wait(self) -> int:
        """The monitor's exit code."""
        return exit_code(self.monitor, "the monitor did not end")

    def entries(self, index: str = "") -> list[dict]:
        with open(self.log + index, encoding="utf-8") as f:
            return [json.loads(line) for line in f.read().split("\n")[:-1]]


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def writes(path, data: bytes) -> list[str]:
    """A container that writes these bytes to its stdout."""
    (path / "data").write_bytes(data)
    return ["cat", str(path / "data")]


def go_text(data: bytes) -> str:
    """Bytes as Go ranges over them: each byte that is not part of a character is one U+FFFD."""
    codecs.register_error("go", lambda error: ("\ufffd", error.start + 1))
    return data.decode("utf-8", "go")


def shell_code(status: int) -> int:
    """A wait status as the shell and docker tell it: 128 + n for a signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def until(what, message: str) -> None:
    end = time.monotonic() + TIMEOUT
    while not what():
        assert time.monotonic() < end, message
        time.sleep(0.01)


def limit_file_size(pid: int, size: int) -> None:
    """EFBIG instead of ENOSPC: a short write, then an error, as on a full disk.  SIGXFSZ is blocked by the monitor."""
    import resource

    def is_monitor() -> bool:
        with open(f"/proc/{pid}/comm") as f:
            return f.read() == "monitor\n"

    until(is_monitor, "the monitor was not executed")
    time.sleep(0.1)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


DETACHED_CODE, FAILED_CODE = 200, 201


class Foreground:
    """monitor_run() in a process of its own, between a `container` and this test as its user."""

    def __init__(self, argv: list[str], *, tty: bool = False, user_tty: bool = False,
                 user_out: int | None = None, log: str = "", forward: int = 1, exit_file: str = "") -> None:
        """user_out: a descriptor for the user's stdout; without it a pipe, whose end is .out, or with user_tty a pty."""
        if user_tty:
            self.user, theirs = pty.openpty()
            self.into, self.out, users = self.user, self.user, (theirs, theirs, theirs)
        else:
            inp, out, err = os.pipe(), os.pipe(), os.pipe()
            self.into, self.out, self.err = inp[1], out[0], err[0]
            users = (inp[0], out[1] if user_out is None else user_out, err[1])
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for fd in {self.into, self.out}:
                    os.close(fd)
                os._exit(self._command(argv, tty, users, log, forward, told, exit_file))
            finally:
                os._exit(FAILED_CODE)
        for fd in {*users, told} - {user_out}:
            os.close(fd)
        self.container = int(os.read(ready, 20))
        os.close(ready)
        time.sleep(0.05)  # from the pid to monitor_run(): signals before it are not what is tested here

    @staticmethod
    def _command(argv, tty, users, log, forward, told, exit_file="") -> int:
        from minicontainer.kernel._kernel import ffi, lib

        os.setsid()
        if tty:
            master, slave = pty.openpty()
            inside = (slave, slave, slave)
        else:
            inp, out, err = os.pipe(), os.pipe(), os.pipe()
            inside = (inp[0], out[1], err[1])
        child = os.fork()
        if child == 0:
            os.setsid()
            for to, fd in enumerate(inside):
                os.dup2(fd, to)
            if tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.closerange(3, 100)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvp(argv[0], argv)
        for fd in set(inside):
            os.close(fd)
        m = ffi.new("struct monitor *")
        m.pid, m.pidfd = child, os.pidfd_open(child)
        m.tty, m.out, m.err = (master, -1, -1) if tty else (-1, out[0], err[0])
        m.user_in, m.user_out, m.user_err = users[0], users[1], users[2]
        m.forward, m.log_max_files = forward, 1
        keys, path = ffi.new("char[]", b"\x10\x11"), ffi.new("char[]", log.encode())
        m.detach_keys, m.log = keys, path if log else ffi.NULL
        exit_path = ffi.new("char[]", exit_file.encode())
        m.exit_file = exit_path if exit_file else ffi.NULL
        setattr(m, "in", -1 if tty else inp[1])  # a keyword of Python's
        os.write(told, str(child).encode())
        os.close(told)
        status = lib.monitor_run(m)
        if status == lib.MONITOR_DETACHED:
            os.kill(child, signal.SIGKILL)
            return DETACHED_CODE
        return shell_code(status) if status >= 0 else FAILED_CODE

    def read(self, want: bytes) -> bytes:
        """Reads the user's stdout until `want` has come."""
        data, end = b"", time.monotonic() + TIMEOUT
        while want not in data:
            if not select.select([self.out], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{want!r} did not come: {data!r}")
            data += os.read(self.out, 65536)
        return data

    def all(self) -> bytes:
        """Reads the user's stdout to its end."""
        data = b""
        while chunk := os.read(self.out, 65536):
            data += chunk
        return data

    def wait(self) -> int:
        return exit_code(self.pid, "monitor_run() did not return")
