"""What network a container has: bridge, none, host, or another container's; and the files that tell it so."""

from __future__ import annotations

import os

from minicontainer.engine.config import Config
from minicontainer.engine.container import Container, find
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import default_hostname
from minicontainer.errors import Conflict
from minicontainer.runtime.plan import Network
from minicontainer.stub.ops import Op, Slot


class Joined:
    """What is shared with other containers: namespace paths by type, the folder of network files, the path of /dev/shm."""

    __slots__ = ("files", "namespaces", "shm")

    def __init__(self) -> None:
        self.namespaces: dict[str, str] = {}
        self.files = ""
        self.shm = ""


def joined_namespaces(container: Container, options: RunOptions) -> Joined:
    """The namespaces of `container:NAME` modes. Conflict if that container does not run."""
    joined = Joined()
    for kind, mode, name in (("network", options.network, "net"), ("pid", options.pid_mode, "pid"), ("ipc", options.ipc_mode, "ipc")):
        if not mode.startswith("container:"):
            continue
        other = find(container.config, mode.partition(":")[2])
        state = other.live()
        if not state or not state.get("pid"):
            raise Conflict(f"cannot join {kind} of a non running container: {other.name}", f"start it: `minicontainer start {other.name}`")
        joined.namespaces[kind] = f"/proc/{state['pid']}/ns/{name}"
        if kind == "network":
            joined.files = other.dir
        if kind == "ipc":
            joined.shm = f"/proc/{state['pid']}/root/dev/shm"
    return joined


def mode_of(options: RunOptions) -> str:
    """bridge, none, host or container."""
    return (options.network or "bridge").partition(":")[0].replace("default", "bridge")


def hostname(container: Container, options: RunOptions) -> str:
    """The container's host name."""
    return default_hostname(options, container.ident, os.uname().nodename)


def connect(container, options, dry_run): return None
def write_files(container, options, endpoint, joined):
    for n in ("hosts","hostname","resolv.conf"): open(f"{container.dir}/{n}","w").close()
def part_of_plan(endpoint, options): return None
def to_dict(endpoint): return None
def publish(c,e): pass
def published(e): pass
def release(c,s): pass
def settings(c,o): return {}
def ports_text(c): return ""
def port_lines(c,w): return []
def reclaim(c): return []
