"""The environment of an OCI process: duplicates, and HOME from the container's own /etc/passwd, as runc has it."""

from __future__ import annotations

import os
from stat import S_ISREG

from minicontainer.errors import KernelError
from minicontainer.kernel import calls
from minicontainer.kernel.flags import O
from minicontainer.runtime.builder import IN_ROOT

_PASSWD_BYTES = 1 << 20


def complete(process: dict, root: str) -> list[str]:
    """process.env with the last of each name in its place, and HOME of its user if it is missing or empty.

    root: the folder in which the container's etc/passwd is looked for.
    """
    last: dict[str, str] = {}
    for variable in reversed(process.get("env") or ()):
        last.setdefault(variable.partition("=")[0], variable)
    if last.get("HOME", "HOME=") == "HOME=":
        last.pop("HOME", None)
        return [*reversed(last.values()), f"HOME={home(root, (process.get('user') or {}).get('uid', 0))}"]
    return list(reversed(last.values()))


def home(root: str, uid: int) -> str:
    """The home directory of uid in root's etc/passwd; "/" if it is not in there."""
    for line in _passwd(root).split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 5 and fields[2].isdigit() and int(fields[2][:20]) == uid:
            return fields[5].decode(errors="surrogateescape") or "/"
    return "/"


def _passwd(root: str) -> bytes:
    """The text of root's etc/passwd, b"" if there is none to be read.

    The container may have made it a link, a FIFO or a device (CVE-2024-9676): no link leads out of root, only a regular file is
    opened, and one without a size (as all of /proc) is not read.
    """
    fds: list[int] = []
    try:
        fds.append(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        fds.append(calls.openat2(fds[0], "etc/passwd", O["O_PATH"], resolve=IN_ROOT))
        info = os.fstat(fds[1])
        if not S_ISREG(info.st_mode) or not info.st_size:
            return b""
        fds.append(os.open(f"/proc/self/fd/{fds[1]}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return os.read(fds[2], _PASSWD_BYTES)
    except (OSError, KernelError):
        return b""  # as without one: its user's home is /
    finally:
        for fd in fds:
            os.close(fd)
