"""Plans of a spec that a test changes. Nothing is carried out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from minicontainer.runtime.plan import Plan, make_plan
from minicontainer.runtime.rootfs import Overlay
from minicontainer.stub.ops import Op, mkdir


class Group:
    """A cgroup.Cgroup that touches nothing."""

    def __init__(self, unified: str | None = None) -> None:
        self.unified = unified

    def create_ops(self, resources: dict) -> list[Op]:
        return [mkdir("/sys/fs/cgroup/x", why="the group")]

    def enter_ops(self, pid: int = 0) -> list[Op]:
        return [mkdir(f"/sys/fs/cgroup/enter/{pid}", why="enter")]

    born_outside = False

    def unified_dir(self) -> str | None:
        return self.unified

    def mounts(self) -> list:
        return []


SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "args": ["sh", "-c", "true"], "env": ["PATH=/bin:/usr/bin", "A=1"], "cwd": "/work", "user": {"uid": 0, "gid": 0, "additionalGids": [0, 5]},
        "capabilities": {s: ["CAP_CHOWN", "CAP_KILL"] for s in ("bounding", "effective", "permitted")}, "oomScoreAdj": 0,
    },
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        {"destination": "/data", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("mount", "pid", "network", "ipc", "uts")], "maskedPaths": ["/proc/keys", "/sys/firmware", "/own/path"],
        "readonlyPaths": ["/proc/sys"], "sysctl": {"net.ipv4.ip_forward": "1"},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}],
    },
}  # fmt: skip
LAYERS = Overlay(["/layers/a", "/layers/b"], "/c/upper", "/c/work", "/c/merged")


def planned(change: Callable[[dict], object] = lambda spec: None, **more: Any) -> Plan:
    spec = copy.deepcopy(SPEC)
    change(spec)
    return make_plan(
        spec, ident="id", bundle="/bundle", cgroup=more.pop("cgroup", Group()), overlay=more.pop("overlay", LAYERS), **more
    )


def at(ops: list[Op], call: str, *first: object) -> int:
    """The place of the only call whose arguments begin like this."""
    (found,) = [i for i, op in enumerate(ops) if op.call == call and op.args[: len(first)] == first]
    return found


def why(ops: list[Op], text: str) -> int:
    """The place of the first op whose reason has this text."""
    return next(i for i, op in enumerate(ops) if text in op.why)
