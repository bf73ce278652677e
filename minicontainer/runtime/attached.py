"""The root of a container without a mount namespace of its own, before Linux 6.15: mounted over its own folder, for all to see.

Since then its mounts can be a tree that is mounted nowhere, which goes when nobody uses it. runc does as here, and leaves the
mounts behind; here delete takes them away, also after a create that was killed: state.json has what was there before it.
"""

from __future__ import annotations

import os
from errno import EINVAL

from minicontainer.errors import KernelError
from minicontainer.kernel.flags import MNT

_UMOUNT_NOFOLLOW = 8


def mark(path: str) -> list[int]:
    """What is mounted at path, and in which mount namespace: for remove()."""
    return [os.stat("/proc/self/ns/mnt").st_ino, _mount_id(path)]


def remove(path: str, before: list[int]) -> None:
    """Unmounts what was mounted at path since it was marked, with all below; nothing in another mount namespace. KernelError."""
    from minicontainer.kernel import calls

    try:
        namespace, mount = mark(path)
    except FileNotFoundError:
        return  # the folder is gone, and what was mounted on it
    if namespace == before[0] and mount != before[1]:
        try:
            calls.umount2(os.path.realpath(path), MNT["MNT_DETACH"] | _UMOUNT_NOFOLLOW)
        except KernelError as e:
            if e.errno != EINVAL:  # somebody else has unmounted it, and what was there before
                raise


def _mount_id(path: str) -> int:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as f:
            return next(int(line[7:]) for line in f if line.startswith(b"mnt_id:"))
    finally:
        os.close(fd)
