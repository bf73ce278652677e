"""What a container may do: capabilities, devices, masked paths, seccomp. Docker's defaults, current.

Sources: moby's oci/defaults.go and oci/caps, capabilities(7), the OCI runtime spec (config-linux.md).
"""

from __future__ import annotations

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.host import Host
    from minicontainer.engine.options import RunOptions

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip
# /proc/interrupts, powercap and thermal_throttle tell of other tenants by their side effects
# (GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p); the others hold the host's memory, keys, timers and firmware.
MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# zero, null, urandom, random, tty, console: the character devices of every container.
_DEFAULT_DEVICES = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))


def capabilities(options: RunOptions, host: Host) -> list[str]:
    """The capabilities of the container, from --cap-add, --cap-drop and --privileged.

    Raises UsageError for a name that is none, or that this host can't give.
    """
    if options.privileged:
        return host.capabilities()
    if not options.cap_add and not options.cap_drop:
        return list(DEFAULT_CAPABILITIES)
    add = [_capability(name, "CapAdd", host) for name in options.cap_add]
    drop = [_capability(name, "CapDrop", host) for name in options.cap_drop]
    if "ALL" in add:
        return [name for name in host.capabilities() if name not in drop]
    basis = () if "ALL" in drop else tuple(name for name in DEFAULT_CAPABILITIES if name not in drop)
    return list(dict.fromkeys((*basis, *add)))


def _capability(name: str, field: str, host: Host) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else "CAP_" + upper
    if full not in CAPABILITIES:
        from difflib import get_close_matches

        close = get_close_matches(full, CAPABILITIES, 1)
        raise UsageError(
            f'invalid {field}: unknown capability: "{full}"',
            f"did you mean {close[0]}?" if close else "see capabilities(7)",
        )
    if full not in host.capabilities():
        raise UsageError(
            f'invalid {field}: capability not supported by your kernel or not available in the current environment: "{full}"'
        )
    return full


def capability_sets(capabilities: list[str]) -> dict[str, list[str]]:
    """All five sets.

    Nothing is inheritable or ambient (CVE-2022-24769), so a program of another user than root has none.
    """
    return {
        "bounding": list(capabilities),
        "effective": list(capabilities),
        "permitted": list(capabilities),
        "inheritable": [],
        "ambient": [],
    }


def devices(options: RunOptions, host: Host) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """("linux.devices", "linux.resources.devices"): nodes to make, and rules of the devices cgroup."""
    if options.privileged:
        nodes = host.all_devices()
        for asked in options.devices:
            if asked["host"] != asked["container"]:
                nodes += host.devices(asked["host"], asked["container"])
        return nodes, [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [_rule("c", major, minor, "rwm") for major, minor in _DEFAULT_DEVICES]
    nodes = []
    for asked in options.devices:
        found = host.devices(asked["host"], asked["container"])
        nodes += found
        rules += [_rule(node["type"], node["major"], node["minor"], asked["access"]) for node in found]
    rules += [dict(rule) for rule in options.device_cgroup_rules]
    return nodes, rules


def _rule(kind: str, major: int, minor: int, access: str) -> dict[str, Any]:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


def masked_paths(options: RunOptions, host: Host) -> list[str]:
    """Paths that read as empty."""
    if options.privileged or "ALL" in options.unmask:
        paths = []
    else:
        paths = [path for path in (*MASKED_PATHS, *host.thermal_throttle_paths()) if path not in options.unmask]
    return paths + [path for path in options.mask if path not in paths]


def readonly_paths(options: RunOptions) -> list[str]:
    """Paths that can't be written."""
    if options.privileged or "ALL" in options.unmask:
        return []
    return [path for path in READONLY_PATHS if path not in options.unmask]


def seccomp(options: RunOptions, capabilities: list[str]) -> dict[str, Any] | None:
    """ "linux.seccomp", or None for unconfined.

    A privileged container has a profile only if one was asked for.
    """
    kind = options.seccomp or ("unconfined" if options.privileged else "default")
    if kind == "unconfined":
        return None
    from minicontainer.runtime.seccomp import profile_for

    return profile_for(kind, capabilities)
