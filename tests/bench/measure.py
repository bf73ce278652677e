"""Timing of commands: wall time, and the CPU time of everything that a command started.

The contestants take turns (A B C, A B C, …) with a pause before each run. The pause is part of the measurement: on
cgroup v1 the first move of a process waits for an RCU grace period, unless another move ended a few milliseconds
before; runs back to back would hide a wait that every real start pays.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
STRAGGLER_SECONDS = 5.0
STRAGGLER_POLL_SECONDS = 0.002

REAP: list[str] = []  # in the place of a command
RESULT = "iidd"  # exit code, whether processes were left, wall seconds, CPU seconds

libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """A command that is measured failed, so there is nothing to compare; the message has its output."""


class Sample:
    """One run: wall_seconds from its start to its exit, cpu_seconds of user and system in its whole tree."""

    __slots__ = ("cpu_seconds", "wall_seconds")

    def __init__(self, wall_seconds: float, cpu_seconds: float) -> None:
        self.wall_seconds = wall_seconds
        self.cpu_seconds = cpu_seconds


class Contestant:
    """Something to time. command is called for each run, because each may need a name of its own.

    It gives one command line, or several: they are run one after the other (REAP between them waits for what they left
    running, off the clock), or all at once. namespaces: descriptors of namespaces to be in while they run.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], list[str]] | Callable[[], list[list[str]]],
        namespaces: Sequence[int] = (),
        *,
        at_once: bool = False,
    ) -> None:
        self.name = name
        self.command = command
        self.namespaces = namespaces
        self.at_once = at_once
        self.samples: list[Sample] = []

    def run(self) -> Sample:
        """One run, not kept."""
        given = self.command()
        commands = [given] if given and isinstance(given[0], str) else given
        return run(commands, self.namespaces, at_once=self.at_once)  # type: ignore[arg-type]  # lists of words by now

    @property
    def wall_seconds(self) -> float:
        return statistics.median(sample.wall_seconds for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(sample.cpu_seconds for sample in self.samples)


def run(commands: list[list[str]], namespaces: Sequence[int] = (), *, at_once: bool = False) -> Sample:
    """Run commands with their output thrown away. Raises BenchError when one fails or processes are left behind.

    A forked process of its own does it, as the commands' subreaper: what they leave running becomes that process's
    child, so its CPU time counts too (when it ends soon), while the wall time is the commands' alone.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors:
        watcher = os.fork()
        if watcher == 0:
            try:
                os.write(writing, struct.pack(RESULT, *watch(commands, namespaces, errors.fileno(), at_once)))
            finally:
                os._exit(0)
        os.close(writing)
        result = os.read(reading, struct.calcsize(RESULT))
        os.close(reading)
        os.waitpid(watcher, 0)
        words = " ".join(commands[0])
        if not result:
            raise BenchError(f"{words}: could not be started")
        exit_code, left, wall_seconds, cpu_seconds = struct.unpack(RESULT, result)
        if exit_code or left:
            errors.seek(0)
            what = f"exit status {exit_code}" if exit_code else "left processes running"
            message = errors.read().decode(errors="replace").strip()
            raise BenchError(f"{words}: {what}\n{message[-1000:]}")
    return Sample(wall_seconds, cpu_seconds)


def watch(commands: list[list[str]], namespaces: Sequence[int], errors: int, at_once: bool) -> tuple[int, int, float, float]:
    """What run() forks: enters the namespaces, starts the commands, and waits for them and for what they left behind."""
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    for descriptor in namespaces:
        if libc.setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), "setns")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    ]
    exit_code, wall_seconds, cpu_seconds = 0, 0.0, 0.0
    for group in [commands] if at_once else [[command] for command in commands]:
        if group == [REAP]:
            cpu_seconds += reap()[1]
            continue
        started = time.perf_counter()
        pids = [os.posix_spawn(command[0], command, os.environ, file_actions=actions) for command in group]
        for pid in pids:
            _, status, usage = os.wait4(pid, 0)
            cpu_seconds += usage.ru_utime + usage.ru_stime
            exit_code = exit_code or os.waitstatus_to_exitcode(status)
        wall_seconds += time.perf_counter() - started
    left, more = reap()
    return exit_code, left, wall_seconds, cpu_seconds + more


def reap() -> tuple[int, float]:
    """Waits for all that commands have left running: whether that did not end in time, and its CPU seconds."""
    cpu_seconds = 0.0
    deadline = time.monotonic() + STRAGGLER_SECONDS
    try:
        while time.monotonic() < deadline:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
            cpu_seconds += usage.ru_utime + usage.ru_stime
            if not pid:
                time.sleep(STRAGGLER_POLL_SECONDS)
    except ChildProcessError:
        return 0, cpu_seconds
    return 1, cpu_seconds


def interleaved(contestants: Sequence[Contestant], runs: int, pause_seconds: float) -> None:
    """Run all of them in turn, `runs` times after one that isn't counted; fills their samples."""
    for contestant in contestants:
        contestant.run()
    for _ in range(runs):
        for contestant in contestants:
            time.sleep(pause_seconds)
            contestant.samples.append(contestant.run())
