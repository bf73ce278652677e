"""`logs`: reads what the monitor wrote (stub/jsonlog.c), over rotated files and while it goes on.

The live file is PATH, older ones are PATH.1, PATH.2, …; a rotation moves each to the next number. So files are opened
from the newest to the oldest: one that moves meanwhile is met again, under its next name, and known by its inode, but
none is missed. While a file is open its inode belongs to nobody else.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from minicontainer import fastjson
from minicontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_SECONDS = 0.1
_CHUNK = 1 << 16
_SECOND = 1_000_000_000


class Entry:
    """One entry: a line, or part of one that is longer than 16 KiB."""

    __slots__ = ("log", "stream", "time")

    def __init__(self, stream: str, stamp: str, log: bytes) -> None:
        """stream: "stdout" or "stderr"; stamp: RFC 3339 with nine digits, UTC, so that text sorts as time does."""
        self.stream = stream
        self.time = stamp
        self.log = log


class _File:
    """An open log file and how far it has been read."""

    __slots__ = ("fd", "inode", "offset", "rest", "size")

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stat = os.fstat(self.fd)
        self.inode = stat.st_ino
        self.size = stat.st_size
        self.offset = 0
        self.rest = b""  # the beginning of a line that is not all there

    def close(self) -> None:
        os.close(self.fd)

    def lines(self, end: int | None) -> Iterator[bytes]:
        """The whole lines from here to offset `end`, or to what is there now."""
        while data := os.pread(self.fd, _CHUNK if end is None else min(_CHUNK, end - self.offset), self.offset):
            self.offset += len(data)
            *whole, self.rest = (self.rest + data).split(b"\n")
            yield from whole
        if self.offset > os.fstat(self.fd).st_size:
            # The disk was full and the monitor took the torn line back, which we had begun to read.
            self.offset -= len(self.rest)
            self.rest = b""

    def skip_to_last(self, count: int) -> int:
        """Goes to where the last `count` lines begin; how many there are, at most count."""
        found, start = 0, self.size
        while start and found <= count:
            length = min(_CHUNK, start)
            start -= length
            block = os.pread(self.fd, length, start)
            newlines = block.count(b"\n")
            if found + newlines <= count:
                found += newlines
                continue
            at = len(block)
            for _ in range(count - found + 1):
                at = block.rindex(b"\n", 0, at)
            self.offset = start + at + 1
            return count
        self.offset = 0
        return found


def read(path: str, *, follow: bool = False, tail: int | None = None, since: int | None = None, until: int | None = None,
         alive: Callable[[], bool] = lambda: False) -> Iterator[Entry]:
    """The entries of the log at path, oldest first.

    tail: the newest so many, of all files; since, until: nanoseconds of the epoch, both included, applied after tail as
    docker does; follow: goes on until alive() is false and everything is read, or until is over. Without follow it
    reads what is there at the call. A line that is no JSON (torn by a crash of the machine) is left out.
    """
    first, last = "" if since is None else _stamp(since), "" if until is None else _stamp(until)
    files = _open_newest_first(path)
    try:
        _position(files, tail, since)
        for entry in _follow(path, files, alive, until) if follow else _once(files):
            if last and entry.time > last:
                return
            if entry.time >= first:
                yield entry
    finally:
        for file in files:
            file.close()


def _open_newest_first(path: str) -> list[_File]:
    """All files of the log; those that were there at the call are among them unless the rotation dropped them."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory or ".")
    except FileNotFoundError:
        return []
    numbers = [int(n[len(name) + 1:]) for n in names if n.startswith(f"{name}.") and n[len(name) + 1:].isdecimal()]
    files: list[_File] = []
    for number in range(max(numbers, default=0) + 3):  # a few more: each rotation meanwhile takes one
        try:
            file = _File(f"{path}.{number}" if number else path)
        except FileNotFoundError:
            continue
        if any(file.inode == other.inode for other in files):
            file.close()
        else:
            files.append(file)
    return files


def _position(files: list[_File], tail: int | None, since: int | None) -> None:
    """Sets where each file is read from, and closes those of which nothing is wanted."""
    wanted = tail
    keep = 0
    for file in files:
        if wanted is not None:
            if keep and not wanted:
                break
            wanted -= file.skip_to_last(wanted)
        if keep and since is not None and os.fstat(file.fd).st_mtime_ns < since:
            break  # its last entry is older, and so is every older file
        keep += 1
    for file in files[keep:]:
        file.close()
    del files[keep:]


def _once(files: list[_File]) -> Iterator[Entry]:
    for file in reversed(files):
        yield from _entries(file.lines(file.size))


def _entries(lines: Iterator[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            value = fastjson.loads(line)
        except ValueError:
            continue  # torn: see read()
        if isinstance(value, dict):
            stamp = value.get("time", "")[:-1]
            stamp = (stamp if "." in stamp else stamp + ".").ljust(29, "0") + "Z"
            yield Entry(value.get("stream", ""), stamp, value.get("log", "").encode("utf-8", "replace"))


def _follow(path: str, files: list[_File], alive: Callable[[], bool], until: int | None) -> Iterator[Entry]:
    """Reads files and what follows them. `files` is kept to what is open, for read() to close."""
    quiet = 0
    while True:
        living = alive()  # asked before reading: what a dead container wrote is there
        found = False
        while files:
            for entry in _entries(files[-1].lines(None)):
                found = True
                yield entry
            if len(files) > 1:
                files.pop().close()
            elif not _rotated(path, files[0]):
                break
            else:
                # Once more: it was written to until it lost its name. Then its successors.
                yield from _entries(files[0].lines(None))
                _replace_by_successors(path, files)
        if not files:
            files[:] = _open_newest_first(path)
            found = bool(files)
        # The monitor outlives the container by the moment it takes to write down its last words.
        quiet = 0 if living or found else quiet + 1
        if quiet > 1 or (until is not None and time.time_ns() > until):
            return
        if not found:
            time.sleep(POLL_SECONDS)


def _rotated(path: str, file: _File) -> bool:
    try:
        return os.stat(path).st_ino != file.inode
    except FileNotFoundError:
        return False  # removed with its container


def _replace_by_successors(path: str, files: list[_File]) -> None:
    """files = [one that has been read to its end]: those newer than it take its place."""
    (done,) = files
    newest_first = _open_newest_first(path)
    known = [file.inode for file in newest_first]
    count = known.index(done.inode) if done.inode in known else len(newest_first)
    for file in newest_first[count:]:
        file.close()
    files[:] = newest_first[:count]
    done.close()


def _stamp(nanoseconds: int) -> str:
    """The time as Entry.time has it."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


_UNITS = {"ns": 1, "us": 1_000, "\u00b5s": 1_000, "\u03bcs": 1_000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND,
          "h": 3600 * _SECOND}


def parse_time(text: str) -> int | None:
    """docker's forms of --since and --until as nanoseconds of the epoch; None for "".

    Seconds of the epoch ("1136073600.25"), a time ago in Go's form ("42m", "1h30m", "1.5h"), or a date as in RFC 3339
    ("2026-11-20T23:52:07.5Z", "2026-11-20T23:52", "2026-11-20"; local time without a zone). UsageError otherwise.
    """
    import re

    if not text:
        return None
    if match := re.fullmatch(r"(\d+)(?:\.(\d{1,9}))?", text, re.ASCII):
        return int(match[1]) * _SECOND + int((match[2] or "0").ljust(9, "0"))
    if re.fullmatch(r"[-+]?(?:\d+(?:\.\d*)?(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+", text, re.ASCII):
        parts = re.findall(r"(\d+(?:\.\d*)?)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", text, re.ASCII)
        ago = sum(round(float(number) * _UNITS[unit]) for number, unit in parts)
        return time.time_ns() + (ago if text.startswith("-") else -ago)
    clock = r"T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?"
    if match := re.fullmatch(rf"(\d{{4}}-\d\d-\d\d)(?:{clock})?(Z|[-+]\d\d:\d\d)?", text, re.ASCII):
        from datetime import datetime

        day, hour, minute, second, fraction, zone = match.groups("")
        try:
            moment = datetime.fromisoformat(f"{day}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone.replace('Z', '+00:00')}")
        except ValueError as e:
            raise UsageError(f'invalid time "{text}": {e}') from None
        return int(moment.timestamp()) * _SECOND + int((fraction or "0").ljust(9, "0"))
    raise UsageError(f'invalid time "{text}"', "a date like 2026-11-20T23:52:07, seconds of the epoch, or a time ago like 42m")
