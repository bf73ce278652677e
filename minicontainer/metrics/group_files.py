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

    __slots__ = ("_block_io", "_hierarchy", "_limit_files", "_limits", "_notes", "_path", "_use")

    def __init__(self, hierarchy: Hierarchy, path: str, notes: Notes) -> None:
        self._hierarchy = hierarchy
        self._path = path
        self._notes = notes
        self._use: list[tuple[int, Parser]] = []
        self._block_io: list[tuple[int, Parser]] = []
        self._limit_files: list[tuple[int, Parser]] = []
        self._limits: Numbers | None = None

    def read(self, *, limits: bool = True, block_io: bool = True) -> Numbers:
        """The numbers of accounting.py; {} if the group is gone.

        limits: False takes the limits from the last read. block_io: False leaves v1's block IO out, where no disk is counted.
        """
        try:
            if self._use:
                try:
                    return self._read(limits, block_io)
                except _Gone:
                    self.close()
            self._open()
            return self._read(limits, block_io)
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
        for path, parser in accounting.sources(self._hierarchy, self._path):
            name = path[path.rindex("/") + 1:]
            files = self._limit_files if name in accounting.LIMITS else self._block_io if name.startswith("blkio.") else self._use
            try:
                files.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), parser))
            except FileNotFoundError:
                continue  # the group is gone, or this kernel lacks the file and the figure is left out
        if not self._use:
            raise _Gone

    def _read(self, limits: bool, block_io: bool) -> Numbers:
        if limits or self._limits is None:
            self._limits = {}
            self._read_all(self._limit_files, self._limits)
        out = dict(self._limits)
        self._read_all(self._use, out)
        if block_io:
            self._read_all(self._block_io, out)
        return out

    @staticmethod
    def _read_all(files: list[tuple[int, Parser]], out: Numbers) -> None:
        pread, size = os.pread, accounting.READ_BYTES
        try:
            for fd, parser in files:
                parser(pread(fd, size, 0), out)
        except OSError as e:
            if e.errno == ENODEV:
                raise _Gone from None
            if e.errno != EOPNOTSUPP:
                raise
            # A file that this kernel shows but does not fill (pressure with psi=0): not again.
            rest = files[[other for other, _ in files].index(fd):]
            os.close(fd)
            files[:] = [entry for entry in files if entry[0] != fd]
            GroupFiles._read_all(rest[1:], out)

    def close(self) -> None:
        """Lets the descriptors go."""
        for files in (self._use, self._block_io, self._limit_files):
            for fd, _ in files:
                os.close(fd)
            files.clear()
        self._limits = None


class _Gone(Exception):
    """The group is not there."""
