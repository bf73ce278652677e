"""Errors of the operating system that no part of the engine expected, in words that help."""

from __future__ import annotations

import errno
import os

_CURES = {
    errno.ENOSPC: "the disk is full: free some space (`df`), or choose another data root with --root",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "that file system is read only: choose another place with --root or --state",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
    errno.ENOMEM: "the host is out of memory",
}


def explain_os_error(e: OSError) -> str:
    """What failed, on what, why, and what to do; two lines at most."""
    what = f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e)
    if e.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return f"{what}\nminicontainer needs root: run it as `sudo minicontainer …`"
    cure = _CURES.get(e.errno or 0)
    return f"{what}\n{cure}" if cure else what
