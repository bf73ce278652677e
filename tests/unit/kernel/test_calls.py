"""The thin wrappers: what they return, and what their errors carry. No root."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from minicontainer.errors import KernelError
from minicontainer.kernel import calls
from minicontainer.kernel.flags import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS


def test_openat2_in_root(tmp_path: Path) -> None:
    """RESOLVE_IN_ROOT: an absolute link leads below the folder, not to the host."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("mine")
    os.symlink("/etc/passwd", tmp_path / "link")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fd = calls.openat2(folder, "link", os.O_RDONLY, 0, RESOLVE_IN_ROOT)
    assert os.read(fd, 10) == b"mine"
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(folder)


@pytest.mark.parametrize(("path", "resolve", "error"), [
    ("nosuch", 0, errno.ENOENT), ("link", RESOLVE_NO_SYMLINKS, errno.ELOOP), ("../x", RESOLVE_BENEATH, errno.EXDEV),
    ("/proc/self/exe", RESOLVE_NO_MAGICLINKS, errno.ELOOP),
])  # fmt: skip
def test_openat2_refuses(tmp_path: Path, path: str, resolve: int, error: int) -> None:
    """An error carries the call, the path and the errno."""
    os.symlink("/etc", tmp_path / "link")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(KernelError) as caught:
        calls.openat2(folder, path, os.O_RDONLY, 0, resolve)
    os.close(folder)
    assert (caught.value.call, caught.value.path, caught.value.errno) == ("openat2", path, error)
    assert str(caught.value) == f"openat2 {path}: {os.strerror(error)}"


def test_sealed_memfd() -> None:
    """Nobody can change, shrink or unseal it."""
    fd = calls.sealed_memfd("sealed", b"content")
    assert os.pread(fd, 100, 0) == b"content"
    for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 100)):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


def test_pidfd() -> None:
    """A signal by pidfd reaches the process; afterwards it is ESRCH."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    fd = calls.pidfd_open(pid)
    assert not os.get_inheritable(fd)
    calls.pidfd_send_signal(fd, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(KernelError) as caught:
        calls.pidfd_send_signal(fd, signal.SIGKILL)
    assert caught.value.errno == errno.ESRCH
    os.close(fd)


def test_pidfd_of_nobody() -> None:
    """No such process: the error says which."""
    with pytest.raises(KernelError) as caught:
        calls.pidfd_open(1 << 22)
    assert caught.value.errno in (errno.ESRCH, errno.EINVAL)
    assert str(1 << 22) in str(caught.value)


def test_pidfd_getfd() -> None:
    """A descriptor of another process (here of ourselves) is copied."""
    a, b = socket.socketpair()
    own = calls.pidfd_open(os.getpid())
    copy = calls.pidfd_getfd(own, a.fileno())
    os.write(copy, b"x")
    assert b.recv(1) == b"x"
    for fd in (own, copy):
        os.close(fd)
    a.close()
    b.close()


def test_unknown_call() -> None:
    """A name that no plan uses is a mistake of ours."""
    with pytest.raises(KeyError):
        calls.syscall("nosuchcall")
