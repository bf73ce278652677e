"""Errors that no part of the engine expected, in words that help: of the operating system, and verbs that are not here."""

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

_NO_REGISTRY = "there is no registry yet; images come from rootfs tarballs: `minicontainer import FILE NAME`"
_ONE_NETWORK = "there is one bridge network; see `minicontainer run --help` for --network"
# Verbs of docker's that are not here, and what to do instead.
_INSTEAD = {
    "pull": _NO_REGISTRY,
    "push": _NO_REGISTRY,
    "login": _NO_REGISTRY,
    "search": _NO_REGISTRY,
    "load": "only rootfs tarballs can be read yet: `docker export CONTAINER | minicontainer import - NAME`",
    "build": "make a rootfs tarball by other means and `minicontainer import` it",
    "commit": "make a rootfs tarball by other means and `minicontainer import` it",
    "network": _ONE_NETWORK,
    "attach": "see its output with `minicontainer logs -f`, or start a program in it with `minicontainer exec -it`",
    "cp": "share a folder with `run -v`, or pipe: `minicontainer exec CONTAINER cat FILE`",
    "top": "see its processes with `minicontainer exec CONTAINER ps`, or `ps` on the host",
    "rename": "give the name at the start: `run --name`",
    "update": "give the limits at the start: see `minicontainer run --help`",
    "volume": "a volume is made when it is first used: `run -v NAME:/path`",
    "system": "`minicontainer gc` reclaims what was left, `minicontainer info` shows the host",
}


def unknown_verb(verb: str, known: list[str]) -> tuple[str, str]:
    """Message and hint for a verb that minicontainer lacks."""
    if verb in _INSTEAD:
        return f"docker has '{verb}', minicontainer does not yet", _INSTEAD[verb]
    from difflib import get_close_matches

    close = get_close_matches(verb, known, 1, 0.6)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    return f"'{verb}' is not a minicontainer command.", f"{meant}See 'minicontainer --help'"


def explain_os_error(e: OSError) -> str:
    """What failed, on what, why, and what to do; two lines at most."""
    what = f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e)
    if e.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return f"{what}\nminicontainer needs root: run it as `sudo minicontainer …`"
    cure = _CURES.get(e.errno or 0)
    return f"{what}\n{cure}" if cure else what
