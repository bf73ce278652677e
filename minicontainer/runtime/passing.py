"""Descriptors that a caller passes through to the container: sd_listen_fds(3), then as many as --preserve-fds says."""

from __future__ import annotations

import os

from minicontainer.errors import UsageError

_FIRST = 3
_MOST = 48  # beside the stub's own there is room for 64 (spawn.c)


def passed(preserve: int) -> tuple[list[int], list[str]]:
    """Our descriptors that become 3, 4, … in the container, and what its environment says of them.

    preserve: how many after those of LISTEN_FDS. UsageError for one that the caller has not given us.
    """
    listening = _listening()
    count = listening + preserve
    if preserve < 0 or count > _MOST:
        raise UsageError(f"{count} descriptors can't be passed on", f"at most {_MOST}")
    for fd in range(_FIRST, _FIRST + count):
        if not _given(fd):
            raise UsageError(
                f"unable to stat preserved-fd {fd} (of {count}): it is not open", "open it, or pass fewer descriptors on"
            )
    env = [f"LISTEN_FDS={listening}", "LISTEN_PID=1"] if listening else []
    return list(range(_FIRST, _FIRST + count)), env


def _listening() -> int:
    """LISTEN_FDS, if it is meant for this process."""
    count = os.environ.get("LISTEN_FDS", "")
    return int(count[:9]) if count.isdecimal() and os.environ.get("LISTEN_PID") == str(os.getpid()) else 0


def _given(fd: int) -> bool:
    """Whether the descriptor came from our caller: what we opened ourselves is close-on-exec."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False
