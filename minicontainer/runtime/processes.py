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
