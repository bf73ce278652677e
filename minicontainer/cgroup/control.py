"""Freezing, killing and removing the groups of one container.

Sources: cgroup-v2.rst ("cgroup.freeze", "cgroup.kill", Linux 5.14), cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import os
from errno import EBUSY, ENODEV, ENOENT, ENOTEMPTY
from time import monotonic, sleep

from minicontainer.cgroup import tree
from minicontainer.errors import KernelError, MinicontainerError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGKILL = 9
_FREEZE_SECONDS = 10.0


def wait_until(done: Callable[[], bool], timeout_seconds: float) -> bool:
    """Asks again after 0.2 ms, 0.4 ms … 20 ms, until done() or the time is up; the last answer."""
    end, pause = monotonic() + timeout_seconds, 0.0002
    while not done():
        if monotonic() > end:
            return False
        sleep(pause)
        pause = min(2 * pause, 0.02)
    return True


def freeze(unified: str | None, freezer: str | None) -> None:
    """Stops every process of the group, and returns when all have stopped.

    unified: the v2 group, freezer: the v1 group, whichever there is. The v2 freezer is used where there is one, since
    what it stops can still be killed.
    """
    if unified:
        tree.write(f"{unified}/cgroup.freeze", "1")
        stopped = wait_until(lambda: "frozen 1" in tree.read(f"{unified}/cgroup.events"), _FREEZE_SECONDS)
    elif freezer:

        def frozen_v1() -> bool:
            tree.write(f"{freezer}/freezer.state", "FROZEN")  # again: a fork during FREEZING may have slipped through
            return tree.read(f"{freezer}/freezer.state").strip() == "FROZEN"

        stopped = wait_until(frozen_v1, _FREEZE_SECONDS)
    else:
        raise Unsupported(
            "pause: this host has neither cgroup v2 nor the v1 freezer", "mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
        )
    if not stopped:
        thaw(unified, freezer)
        raise MinicontainerError(
            f"pause: a process in {unified or freezer} did not stop within {_FREEZE_SECONDS:.0f} s",
            "one in uninterruptible sleep (state D in ps) can't; try again",
        )


def thaw(unified: str | None, freezer: str | None) -> None:
    """Lets the processes go on."""
    if unified:
        tree.write(f"{unified}/cgroup.freeze", "0")
    if freezer:
        tree.write(f"{freezer}/freezer.state", "THAWED")


def frozen(unified: str | None, freezer: str | None) -> bool:
    """Whether the group is stopped (by either freezer)."""
    return bool(
        (unified and tree.read(f"{unified}/cgroup.freeze").strip() == "1")
        or (freezer and tree.read(f"{freezer}/freezer.state").strip() in ("FROZEN", "FREEZING"))
    )


def kill(groups: list[str], unified: str | None, freezer: str | None, timeout_seconds: float) -> bool:
    """SIGKILL to every process in any of the groups and below; whether none is left when the time is up.

    groups: the container's group in every tree. What the v1 freezer holds is thawed to die.
    """
    if unified and os.path.exists(f"{unified}/cgroup.kill"):
        tree.write(f"{unified}/cgroup.kill", "1")
        if freezer:
            tree.write(f"{freezer}/freezer.state", "THAWED")
        groups = [unified, *(group for group in groups if group != unified)]

    def gone() -> bool:
        left = next((pids for group in groups if (pids := tree.pids(group))), [])
        if left:
            _kill_stopped(left, unified, freezer)
        return not left

    return wait_until(gone, timeout_seconds)


def _kill_stopped(pids: list[int], unified: str | None, freezer: str | None) -> None:
    """One round of signals. The v1 freezer holds the group meanwhile: nothing forks away, and no pid gets a new owner."""
    if freezer and not unified:
        tree.write(f"{freezer}/freezer.state", "FROZEN")
        pids = tree.pids(freezer)
    for pid in pids:
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            continue  # it has ended by itself
    thaw(unified, freezer)


def remove(group: str, timeout_seconds: float) -> None:
    """Removes a group and those below it; nothing if it is gone. KernelError if processes stay in it for that long."""

    def removed() -> bool:
        return _rmdir(group) or all(_rmdir(name, at) for at, name in tree.each(group))

    if not wait_until(removed, timeout_seconds):
        pids = tree.pids(group)
        raise KernelError(
            "rmdir",
            group,
            EBUSY,
            f"processes are still in it: {' '.join(map(str, pids[:8]))}" if pids else "the kernel still holds it; try again",
        )


def _rmdir(group: str, at: int | None = None) -> bool:
    """Whether the group (at: in this folder) is gone now."""
    try:
        os.rmdir(group, dir_fd=at)
    except OSError as e:
        if e.errno in (ENOENT, ENODEV):
            return True
        if e.errno in (EBUSY, ENOTEMPTY):  # processes (an exiting one counts for a moment) or groups in it
            return False
        raise KernelError("rmdir", group, e.errno or 0) from e
    return True


def prune(parents: list[str]) -> None:
    """Removes parents, nearest first, up to the first that is in use."""
    for parent in parents:
        if not _rmdir(parent):
            return
