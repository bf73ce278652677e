"""The cgroup files of one container, kept open from scrape to scrape: a pread costs half of open, read and close."""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE, ENODEV, EOPNOTSUPP

from minicontainer.cgroup import accounting
from minicontainer.cgroup.accounting import ACTIVITY, ALWAYS, BLOCK_IO_V1, LIMIT
from minicontainer.cgroup.hierarchy import Hierarchy
from minicontainer.metrics.notes import Notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroup.accounting import Numbers, Parser

_NOTHING: Numbers = {}


class GroupFiles:
    """Opened at the first read, and again when the group was removed and made anew (a restart)."""

    __slots__ = ("_files", "_hierarchy", "_kept", "_notes", "_path")

    def __init__(self, hierarchy: Hierarchy, path: str, notes: Notes) -> None:
        self._hierarchy = hierarchy
        self._path = path
        self._notes = notes
        self._files: dict[int, list[tuple[int, Parser]]] = {}
        self._kept: dict[int, Numbers] = {}  # of LIMIT and ACTIVITY files, as they were last read

    def read(self, *, limits: bool = True, block_io: bool = True) -> Numbers:
        """The numbers of accounting.py; {} if the group is gone.

        limits: False takes the limits from the last read. block_io: False leaves v1's block IO out, where no disk is counted.
        """
        try:
            if self._files:
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
        self._files = {ALWAYS: [], LIMIT: [], ACTIVITY: [], BLOCK_IO_V1: []}
        for path, parser, when in accounting.sources(self._hierarchy, self._path):
            try:
                self._files[when].append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), parser))
            except FileNotFoundError:
                continue  # the group is gone, or this kernel lacks the file and the figure is left out
        if not any(self._files.values()):
            raise _Gone

    def _read(self, limits: bool, block_io: bool) -> Numbers:
        files, kept = self._files, self._kept
        out: Numbers = {}
        self._read_all(files[ALWAYS], out)
        used = out.get("cpu_usage_seconds")
        if used is None or kept.get(ALWAYS, _NOTHING).get("cpu_usage_seconds") != used:
            self._keep(ACTIVITY)
        if limits or LIMIT not in kept:
            self._keep(LIMIT)
        kept[ALWAYS] = out
        result = {**out, **kept[ACTIVITY], **kept[LIMIT]}
        if block_io:
            self._read_all(files[BLOCK_IO_V1], result)
        return result

    def _keep(self, when: int) -> None:
        numbers: Numbers = {}
        self._read_all(self._files[when], numbers)
        self._kept[when] = numbers

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
            rest = files[[other for other, _ in files].index(fd) :]
            os.close(fd)
            files[:] = [entry for entry in files if entry[0] != fd]
            GroupFiles._read_all(rest[1:], out)

    def close(self) -> None:
        """Lets the descriptors go."""
        for files in self._files.values():
            for fd, _ in files:
                os.close(fd)
        self._files, self._kept = {}, {}


class _Gone(Exception):
    """The group is not there."""
