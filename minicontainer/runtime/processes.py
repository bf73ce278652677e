"""Processes by pid, told apart from later ones with the same number by their start time."""

from __future__ import annotations


def start_time(pid: int, proc: str = "/proc") -> int | None:
    """When a process started, in clock ticks since boot (proc_pid_stat(5) field 22); None if it is gone or a zombie."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def pid_inside(pid: int, proc: str = "/proc") -> int:
    """The pid that a process has in its own pid namespace (proc_pid_status(5), NSpid)."""
    with open(f"{proc}/{pid}/status", "rb") as f:
        for line in f:
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
    return pid
