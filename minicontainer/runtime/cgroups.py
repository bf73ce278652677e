"""The cgroup of a container: where the spec puts it, what limits it gets, with the hierarchies of this host looked up once."""

from __future__ import annotations

import os

from minicontainer.cgroup.devices import DEFAULT_RULES
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy, detect
from minicontainer.cgroup.paths import clean
from minicontainer.errors import UsageError

_found: list[Hierarchy] = []
_DENY_ALL = {"allow": False, "access": "rwm"}


def hierarchy() -> Hierarchy:
    """This host's cgroup hierarchies (cgroup.Hierarchy), detected once a process."""
    if not _found:
        _found.append(detect())
    return _found[0]


def cgroup_of(path: str) -> Cgroup:
    """The cgroup at path, in every hierarchy; path as of path_of(): "slice:prefix:name…" is a systemd unit's, "" is none at all."""
    if not path:
        return Cgroup(Hierarchy({}, None, frozenset()), "/none")
    if path[0] != "/" and path.count(":") >= 2:
        from minicontainer.cgroup.systemd import Unit

        return Unit(hierarchy(), path)
    return Cgroup(hierarchy(), path)


def path_of(spec: dict, ident: str, *, systemd: bool = False, rootless: bool | None = None) -> str:
    """Where a new container's cgroup is: linux.cgroupsPath, or a group of its own by its id; for cgroup_of, and for the state.

    UsageError for a path that a container may not have. rootless: what we may not do is no error (None: unless we are the host's
    root). Then it is "", no group, which is an error only if the config asks for one. Without the host's root it is below the
    group above ours, if that is delegated to us (cgroup-v2.rst, "Delegation").
    """
    linux = spec.get("linux") or {}
    asked = linux.get("cgroupsPath") or ""
    privileged = _privileged()
    if systemd:
        from minicontainer.cgroup.systemd import full_name

        return full_name(asked, ident, "" if privileged else _user_manager())
    if not (rootless or (rootless is None and not privileged)):
        return clean(asked or ident)
    path = clean(asked or ident) if privileged else clean(asked or ident, parent=_own_parent())
    if _writable(path, privileged):
        return path
    if asked:
        raise UsageError(
            f"unable to apply cgroup configuration: {path}: permission denied", "have a cgroup v2 group delegated to you"
        )
    if _limits(spec):
        raise UsageError(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
            "take resources and cgroupsPath out of config.json, or have a cgroup v2 group delegated to you",
        )
    return ""


def no_group(spec: dict) -> str:
    """The path of no cgroup at all, for a container that stays in its caller's. UsageError if it asks for limits."""
    if limits := _limits(spec):
        raise UsageError(f"without a cgroup there are no limits, but linux.resources asks for {', '.join(limits)}")
    return ""


def _limits(spec: dict) -> list[str]:
    """What linux.resources asks for, except the devices, which every config has."""
    return [key for key, value in ((spec.get("linux") or {}).get("resources") or {}).items() if value and key != "devices"]


def _privileged() -> bool:
    """Whether we are the host's root: not another user, and not root of a user namespace (podman without root starts us in one)."""
    if os.geteuid():
        return False
    with open("/proc/self/uid_map", "rb", buffering=0) as f:
        return f.read().split() == [b"0", b"0", b"4294967295"]


def _user_manager() -> str:
    from minicontainer.cgroup import dbus

    return dbus.user_manager()


def _own_parent() -> str:
    """The v2 group above the one that we are in, which has processes and so can't hand controllers down."""
    with open("/proc/self/cgroup") as f:
        own = next((line.rstrip("\n")[3:] for line in f if line.startswith("0::")), "/")
    return own.rpartition("/")[0]


def _writable(path: str, privileged: bool) -> bool:
    """Whether we may make the group in every tree, and enter it. v1 is never delegated."""
    h = hierarchy()
    if h.mode != "v2" and not privileged:
        return False
    for tree in h.trees():
        at = f"{tree}{path}"
        while not os.path.exists(at):
            at = at.rpartition("/")[0]
        if not (os.access(at, os.W_OK) and os.access(f"{at}/cgroup.procs", os.W_OK)):
            return False
    return True


def resources_of(spec: dict) -> dict:
    """linux.resources as they are set: default deny and the default devices around the device rules (config-linux.md).

    Without the host's root there are no device rules, as in runc: such a container can make no device node.
    A pids limit of 0 is one since runtime-spec 1.3; before, it stood for none, and Go programs wrote it for want of another.
    """
    resources = dict((spec.get("linux") or {}).get("resources") or {})
    if _privileged():
        resources["devices"] = [*(resources.get("devices") or (_DENY_ALL,)), *DEFAULT_RULES]
    else:
        resources.pop("devices", None)
    return without_old_zero(resources, spec.get("ociVersion", ""))


def without_old_zero(resources: dict, version: str) -> dict:
    """resources without a pids limit of 0 if it is one of a version in which that meant none."""
    if (resources.get("pids") or {}).get("limit") == 0 and version.split(".")[:2] in (["1", "0"], ["1", "1"], ["1", "2"]):
        return {**resources, "pids": {}}
    return resources


def cgroup_owner(spec: dict) -> int:
    """The host's uid that the container's group is to belong to, 0 for none but root: config-linux.md, "Cgroup ownership".

    Its user may then make groups below: on v2, in a cgroup namespace of its own, with its cgroups mounted writable.
    """
    linux = spec.get("linux") or {}
    if hierarchy().mode != "v2" or not any(n["type"] == "cgroup" and not n.get("path") for n in linux.get("namespaces") or ()):
        return 0
    for mount in spec.get("mounts") or ():
        if (
            mount["destination"] == "/sys/fs/cgroup"
            and mount.get("source") == "cgroup"
            and "ro" not in (mount.get("options") or ())
        ):
            break
    else:
        return 0
    uid = (spec["process"].get("user") or {}).get("uid", 0)
    for m in linux.get("uidMappings") or ():
        if 0 <= uid - m["containerID"] < m["size"]:
            return m["hostID"] + uid - m["containerID"]
    return uid


def oom_file(cgroup: Cgroup) -> str:
    """The file in which the kernel counts the group's OOM kills; "" if the host has no memory controller."""
    version = hierarchy().version("memory", "memory")
    return f"{cgroup.directory('memory')}/{'memory.oom_control' if version == 1 else 'memory.events'}" if version else ""
