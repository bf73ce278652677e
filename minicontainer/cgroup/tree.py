"""Small file work in cgroup trees: reading what may be gone, and walking the groups below one."""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT, ENOTDIR, EOPNOTSUPP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_BYTES = 65536
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read(path: str, at: int | None = None) -> str:
    """The text of a file (at: in this folder), "" if it, or its group, is not there (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=at)
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
    found = [path]
    for group in found:  # which grows meanwhile
        try:
            found += groups_in(group)
        except (FileNotFoundError, NotADirectoryError):
            if group == path:
                return []
    return found[::-1]


def each(path: str) -> Iterator[tuple[int, str]]:
    """groups() for groups that a container may have made: (descriptor of the folder a group is in, its name).

    They can be nested deeper than any path or recursion goes, so one descriptor walks; at the loss of a race with who
    removes groups it ends early.
    """
    folder, _, name = path.rpartition("/")
    above: list[tuple[str, list[str]]] = []
    names = [name]
    at = -1
    try:
        at = os.open(folder, _FOLDER)
        while names or above:
            if not names:
                (name, names), below = above.pop(), at
                at = os.open("..", _FOLDER, dir_fd=below)
                os.close(below)
                yield at, name
                continue
            name = names.pop()
            below = os.open(name, _FOLDER, dir_fd=at)
            inside = _folders(below)
            if inside:
                above.append((name, names))
                names = inside
                at, below = below, at
            os.close(below)
            if not inside:
                yield at, name
    except OSError as e:
        if e.errno not in (ENOENT, ENOTDIR, ENODEV):
            raise
    finally:
        if at >= 0:
            os.close(at)


def _folders(fd: int) -> list[str]:
    if os.fstat(fd).st_nlink == 2:  # a group's folder has a link for each below it: one without needs no reading
        return []
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def pids(path: str) -> list[int]:
    """The processes in a group and in those below it, as this pid namespace numbers them."""
    return [int(pid) for at, name in each(path) for pid in read(f"{name}/cgroup.procs", at).split()]


def groups_in(path: str) -> list[str]:
    """The groups directly in one."""
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
