"""Removal of trees of any depth, with two open descriptors and no recursion.

`rm -r` keeps a descriptor or a path per level, and an archive can make trees deeper than either goes (through symlinks
into directories of its own, past PATH_MAX). Here a directory that is not empty is moved up into the trash directory and
dealt with there, so nothing is ever more than two levels away.
"""

from __future__ import annotations

import errno
import os

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(parent: int, name: bytes | str, trash: int) -> None:
    """Remove the entry name of the directory parent, with all below it; trash is a directory of the same file system
    whose every entry may go. Both are descriptors. OSError if it is not there."""
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        _move(parent, name, trash)
        empty(trash)


def empty(trash: int) -> None:
    """Remove everything in the directory trash (a descriptor)."""
    while names := os.listdir(trash):
        for name in names:
            try:
                os.unlink(name, dir_fd=trash)
            except IsADirectoryError:
                _flatten(trash, name)


def _flatten(trash: int, name: str) -> None:
    fd = os.open(name, _OPEN, dir_fd=trash)
    try:
        for entry in os.listdir(fd):
            try:
                os.unlink(entry, dir_fd=fd)
            except IsADirectoryError:
                try:
                    os.rmdir(entry, dir_fd=fd)
                except OSError as e:
                    if e.errno != errno.ENOTEMPTY:
                        raise
                    _move(fd, entry, trash)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=trash)


def _move(parent: int, name: bytes | str, trash: int) -> None:
    """Into the trash, under a name that nothing else has."""
    os.rename(name, os.urandom(12).hex(), src_dir_fd=parent, dst_dir_fd=trash)
