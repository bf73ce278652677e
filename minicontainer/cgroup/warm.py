"""Hides the wait of a cgroup v1 migration behind the work before it.

The first write of a pid to a v1 cgroup.procs waits for an RCU grace period, 5 to 20 ms: it takes cgroup_threadgroup_rwsem
(kernel/cgroup/cgroup.c), a percpu_rw_semaphore whose first writer for a while sits in rcu_sync_enter(). Another writer
within the next milliseconds finds that done. So a thread moves this process to where it is already, which moves
nothing, while the main thread imports and plans. On v2 CLONE_INTO_CGROUP needs no migration and nothing is done here.
"""

from __future__ import annotations

import os

_V1 = "/sys/fs/cgroup"


def expect_migration(proc: str = "/proc", v1: str = _V1) -> None:
    """Starts the grace period in a thread and returns. What goes wrong here only costs the time it would have saved."""
    target = _own_procs(proc, v1)
    if target:
        import _thread

        _thread.start_new_thread(_move_nowhere, (target,))


def _own_procs(proc: str, v1: str) -> str:
    """cgroup.procs of this process' own group in some v1 hierarchy; "" on pure v2."""
    with open(f"{proc}/self/cgroup", "rb", buffering=0) as f:
        text = f.readall().decode()
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0":
            target = f"{v1}/{controllers.removeprefix('name=')}{path.rstrip('/')}/cgroup.procs"
            if os.access(target, os.W_OK):
                return target
    return ""


def _move_nowhere(target: str) -> None:
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
    except OSError:
        return  # not ours to write: then the container's own migration waits, as without this
