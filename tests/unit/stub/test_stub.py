"""The stub: the same interpreter, as a process of its own. No root."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from minicontainer.kernel import calls, spawn
from minicontainer.runtime.launch import STUB
from minicontainer.stub import ops
from minicontainer.stub.ops import Blob, Op, Slot, execute, mkdir, syscall, wait
from minicontainer.stub.program import DONE, ENTERED, FAILED, PENDING, Program
from tests.unit.stub.interpreter import states


def stub(*steps: Op, fds: dict[Slot, int] | None = None) -> tuple[int, Program, bytes]:
    """Runs ops in the stub, in a process of its own: its wait status, the program with results, what it wrote to 1."""
    null = os.open("/dev/null", os.O_RDWR)
    read, write = os.pipe()
    slots = {slot: 4 + i for i, slot in enumerate(fds or {})}
    p = Program(list(steps), slots)
    shared = spawn.SharedMemory(p.code)
    with open(STUB, "rb") as f:
        memfd = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(memfd, [null, write, null, shared.fd, *(fds or {}).values()], 0)
    for fd in (null, write, memfd, pidfd):
        os.close(fd)
    shared.close()
    with os.fdopen(read, "rb") as g:
        out = g.read()
    _, status = os.waitpid(pid, 0)
    p.code[:] = bytes(shared.view)
    return status, p, out


def test_stub_becomes_the_program() -> None:
    """The last op's execve replaces the stub: the program has the arguments and the environment, and the op stays entered."""
    status, p, out = stub(execute(["/no/such", "/bin/sh"], ["sh", "-c", "echo $0 $1 $A; exit 9", "zero", "one"], ["A=b c"], why=""))
    assert os.waitstatus_to_exitcode(status) == 9
    assert out == b"zero one b c\n"
    assert p.results()[-1].state == ENTERED


def test_stub_tells_what_failed(tmp_path: Path) -> None:
    """The results are in the shared memory when it has ended."""
    status, p, _ = stub(
        mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/a", why=""), execute(["/bin/true"], ["true"], [], why="")
    )
    assert os.waitstatus_to_exitcode(status) == 122
    assert p.failed() == 1
    assert states(p.results()) == [DONE, FAILED, PENDING]


def test_stub_ignores_no_signal() -> None:
    """Python ignores SIGPIPE, the program that the stub becomes does not."""
    _, _, out = stub(execute(["/bin/sh"], ["sh", "-c", "grep SigIgn /proc/self/status"], ["PATH=/bin:/usr/bin"], why=""))
    assert out.split() == [b"SigIgn:", b"0000000000000000"]


def test_stub_refuses_what_is_no_plan() -> None:
    """Bytes without the magic number are not run."""
    null = os.open("/dev/null", os.O_RDWR)
    shared = spawn.SharedMemory(bytearray(4096))
    with open(STUB, "rb") as f:
        memfd = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(memfd, [null, null, null, shared.fd], 0)
    for fd in (null, memfd, pidfd):
        os.close(fd)
    shared.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 121


def test_stub_waits_for_its_parent() -> None:
    """It goes on when it is told to."""
    read, write = os.pipe()
    os.write(write, b"g")
    sync = Slot("sync")
    status, p, out = stub(wait(sync, why=""), execute(["/bin/echo"], ["echo", "gone on"], [], why=""), fds={sync: read})
    os.close(read)
    os.close(write)
    assert (os.waitstatus_to_exitcode(status), out) == (0, b"gone on\n")
    assert p.results()[0].state == DONE


def test_stub_is_small_and_needs_nothing() -> None:
    """A static program of a few KiB without an interpreter: nothing of an image is loaded into it."""
    assert os.path.getsize(STUB) < 16384
    with open(STUB, "rb") as f:
        content = f.read()
    assert content[:4] == b"\x7fELF"
    assert b"ld-linux" not in content


def test_a_second_birth() -> None:
    """The child goes on with the plan as a child of ours; its pidfd comes with the text; the first process ends well."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sync, word = Slot("sync"), Blob(b"went on")
    p = Program([ops.clone(sync, 0, "born", why=""), syscall("write", sync, word, 7, why=""), wait(sync, why="")], {sync: 4})
    shared = spawn.SharedMemory(p.code)
    with open(STUB, "rb") as f:
        stub = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(stub, [0, 1, 2, shared.fd, theirs.fileno()], 0)
    theirs.close()
    said = {}
    for _ in range(2):
        text, control, _, _ = ours.recvmsg(64, 64)
        said[text] = [int.from_bytes(data[:4], "little") for _, _, data in control]
    assert set(said) == {b"born", b"went on"}
    assert os.waitpid(pid, 0)[1] == 0
    (child,) = said[b"born"]
    ours.send(b"g")
    ours.close()
    ended = os.waitid(os.P_PIDFD, child, os.WEXITED)
    assert ended and ended.si_pid != pid and ended.si_status == 122  # the plan's end without an execve
    assert [r.state for r in p.results(shared.view)] == [DONE, DONE, DONE]
    for fd in (pidfd, child, stub, shared.fd):
        os.close(fd)
