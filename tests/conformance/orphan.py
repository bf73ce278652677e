"""Processes that outlive the program that started them: found because they become our children, ended, their cgroups removed."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from glob import glob

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt() -> None:
    """From here on orphans of what we start become our children, and so can be found."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(program: int) -> None:
    """Takes leave of children that have ended, but for the program: until that is done, their pid namespaces can't end."""
    for pid in children_of(os.getpid()):
        if pid != program:
            os.waitpid(pid, os.WNOHANG)


def end_all() -> list[int]:
    """Kills our children, and theirs, which are ours then; their pids. TimeoutError if one does not end."""
    ended: set[int] = set()
    folders: set[str] = set()
    deadline = time.monotonic() + 10
    own = cgroup_folders(os.getpid())
    while children := children_of(os.getpid()):
        for pid in children:
            mine = cgroup_folders(pid) - own
            folders |= mine
            os.kill(pid, signal.SIGKILL)
            thaw(mine)
            ended.add(pid)
        while children_of(os.getpid()) and os.waitpid(-1, os.WNOHANG)[0]:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {children} of a program can't be ended")
        time.sleep(0.02)
    remove(folders)
    return sorted(ended)


def children_of(pid: int) -> list[int]:
    """The pids of a process's children."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]


def cgroup_folders(pid: int) -> set[str]:
    """The folders of a process's cgroups, in each hierarchy that is mounted."""
    with open(f"/proc/{pid}/cgroup") as f:
        lines = [line.rstrip("\n").split(":", 2) for line in f]
    folders = set()
    for _, names, path in lines:
        for base in (names.removeprefix("name=") or "unified", "") if not names else (names.removeprefix("name="),):
            folder = f"/sys/fs/cgroup/{base}{path}".replace("//", "/")
            if path != "/" and os.path.exists(f"{folder}/cgroup.procs"):
                folders.add(folder)
    return folders


def thaw(folders: set[str]) -> None:
    """A frozen process of v1 is killed only when it thaws."""
    for folder in folders:
        if os.path.exists(f"{folder}/freezer.state"):
            with open(f"{folder}/freezer.state", "w") as f:
                f.write("THAWED")


def not_mounted() -> set[str]:
    """Folders where a hierarchy of v1 would be, if it were mounted: runc's suite makes its groups for every line of /proc/cgroups."""
    if os.path.exists("/sys/fs/cgroup/cgroup.procs"):
        return set()  # all of it is one hierarchy, of v2
    return {
        path for path in glob("/sys/fs/cgroup/*") if os.path.isdir(path) and not os.path.islink(path) and not os.path.ismount(path)
    }


def sweep(patterns: tuple[str, ...], before: set[str]) -> None:
    """Removes cgroups with such names, and those below them, if nobody is in them: those of containers that were never deleted;
    and what is not_mounted() now, but was not before."""
    found = [folder for top in not_mounted() - before for folder, _, _ in os.walk(top)]
    for pattern in patterns:
        for top in (*glob(f"/sys/fs/cgroup/*/{pattern}"), *glob(f"/sys/fs/cgroup/*/minicontainer/{pattern}")):
            found += [folder for folder, _, _ in os.walk(top, topdown=False)]
    for folder in sorted(found, key=len, reverse=True):
        remove({folder})


def remove(folders: set[str]) -> None:
    """Removes cgroups that nobody else is in."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError as e:
            if e.errno not in (errno.EBUSY, errno.ENOENT):
                raise
