"""The other machine that minicontainer is written for: the C parts are compiled for it, and its stub runs a plan in an emulator."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minicontainer.kernel import syscalls
from minicontainer.kernel.build import build_static
from minicontainer.kernel.flags import AT_FDCWD
from minicontainer.stub.ops import Blob, Slot, execute, mkdir, syscall
from minicontainer.stub.program import DONE, ENTERED, FORGIVEN, Program

CC, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
HEADER = "/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"

pytestmark = pytest.mark.skipif(
    not (shutil.which(CC) and shutil.which(EMULATOR) and os.path.exists(HEADER)),
    reason="needs the packages gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static",
)


def test_the_stub_runs_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled without a warning; ops do on aarch64 what they do here.

    Only those that the emulator knows: Debian 12's has no openat2.
    """
    monkeypatch.setenv("CC", CC)
    build_static(str(tmp_path))
    monkeypatch.setattr(syscalls, "_COLUMN", 1)
    memory = Slot("memory")
    steps = [
        mkdir(f"{tmp_path}/made", 0o700, why="strings by pointer"),
        syscall("symlinkat", "file", AT_FDCWD, f"{tmp_path}/made/link", why="a negative number"),
        syscall("memfd_create", "memory", 0, out=memory, why="a result that is kept"),
        syscall("write", memory, Blob(b"written"), 7, why="and used"),
        syscall("umount2", f"{tmp_path}/made", 0, ok=(1, 22), why="an error that is forgiven"),
        execute(["/nowhere/echo", "/bin/echo"], ["echo", "hello"], [], why="the end, by a compound op"),
    ]
    program = Program(steps, {})
    plan = os.memfd_create("plan")
    try:
        os.write(plan, program.code)
        done = subprocess.run(
            [EMULATOR, tmp_path / "stub"], preexec_fn=lambda: os.dup2(plan, 3), close_fds=False, capture_output=True, check=False
        )
        results = program.results(os.pread(plan, len(program.code), 0))
    finally:
        os.close(plan)
    assert (done.returncode, done.stdout) == (0, b"hello\n"), (done, [(r.state, r.errno) for r in results])
    assert [r.state for r in results] == [DONE] * 4 + [FORGIVEN, ENTERED]
    assert results[3].value == 7
    assert os.readlink(tmp_path / "made/link") == "file"


def test_system_call_numbers() -> None:
    """Each number of the second column is the one of the kernel's header."""
    with open(HEADER) as f:
        header = {name: int(value) for name, value in re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)", f.read(), re.M)}
    ours = {name: numbers[1] for name, numbers in syscalls._NUMBERS.items()}
    assert ours == {name: header.get(name) for name in ours}
