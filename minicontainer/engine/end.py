"""The end of a container: what it leaves in the kernel and on disk is reclaimed, by whoever is there to do it.

Everything can be found by the container's id, so this works the same after an orderly exit and after a kill -9 of
anything at any time; each step finds its work done already or does it.
"""

from __future__ import annotations

import os
from time import time_ns

from minicontainer.engine import container as box
from minicontainer.engine.config import Config
from minicontainer.engine.container import Container, Life
from minicontainer.runtime.processes import start_time

KILLED = 137


def finish(container: Container, life: Life) -> dict:
    """After the last process: cgroups, network and state go; with --rm everything goes. exit.json's content is returned."""
    from minicontainer.engine import attach_network
    from minicontainer.runtime.cgroups import cgroup_of

    state = life.state
    cgroup = cgroup_of(state.get("cgroup") or container.cgroup_path)
    there = cgroup.exists()
    if there:
        cgroup.kill()
    attach_network.release(container, state)
    if there:
        cgroup.remove()
    ended = container.exit() or {"exit_code": KILLED, "signal": 9, "finished_ns": time_ns(), "oom": 0}
    if state.get("remove") or not container.record:
        remove_files(container, volumes=not state.get("keep_volumes"))
    elif state.get("pid"):
        box.write_json(f"{container.dir}/exit.json", {**ended, "started_ns": state.get("started_ns")})
    life.end()
    return ended


def remove_files(container: Container, name: str = "", *, volumes: bool = True) -> None:
    """A container's folder and name; with volumes also its volumes without a name."""
    name = name or container.record.get("name", "")
    config = container.config
    # First the name: whoever finds it no longer finds the container.
    try:
        if name and os.readlink(f"{config.root}/names/{name}") == container.ident:
            os.unlink(f"{config.root}/names/{name}")
    except FileNotFoundError:
        pass  # it never had it, or somebody was here before
    for volume in container.record.get("anonymous_volumes", ()) if volumes else ():
        remove_tree(f"{config.root}/volumes/{volume}")
    try:
        os.unlink(f"{container.dir}/container.json")
    except FileNotFoundError:
        pass  # it was never finished
    remove_tree(container.dir)


def remove_tree(path: str) -> None:
    """Removes a folder and all below it, however deep; no symlink in it is followed, and one that is gone is no error."""
    from minicontainer.image import trash

    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        trash.empty(fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def reclaim(config: Config) -> list[str]:
    """Reclaims the containers that nobody cares for any more: their command or monitor was killed. Their ids."""
    try:
        entries = os.listdir(f"{config.state}/containers")
    except FileNotFoundError:
        return []
    done = []
    for ident in entries:
        if ident.startswith("."):
            _reclaim_unborn(f"{config.state}/containers/{ident}")
            continue
        life = Life.take(config, ident)
        if life:
            finish(orphan(config, ident, life), life)
            done.append(ident)
    if done:
        from minicontainer.engine import attach_network

        attach_network.reclaim(config)  # what it took before it could note it
    return done


def orphan(config: Config, ident: str, life: Life) -> Container:
    """A container whose folder may not have come to be."""
    found = box.load(config, ident)
    if found:
        return found
    container = Container(config, ident, {})
    if life.state.get("name"):
        container.record = {"name": life.state["name"], "options": {}}
        life.state["remove"] = True
    return container


def _reclaim_unborn(path: str) -> None:
    """A state folder whose maker died before it had its name; it owns nothing yet. Its pid is the end of its name."""
    pid = int(path.rpartition(".")[2])
    if start_time(pid) is None:
        remove_tree(path)
