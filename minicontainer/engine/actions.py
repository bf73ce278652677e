"""What is done to containers that are there: stop, kill, wait, remove, pause. No daemon: by their pidfd and their files."""

from __future__ import annotations

import os
import select
from time import sleep

from minicontainer.engine import container as box
from minicontainer.engine import end
from minicontainer.engine.container import SHORT, Container, Life
from minicontainer.engine.values import signal_number
from minicontainer.errors import Conflict, KernelError, NotFound
from minicontainer.kernel import calls
from minicontainer.runtime.cgroups import cgroup_of

DEFAULT_STOP_SECONDS = 10
SIGKILL = 9


def kill(container: Container, sig: int) -> None:
    """Sends a signal to the container's first process. Conflict if it does not run."""
    pidfd = _pidfd(container)
    if pidfd is None:
        raise Conflict(f"Cannot kill container: {container.name}: container {container.ident[:SHORT]} is not running")
    try:
        calls.pidfd_send_signal(pidfd, sig)
        if sig == SIGKILL:
            _thaw(container)  # a process in a frozen v1 cgroup dies only when it is thawed
    finally:
        os.close(pidfd)


def stop(container: Container, *, seconds: float | None = None, sig: str = "") -> None:
    """The stop signal, then SIGKILL after `seconds` (negative: never); returns when all of it is cleaned up."""
    pidfd = _pidfd(container)
    if pidfd is not None:
        options, image = container.record["options"], container.record["image_config"]
        first = signal_number(sig or options.get("stop_signal") or image.get("StopSignal") or "TERM")
        if seconds is None:
            given = options.get("stop_timeout")
            seconds = DEFAULT_STOP_SECONDS if given is None else given
        try:
            _send(pidfd, first)
            _thaw(container)
            if not _ends(pidfd, seconds):
                _send(pidfd, SIGKILL)
                _ends(pidfd, -1)
        finally:
            os.close(pidfd)
    settle(container)


def settle(container: Container) -> None:
    """Waits until whoever starts a container or cleans up after it is done; cleans up if they are gone.

    Returns at once for a container that runs.
    """
    while True:
        life = Life.take(container.config, container.ident)
        if life:
            end.finish(container, life)
            return
        state = container.live()
        if state and state.get("status") == "running":
            return
        if not os.path.exists(f"{container.config.state}/containers/{container.ident}"):
            return
        sleep(0.002)


def begin(container: Container) -> Life | None:
    """A new life of a container that does not run, to start it; None if it runs, which somebody else may just have done.

    NotFound if it was removed meanwhile.
    """
    while True:
        settle(container)
        if container.live():
            return None
        try:
            life = Life.begin(container.config, container.ident)
        except Conflict:
            continue  # another start or removal was quicker: wait for it, and look again
        if os.path.exists(f"{container.dir}/container.json"):
            return life
        life.end()
        raise NotFound(f"No such container: {container.name}", "it was removed just now")


def wait(container: Container) -> int:
    """Waits for the end: docker's exit code (0 for a container that never ran, as docker has it)."""
    pidfd = _pidfd(container)
    ended = None
    if pidfd is not None:
        _ends(pidfd, -1)
        os.close(pidfd)
        # Its monitor notes the end at once; with --rm the note is gone a few milliseconds later.
        while not (ended := container.exit()) and os.path.exists(container.dir) and not _abandoned(container):
            sleep(0.001)
    settle(container)
    ended = ended or container.exit()
    return ended["exit_code"] if ended else 0


def _abandoned(container: Container) -> bool:
    """Whether nobody cares for a container any more, so that nobody will note its end."""
    life = Life.take(container.config, container.ident)
    if life:
        end.finish(container, life)
    return life is not None


def remove(container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """Removes a container and what it wrote; with volumes also those without a name. Conflict if it runs and is not forced."""
    if container.live():
        if not force:
            raise Conflict(
                f"You cannot remove a running container {container.ident}.",
                "stop it first (`minicontainer stop`), or remove it with --force",
            )
        stop(container, seconds=0, sig="KILL")
    settle(container)
    if not os.path.exists(container.dir):
        return  # it was made with --rm
    life = Life.begin(container.config, container.ident)
    life.save(status="removing", name=container.name, remove=True, keep_volumes=not volumes)
    end.finish(container, life)


def pause(container: Container, *, frozen: bool) -> None:
    """Freezes or thaws every process of a container."""
    state = container.live()
    if not state:
        raise Conflict(f"Container {container.ident[:SHORT]} is not running")
    cgroup = cgroup_of(state["cgroup"])
    if cgroup.frozen() == frozen:
        raise Conflict(f"Container {container.ident[:SHORT]} is {'already' if frozen else 'not'} paused")
    cgroup.freeze() if frozen else cgroup.thaw()
    # Whoever holds the lock of a running container only watches; ps and metrics need not ask the kernel.
    box.write_json(f"{container.config.state}/containers/{container.ident}/state.json", {**state, "paused": frozen})


def _pidfd(container: Container) -> int | None:
    """A pidfd of a running container's first process; checked again once it is held, so that no reused pid is hit."""
    state = container.live()
    if not state:
        return None
    try:
        pidfd = calls.pidfd_open(state["pid"])
    except KernelError:
        return None
    if container.live() != state:
        os.close(pidfd)
        return _pidfd(container)
    return pidfd


def _send(pidfd: int, sig: int) -> None:
    try:
        calls.pidfd_send_signal(pidfd, sig)
    except KernelError as e:
        if e.errno != 3:  # ESRCH: it has ended by itself
            raise


def _ends(pidfd: int, seconds: float) -> bool:
    """Whether a process ends within seconds (negative: waits for ever)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds < 0 else seconds * 1000))


def _thaw(container: Container) -> None:
    cgroup = cgroup_of(container.cgroup_path)
    if cgroup.exists() and cgroup.frozen():
        cgroup.thaw()
