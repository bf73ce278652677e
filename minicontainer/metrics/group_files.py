"""The cgroup files of one container, kept open from scrape to scrape: a pread costs half of open, read and close."""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE, ENODEV, EOPNOTSUPP

from minicontainer.cgroup import accounting
from minicontainer.cgroup.hierarchy import Hierarchy
from minicontainer.metrics.notes import Notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroup.accounting import Numbers, Parser


class GroupFiles:
    """Opened at the first read, and again when the group was removed and made anew (a restart)."""

    __slots__ = ("_files", "_hierarchy", "_notes", "_path")

    def __init__(self, hierarchy: Hierarchy, path: str, notes: Notes) -> None:
        self._hierarchy = hierarchy
        self._path = path
        self._notes = notes
        self._files: list[tuple[int, Parser]] = []

    def read(self) -> Numbers:
        """The numbers of accounting.py; {} if the group is gone."""
        try:
            if self._files:
                try:
                    return self._read()
                except _Gone:
                    self.close()
            self._open()
            return self._read()
        except _Gone:
            self.close()
            return {}
        except OSError as e:
            self.close()
            if e.errno not in (EMFILE, ENFILE):
                raise
            # More containers than descriptors: this one pays for opening its files at every scrape.
            self._notes.left_out("kept descriptors", "the limit of open files (ulimit -n) is reached: scrapes cost more")
            return accounting.stats(self._hierarchy, self._path)

    def _open(self) -> None:
        for file, parser in accounting.sources(self._hierarchy, self._path):
            try:
                self._files.append((os.open(file, os.O_RDONLY | os.O_CLOEXEC), parser))
            except FileNotFoundError:
                continue  # the group is gone, or this kernel lacks the file: accounting.unavailable says so

    def _read(self) -> Numbers:
        out: Numbers = {}
        pread, size = os.pread, accounting.READ_BYTES
        if not self._files:
            raise _Gone
        try:
            for fd, parser in self._files:
                parser(pread(fd, size, 0), out)
        except OSError as e:
            if e.errno == ENODEV:
                raise _Gone from None
            if e.errno != EOPNOTSUPP:
                raise
            self._drop(fd)
            return self._read()
        return out

    def _drop(self, fd: int) -> None:
        """A file that this kernel shows but does not fill (pressure with psi=0)."""
        os.close(fd)
        self._files = [entry for entry in self._files if entry[0] != fd]

    def close(self) -> None:
        """Lets the descriptors go."""
        for fd, _ in self._files:
            os.close(fd)
        self._files = []


class _Gone(Exception):
    """The group is not there."""
