"""spawn: one clone3, descriptors in their places, an execveat; from a process with threads too. No root: no namespaces here."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest

from minicontainer.errors import KernelError
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE


def shell(script: str, fds: list[int], **more: object) -> tuple[int, int]:
    exec_fd = os.open("/bin/sh", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return spawn.spawn(exec_fd, fds, 0, argv=(b"sh", b"-c", script.encode()), env=(b"PATH=/usr/bin:/bin",), **more)  # type: ignore[arg-type]
    finally:
        os.close(exec_fd)


def output(script: str, *more: int) -> str:
    """What a script prints that has a pipe as 1, /dev/null as 0 and 2, and more descriptors from 3 on."""
    null = os.open("/dev/null", os.O_RDWR)
    read, write = os.pipe()
    pid, pidfd = shell(script, [null, write, null, *more])
    os.close(write)
    os.close(null)
    os.close(pidfd)
    with os.fdopen(read) as f:
        out = f.read()
    assert os.waitpid(pid, 0)[1] == 0
    return out


def test_only_the_given_descriptors_cross() -> None:
    """fds[i] is descriptor i, and nothing else is open in the child, inheritable or not."""
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    third = os.open("/etc/hostname", os.O_RDONLY)
    try:
        out = output("ls /proc/self/fd; readlink /proc/self/fd/3", third)
    finally:
        os.close(leak)
        os.close(third)
    assert out.split() == ["0", "1", "2", "3", "4", os.path.realpath("/etc/hostname")]  # 4 is ls' own


def test_descriptors_may_be_crossed() -> None:
    """Numbers that are each other's places are put right."""
    a, b = os.open("/etc/passwd", os.O_RDONLY), os.open("/etc/group", os.O_RDONLY)
    try:
        out = output("readlink /proc/self/fd/3 /proc/self/fd/4", b, a)
    finally:
        os.close(a)
        os.close(b)
    assert out.split() == [os.path.realpath("/etc/group"), os.path.realpath("/etc/passwd")]


def test_exit_status_and_pidfd() -> None:
    """The child is ours to wait for, by pid and by pidfd."""
    pid, pidfd = shell("exit 7", [0, 1, 2])
    done = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert done is not None
    assert (done.si_pid, done.si_status) == (pid, 7)
    os.close(pidfd)


def children() -> set[str]:
    """The pids of this process' children; other tests may have some."""
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return set(f.read().split())


def test_program_that_can_not_be_executed() -> None:
    """The error is execveat's, and no child is left."""
    before = children()
    fd = os.open("/etc/passwd", os.O_RDONLY)
    with pytest.raises(KernelError) as caught:
        spawn.spawn(fd, [0, 1, 2], 0)
    os.close(fd)
    assert (caught.value.call, caught.value.errno) == ("execveat", errno.EACCES)
    assert children() == before


def test_clone_that_is_refused() -> None:
    """The error is clone3's."""
    with pytest.raises(KernelError) as caught:
        spawn.spawn(0, [0, 1, 2], CLONE["CLONE_NEWNS"] | 0x200)  # CLONE_FS with it contradicts
    assert (caught.value.call, caught.value.errno) == ("clone3", errno.EINVAL)


def test_from_a_process_with_busy_threads() -> None:
    """40 children while threads hold the interpreter: none hangs (a raw clone that goes on in Python hung in 28 of 40)."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=spin) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(40):
            pid, pidfd = shell("exit 0", [0, 1, 2])
            os.close(pidfd)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for t in threads:
            t.join()


def test_signals_are_as_before() -> None:
    """All signals are blocked over the clone, and as before after it; handlers of ours never run in the child."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pid, pidfd = shell("exit 0", [0, 1, 2])
    os.waitpid(pid, 0)
    os.close(pidfd)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def test_shared_memory() -> None:
    """What one side writes the other reads."""
    shared = spawn.SharedMemory(b"abc")
    fd = os.dup(shared.fd)
    shared.close()
    os.pwrite(fd, b"x", 1)
    assert bytes(shared.view) == b"axc"
    os.close(fd)


def test_pidfd_is_close_on_exec() -> None:
    """The pidfd does not leak into what is executed later."""
    pid, pidfd = shell("exit 0", [0, 1, 2])
    os.waitpid(pid, 0)
    assert not os.get_inheritable(pidfd)
    with pytest.raises(KernelError):
        calls.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
