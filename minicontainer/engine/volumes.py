"""Volumes: folders below <root>/volumes that outlive containers, filled from the image the first time."""

from __future__ import annotations

import os

from minicontainer.errors import KernelError, MinicontainerError
from minicontainer.kernel import calls
from minicontainer.kernel.flags import CLONE, MS, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS

_CP = "/bin/cp"


def copy_up(volume: str, destination: str, layers: list[str], place: str) -> None:
    """Copies the image's files at destination into an empty volume, as docker does: owners, modes, links and xattrs kept.

    layers: topmost first, at least two; place: an empty folder to mount them on. The overlay is mounted read only in a mount
    namespace of a child's own, which dies with it, and destination is resolved inside of it.
    """
    with os.scandir(volume) as entries:
        if next(entries, None):
            return
    pid = os.fork()
    if pid == 0:
        try:
            _copy_in_child(volume, destination, layers, place)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise MinicontainerError(
            f"cannot copy the image's {destination} into the volume {volume}", "is the disk full? see `df`; or say nocopy"
        )


def _copy_in_child(volume: str, destination: str, layers: list[str], place: str) -> None:
    calls.unshare(CLONE["CLONE_NEWNS"])
    calls.mount("", "/", "", MS["MS_REC"] | MS["MS_PRIVATE"])
    if len(layers) > 1:
        calls.mount("overlay", place, "overlay", MS["MS_RDONLY"], f"lowerdir={':'.join(layers)}")
    root = os.open(place if len(layers) > 1 else layers[0], os.O_PATH | os.O_DIRECTORY)
    try:
        source = calls.openat2(root, destination, os.O_RDONLY | os.O_DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except KernelError:
        os._exit(0)  # the image has no such folder: nothing to copy
    os.set_inheritable(source, True)
    os.execv(_CP, [_CP, "-a", "--", f"/proc/self/fd/{source}/.", volume])
