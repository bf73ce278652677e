"""Small file work in cgroup trees: reading what may be gone, and walking the groups below one."""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT, EOPNOTSUPP

_READ_BYTES = 65536


def read(path: str) -> str:
    """The text of a file, "" if it, or its group, is not there (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        data = chunk = os.read(fd, _READ_BYTES)
        while chunk:  # a list of pids may be longer than a page
            chunk = os.read(fd, _READ_BYTES)
            data += chunk
    except OSError as e:
        if e.errno not in (ENODEV, ENOENT, EOPNOTSUPP):  # group removed; pressure or a threaded group's procs
            raise
        return ""
    finally:
        os.close(fd)
    return data.decode()


def write(path: str, text: str) -> bool:
    """Writes one value; False if the file or its group is not there (any more)."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        os.write(fd, text.encode())
    except OSError as e:
        if e.errno != ENODEV:
            raise
        return False
    finally:
        os.close(fd)
    return True


def groups(path: str) -> list[str]:
    """The group and all groups below it, those below first; [] if it is not there."""
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [group for child in below for group in groups(child)] + [path]


def pids(path: str) -> list[int]:
    """The processes in a group and in those below it, as this pid namespace numbers them."""
    return [int(pid) for group in groups(path) for pid in read(f"{group}/cgroup.procs").split()]


def groups_in(path: str) -> list[str]:
    """The groups directly in one."""
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
