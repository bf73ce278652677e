"""`features` is true: what it names is taken by the code, and what the code takes is named."""

from __future__ import annotations

import pytest

from minicontainer.kernel.flags import CAPABILITIES
from minicontainer.runtime import schema, validate
from minicontainer.runtime.features import features
from minicontainer.runtime.mounts import MountOptions
from minicontainer.runtime.shapes import Wrong

FEATURES = features()
LINUX = FEATURES["linux"]


def taken(linux: dict) -> bool:
    """Whether linux.* of a config.json is one that the schema knows."""
    try:
        schema.LINUX(linux)
    except Wrong:
        return False
    return True


@pytest.mark.parametrize("option", FEATURES["mountOptions"])
def test_a_mount_option_is_no_data_of_a_file_system(option: str) -> None:
    options = MountOptions([option])
    assert all(key in ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand") for key, _ in options.data)


def test_no_mount_option_of_the_specification_is_missing() -> None:
    """features.md lists those of config.md; runc 1.1 has the same."""
    must = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec
    noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount
    rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared
    rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
    idmap ridmap"""
    assert set(must.split()) <= set(FEATURES["mountOptions"])


def test_every_namespace_is_known_to_the_schema_and_none_besides() -> None:
    assert all(taken({"namespaces": [{"type": kind}]}) for kind in LINUX["namespaces"])
    assert len(LINUX["namespaces"]) == 8 and not taken({"namespaces": [{"type": "nosuch"}]})


def test_seccomp_names_are_known_to_the_schema() -> None:
    seccomp = LINUX["seccomp"]
    for action in seccomp["actions"]:
        assert taken({"seccomp": {"defaultAction": action}})
    for arch in seccomp["archs"]:
        assert taken({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]}})
    for flag in seccomp["knownFlags"]:
        assert taken({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}})
    for op in seccomp["operators"]:
        rule = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": op}]}
        assert taken({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}})
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"])


def test_memory_policies_are_known_to_the_schema() -> None:
    for mode in LINUX["memoryPolicy"]["modes"]:
        assert taken({"memoryPolicy": {"mode": mode}})
    for flag in LINUX["memoryPolicy"]["flags"]:
        assert taken({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}})


@pytest.mark.parametrize("version", [FEATURES["ociVersionMin"], FEATURES["ociVersionMax"]])
def test_the_versions_are_accepted(version: str) -> None:
    process = {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    validate.check({"ociVersion": version, "root": {"path": "x"}, "process": process})


def test_the_rest_has_the_shape_of_the_specification() -> None:
    assert LINUX["capabilities"] == list(CAPABILITIES)
    assert all(type(value) is bool for value in LINUX["cgroup"].values())
    for name in ("apparmor", "selinux", "intelRdt", "netDevices"):
        assert type(LINUX[name]["enabled"]) is bool
    assert type(LINUX["mountExtensions"]["idmap"]["enabled"]) is bool
    assert all(type(key) is type(value) is str for key, value in FEATURES["annotations"].items())
    assert FEATURES["potentiallyUnsafeConfigAnnotations"] == ["org.systemd.property."]
