"""linux.sysctl: which settings are a container's own, by namespace, and the file of each."""

from __future__ import annotations

import os

from minicontainer.runtime.shapes import Wrong, shown

# Of the ipc namespace (ipc/ipc_sysctl.c); fs.mqueue.* are too (ipc/mq_sysctl.c).
_IPC = frozenset(f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())


def parts(key: str) -> list[str]:
    """The folders and the file of a key below /proc/sys, in either form of sysctl(8): "net.ipv4.conf.eth0/1.forwarding",
    "net/ipv4/conf/eth0.1/forwarding". Wrong for one that would lead elsewhere."""
    slash = next((c for c in key if c in "./"), ".") == "/"
    names = key.split("/") if slash else [name.replace("/", ".") for name in key.split(".")]
    if any(name.strip(".") == "" or not name.isprintable() or "*" in name for name in names):
        raise Wrong("is not the name of a sysctl", "write it like net.ipv4.ip_forward")
    return names


def check(settings: dict[str, str], namespaces: dict[str, str], domainname: str) -> None:
    """Wrong if one of the settings is the host's, or says otherwise than the spec's field domainname.

    namespaces: path ("" for a new one) by type, of those not shared.
    """
    for key, value in settings.items():
        try:
            name = ".".join(parts(key))
            _check(name, namespaces)
            if name == "kernel.domainname" and domainname not in ("", value):
                raise Wrong(f'sysctl {shown(name)} is not allowed as it conflicts with the OCI "domainname" field', "use it")
        except Wrong as e:
            raise e.within(key, "sysctl", "linux")  # noqa: B904  # the very same error


def _check(name: str, namespaces: dict[str, str]) -> None:
    if name in _IPC or name.startswith("fs.mqueue."):
        if "ipc" not in namespaces:
            raise Wrong(
                f"sysctl {shown(name)} is not allowed in the hosts ipc namespace", 'add {"type": "ipc"} to linux.namespaces'
            )
    elif name.startswith("net."):
        if "network" not in namespaces or (namespaces["network"] and is_ours("net", namespaces["network"])):
            raise Wrong(
                f"sysctl {shown(name)} not allowed in host network namespace", 'add {"type": "network"} to linux.namespaces'
            )
    elif name == "kernel.hostname" and "uts" in namespaces:
        raise Wrong(f'sysctl {shown(name)} is not allowed as it conflicts with the OCI "hostname" field', "use hostname")
    elif name.startswith("user."):
        if "user" not in namespaces:
            raise Wrong(f"setting ucounts without a user namespace not allowed: {name}", 'add {"type": "user"} to linux.namespaces')
    elif name != "kernel.domainname" or "uts" not in namespaces:
        raise Wrong(f"sysctl {shown(name)} is not in a separate kernel namespace", "it is the host's; set it there")


def is_ours(kind: str, path: str) -> bool:
    """Whether path is the namespace that this process is in. kind: as in /proc/self/ns."""
    try:
        here, there = os.stat(f"/proc/self/ns/{kind}"), os.stat(path)
    except OSError as e:
        raise Wrong(f"invalid namespace path {shown(path)}: {e.strerror}") from None
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
