"""What this runtime implements, whatever the host has (features.md, features-linux.md). Every list is the table that the code
goes by, so that it can't say what is not so."""

from __future__ import annotations

from minicontainer import __version__
from minicontainer.cgroup.unit_properties import ANNOTATION
from minicontainer.kernel import seccomp as library
from minicontainer.kernel.flags import CAPABILITIES
from minicontainer.runtime import hooks, mounts, namespaces, scheduling, schema, seccomp, seccomp_compile


def features() -> dict:
    """The Features structure."""
    found = library.version()
    return {
        "ociVersionMin": schema.OLDEST,
        "ociVersionMax": schema.NEWEST,
        "hooks": list(hooks.NAMES),
        "mountOptions": mounts.known(),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {"modes": list(scheduling.MEMORY_MODES), "flags": list(scheduling.MEMORY_FLAGS)},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "org.minicontainer.version": __version__,
            "org.opencontainers.runc.checkpoint.enabled": "true",
            **({"io.github.seccomp.libseccomp.version": found} if found else {}),
        },
        "potentiallyUnsafeConfigAnnotations": [ANNOTATION],
    }


def _seccomp() -> dict:
    flags = list(seccomp.FLAGS)
    return {
        "enabled": True,
        "actions": sorted(seccomp_compile.ACTIONS),
        "operators": sorted(seccomp_compile.OPERATORS),
        "archs": sorted(f"SCMP_ARCH_{name}" for name in schema.ARCHITECTURES),
        "knownFlags": flags,
        "supportedFlags": flags,
    }
