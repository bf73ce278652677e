"""What crun's test_mounts uses of util-linux's Python binding, which Debian does not package: without it the program tests nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filesystem:
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    target: str
    vfs_options: str
    fs_options: str


class Table:
    """A mountinfo file."""

    def __init__(self, path: str) -> None:
        self.filesystems: list[Filesystem] = []
        with open(path) as f:
            for fields in (line.split() for line in f):
                if "-" in fields:
                    self.filesystems.append(Filesystem(fields[4], fields[5], fields[-1]))

    def find_target(self, target: str) -> Filesystem | None:
        """The last mount on a path."""
        return next((fs for fs in reversed(self.filesystems) if fs.target == target), None)
