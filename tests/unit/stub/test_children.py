"""Ops that execute a program, in a child or in place of the process. No root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minicontainer.stub import ops
from minicontainer.stub.ops import Slot, execute
from tests.unit.stub.interpreter import run


def test_execute_that_can_not() -> None:
    """The errno of what was found counts: EACCES before ENOENT, as in execvp(3)."""
    for paths, error in (
        ([("/no/such"), "/etc/passwd"], errno.EACCES),
        (["/no/such", "/nor/this"], errno.ENOENT),
        (["/etc/passwd/x"], errno.ENOENT),
    ):
        failed, results, _ = run(execute(paths, ["x"], [], why=""))
        assert (failed, results[0].errno) == (0, error)


def streams(tmp_path: Path, text: str) -> tuple[tuple[Slot, Slot, Slot], dict[Slot, int]]:
    """Slots of three files for a program: the first holds text, and is read to its end already."""
    slots = (Slot("in"), Slot("out"), Slot("err"))
    fds = [os.open(tmp_path / slot.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for slot in slots]
    os.write(fds[0], text.encode())
    return slots, dict(zip(slots, fds))


@pytest.mark.parametrize(
    ("script", "timeout", "ended"),
    [
        ("exit 0", 0, 0), ("exit 9", 5, ops.EXITED + 9), ("kill -15 $$", 0, ops.SIGNALLED + 15), ("sleep 60", 0.1, errno.ETIMEDOUT),
    ],
)  # fmt: skip
def test_how_a_program_ended(tmp_path: Path, script: str, timeout: float, ended: int) -> None:
    """Its status and signals are errnos of their own."""
    slots, fds = streams(tmp_path, "")
    failed, results, _ = run(ops.run("/bin/sh", ["sh", "-c", script], [], slots, timeout_seconds=timeout, why=""), fds=fds)
    assert (failed, results[0].errno) == (0 if ended else -1, ended)
    for fd in fds.values():
        os.close(fd)


def test_a_program_has_its_streams_folder_environment_and_signals(tmp_path: Path) -> None:
    """The input from its beginning, no descriptor of ours, no signal blocked or ignored (Python ignores SIGPIPE)."""
    slots, fds = streams(tmp_path, "input\n")
    leak = os.dup(fds[slots[1]])
    os.set_inheritable(leak, True)
    script = "cat; pwd; echo $A; ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status >&2"
    step = ops.run("/bin/sh", ["sh", "-c", script], ["A=b", "PATH=/bin:/usr/bin"], slots, cwd=str(tmp_path), why="")
    assert run(step, step, fds=fds)[0] == -1
    once = f"input\n{tmp_path}\nb\n0 1 2 3 "
    assert (tmp_path / "out").read_text() == once * 2
    assert {line.split()[1] for line in (tmp_path / "err").read_text().splitlines()} == {"0" * 16}
    for fd in (leak, *fds.values()):
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "cwd", "code"),
    [("/no/such", "", errno.ENOENT), ("/etc/passwd", "", errno.EACCES), ("/bin/true", "/no/such", errno.ENOENT)],
)
def test_a_program_that_can_not_be_run(tmp_path: Path, path: str, cwd: str, code: int) -> None:
    """The errno of execve or chdir."""
    slots, fds = streams(tmp_path, "")
    failed, results, _ = run(ops.run(path, ["x"], [], slots, cwd=cwd, why=""), fds=fds)
    assert (failed, results[0].errno) == (0, code)
    for fd in fds.values():
        os.close(fd)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["none"], errno.ENOENT), (["file"], errno.EACCES), (["none", "file"], errno.EACCES), (["folder"], errno.EACCES),
        (["file/x"], errno.ENOENT), (["none", "program"], 0), (["file", "program"], 0),
    ],
)  # fmt: skip
def test_what_could_be_executed(tmp_path: Path, names: list[str], code: int) -> None:
    """Told as execve would tell it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch(0o600)
    (tmp_path / "program").touch(0o700)
    failed, results, _ = run(ops.find([f"{tmp_path}/{name}" for name in names], ["x"], why=""))
    assert (failed, results[0].errno) == (0 if code else -1, code)
