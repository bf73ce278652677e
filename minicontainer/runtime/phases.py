"""How long the phases of starts took, in one small file that every start adds to and the exporter reads.

    32 bytes     what it is
    16 slots of  name (32 bytes, NUL padded) · counts of each bucket (u64, not cumulative; the last is +Inf) · sum in ns (u64)

flock keeps writers apart; nothing is allocated or renamed, so an update costs some 50 µs. The file lies in the state root
and so begins anew at a boot, as a counter may.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_SH, flock
from struct import Struct

BUCKETS_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_MAGIC = b"minicontainer phases 1".ljust(32, b"\0")
_SLOT = Struct(f"=32s{len(BUCKETS_SECONDS) + 1}QQ")
_SLOTS = 16
_SIZE = len(_MAGIC) + _SLOTS * _SLOT.size


def record(path: str, phases: dict[str, float]) -> None:
    """Adds one start: seconds by phase (at most 16 names, each at most 32 bytes).

    A file that can't be written costs nothing but its figures: a start never fails for a statistic.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # the exporter says so: minicontainer_scrape_errors_total{collector="phases"}
    try:
        flock(fd, LOCK_EX)
        content = bytearray(os.pread(fd, _SIZE, 0))
        if len(content) != _SIZE or not content.startswith(_MAGIC):
            content = bytearray(_MAGIC + bytes(_SLOTS * _SLOT.size))
        for name, seconds in phases.items():
            _add(content, name.encode()[:32], seconds)
        os.pwrite(fd, content, 0)
    except OSError:
        return  # no space left in the state root
    finally:
        os.close(fd)


def _add(content: bytearray, name: bytes, seconds: float) -> None:
    for at in range(len(_MAGIC), _SIZE, _SLOT.size):
        found, *counts, total = _SLOT.unpack_from(content, at)
        found = found.rstrip(b"\0")
        if found in (name, b""):
            bucket = next((i for i, bound in enumerate(BUCKETS_SECONDS) if seconds <= bound), len(BUCKETS_SECONDS))
            counts[bucket] += 1
            _SLOT.pack_into(content, at, name, *counts, total + max(0, int(seconds * 1e9)))
            return


def read(path: str) -> dict[str, tuple[list[int], float]]:
    """By phase: the count of each bucket and of +Inf (not cumulative), and the sum in seconds. {} if nothing was recorded.

    OSError if the file can't be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        flock(fd, LOCK_SH)
        content = os.pread(fd, _SIZE, 0)
    finally:
        os.close(fd)
    if len(content) != _SIZE or not content.startswith(_MAGIC):
        return {}
    out = {}
    for at in range(len(_MAGIC), _SIZE, _SLOT.size):
        name, *counts, total = _SLOT.unpack_from(content, at)
        if name[0]:
            out[name.rstrip(b"\0").decode()] = (counts, total / 1e9)
    return out
