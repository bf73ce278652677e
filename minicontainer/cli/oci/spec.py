"""spec and features."""

from __future__ import annotations

import os

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb, reason
from minicontainer.cli.oci.flags import Flag
from minicontainer.errors import Conflict, UsageError
from minicontainer.runtime.schema import NEWEST

_FILE = "config.json"
_FLAGS = (
    Flag("bundle", "b", help="path to the root of the bundle directory"),
    Flag("rootless", kind="bool", help="generate a configuration for a rootless container"),
)
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def spec_(call: Call) -> int:
    """spec [OPTIONS]"""
    bundle = call.values["bundle"] or "."
    path = f"{bundle}/{_FILE}"
    if not os.path.isdir(bundle):
        raise UsageError(f"chdir {bundle}: no such file or directory")
    text = fastjson.dumps(rootless() if call.values["rootless"] else example(), indent="\t")
    try:
        with open(path, "x") as f:
            f.write(text)
    except FileExistsError:
        raise Conflict(f"File {_FILE} exists. Remove it first") from None
    except OSError as e:
        raise UsageError(f"open {path}: {reason(e)}") from None
    return 0


def example() -> dict:
    """A container that runs sh, with the settings of runc's."""
    return {
        "ociVersion": NEWEST,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": _namespaces("pid", "network", "ipc", "uts", "mount"),
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _namespaces(*kinds: str) -> list[dict]:
    """As runc's: a cgroup namespace where there is nothing but cgroup v2."""
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return [{"type": kind} for kind in (*kinds, *(("cgroup",) if unified else ()))]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict:
    return {"destination": destination, "type": kind, "source": source, **({"options": list(options)} if options else {})}


def rootless() -> dict:
    """The same for a user who is not root: a user namespace in which that user is root, the host's network, and no limits;
    the gid of terminals is not mapped."""
    spec = example()
    linux = spec["linux"]
    del linux["resources"]
    linux["namespaces"] = [*_namespaces("pid", "ipc", "uts", "mount"), {"type": "user"}]
    for kind, mine in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
        linux[kind] = [{"containerID": 0, "hostID": mine, "size": 1}]
    for mount in spec["mounts"]:
        if mount["type"] == "devpts":
            mount["options"].remove("gid=5")
        elif mount["type"] == "sysfs":  # only who owns the network namespace can mount one
            mount.update(_mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro"))
    return spec


def features_(call: Call) -> int:
    """features"""
    from minicontainer.runtime.features import features

    print(fastjson.dumps(features(), indent="    "))
    return 0


VERBS = {"spec": Verb(spec_, _FLAGS, least=0, most=0), "features": Verb(features_, least=0, most=0)}
