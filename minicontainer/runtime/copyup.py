"""tmpcopyup: what a directory of an image holds is copied into the tmpfs that will hide it."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISLNK, S_ISREG

from minicontainer.errors import UsageError

_ENOTSUP = 95
_DEEPEST = 200  # an image decides how deep it goes; each level takes four descriptors, of 1,024 as a rule


def copy(source: int, target: int, depth: int = 0) -> None:
    """Copies everything below one directory into another, by descriptors of them: links are copied, and none is followed.

    Owner, mode, times and extended attributes are kept, devices, FIFOs and sockets too. OSError, and UsageError for what is
    too deep.
    """
    if depth > _DEEPEST:
        raise UsageError(f"tmpcopyup: there are more than {_DEEPEST} folders in each other to copy", "leave out tmpcopyup")
    inside = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
    to = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    try:
        for name in os.listdir(inside):
            _one(name, inside, to, depth)
    finally:
        os.close(inside)
        os.close(to)


def _one(name: str, source: int, target: int, depth: int) -> None:
    s = os.stat(name, dir_fd=source, follow_symlinks=False)
    if S_ISLNK(s.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, s.st_uid, s.st_gid, dir_fd=target, follow_symlinks=False)
    elif S_ISDIR(s.st_mode):
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inside, to = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
        try:
            copy(inside, to, depth + 1)
            _attributes(inside, to, s)
        finally:
            os.close(inside)
            os.close(to)
    elif S_ISREG(s.st_mode):
        _file(name, source, target, s)
    else:
        os.mknod(name, s.st_mode, s.st_rdev, dir_fd=target)
        os.chown(name, s.st_uid, s.st_gid, dir_fd=target, follow_symlinks=False)
        os.chmod(name, s.st_mode & 0o7777, dir_fd=target)
    os.utime(name, ns=(s.st_atime_ns, s.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _file(name: str, source: int, target: int, s: os.stat_result) -> None:
    here = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    there = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        while os.sendfile(there, here, None, 1 << 20):
            pass
        _attributes(here, there, s)
    finally:
        os.close(here)
        os.close(there)


def _attributes(source: int, target: int, s: os.stat_result) -> None:
    """Owner, mode, and extended attributes as far as a tmpfs has them; these last, since a new owner takes capabilities away."""
    os.fchown(target, s.st_uid, s.st_gid)
    os.fchmod(target, s.st_mode & 0o7777)
    for key in os.listxattr(source):
        try:
            os.setxattr(target, key, os.getxattr(source, key))
        except OSError as e:
            if e.errno != _ENOTSUP:  # user.* came to tmpfs with Linux 6.6
                raise
