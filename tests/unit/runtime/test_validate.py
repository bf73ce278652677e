"""config.json is checked field by field: what is wrong is named, with runc's words where it has some, and what is right passes."""

from __future__ import annotations

import copy
import os
import time
from typing import Any

import pytest

from minicontainer import fastjson
from minicontainer.errors import UsageError
from minicontainer.runtime import seccomp_profile
from minicontainer.runtime.sysctl import parts
from minicontainer.runtime.validate import MOST_MOUNTS, check, check_process, check_resources

_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_U64 = (1 << 64) - 1


def docker() -> dict[str, Any]:
    """What docker writes for `docker run busybox true`, with its seccomp profile in full."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True, "consoleSize": {"height": 24, "width": 80}, "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
            "args": ["true"], "env": ["PATH=/bin:/usr/bin", "HOME=/root", "EMPTY="], "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": _U64}], "oomScoreAdj": 0, "noNewPrivileges": True,
        },
        "root": {"path": "/var/lib/docker/overlay2/x/merged", "readonly": False},
        "hostname": "1ee0ac64ac7a",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/etc/hosts", "source": "/var/lib/docker/hosts", "options": ["rbind", "rprivate"]},
        ],
        "hooks": {"prestart": [{"path": "/proc/2/exe", "args": ["libnetwork-setkey", "x"]}]},
        "annotations": {"a": "b", "empty": ""},
        "linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": -1, "access": "rwm"}],
                "memory": {"limit": 1 << 30, "swap": -1, "disableOOMKiller": False}, "cpu": {"shares": 0, "quota": -1, "cpus": "0-1,3"},
                "pids": {"limit": -1}, "blockIO": {"weight": 0}, "unified": {"memory.high": "max"},
                "hugepageLimits": [{"pageSize": "2MB", "limit": _U64}],
            },
            "cgroupsPath": "/docker/1ee0ac64ac7a",
            "namespaces": [{"type": t} for t in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o20666, "uid": 0, "gid": 0}],
            "seccomp": seccomp_profile.to_oci(seccomp_profile.default_profile(), _CAPABILITIES),
            "rootfsPropagation": "rslave", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "",
        },
    }  # fmt: skip


def changed(path: str, value: object) -> dict:
    """docker()'s config with a member (its path with dots, numbers for list items, ~ for a dot) set; "drop" takes it out."""
    spec: Any = docker()
    at, *keys = spec, *path.split(".")
    for key in keys[:-1]:
        at = at[int(key)] if isinstance(at, list) else at.setdefault(key.replace("~", "."), {})
    if value == "drop":
        del at[keys[-1].replace("~", ".")]
    elif isinstance(at, list):
        at[int(keys[-1])] = value
    else:
        at[keys[-1].replace("~", ".")] = value
    return spec


def test_what_docker_writes_is_right_and_checked_within_a_millisecond() -> None:
    spec = docker()
    before = copy.deepcopy(spec)
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        check(spec)
        best = min(best, time.perf_counter() - began)
    assert spec == before
    assert best < 0.001 * (30 if os.path.exists("/run/guest") else 1)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.0-rc1", "1.0.0-rc.6", "1.0.2-dev", "1.1.0+dev", "1.3.0", "1.99.7"])
def test_every_1_x_is_taken(version: str) -> None:
    check(changed("ociVersion", version))


WRONG = [
    # (path, value, the error from its beginning)
    ("ociVersion", "drop", "ociVersion: is missing"),
    ("ociVersion", None, "ociVersion: is missing"),
    ("ociVersion", "", 'ociVersion: "" is not a version'),
    ("ociVersion", "2.0.0", 'ociVersion: "2.0.0" is not supported'),
    ("ociVersion", "0.9.0", 'ociVersion: "0.9.0" is not supported'),
    ("ociVersion", "1", 'ociVersion: "1" is not a version'),
    ("ociVersion", "1.x.0", 'ociVersion: "1.x.0" is not a version'),
    ("ociVersion", "1.0.0.0", 'ociVersion: "1.0.0.0" is not a version'),
    ("ociVersion", "\u0661.0.0", "ociVersion: "),
    ("ociVersion", 1.0, "ociVersion: must be a string, not a number"),
    ("process", "drop", "process property must not be empty"),
    ("process", [], "process: must be an object, not a list"),
    ("root", "drop", "root must be specified"),
    ("root.path", "", "root.path: must not be empty"),
    ("root.path", "root\0fs", "root.path: contains a null byte"),
    ("root.readonly", "yes", "root.readonly: must be true or false, not a string"),
    ("root.readonly", 1, "root.readonly: must be true or false, not a number"),
    ("process.args", "drop", "process.args: args must not be empty"),
    ("process.args", [], "process.args: args must not be empty"),
    ("process.args", "true", "process.args: must be a list of strings, not a string"),
    ("process.args", ["a", 1], "process.args[1]: must be a string, not a number"),
    ("process.args", ["a", None], "process.args[1]: must be a string, not null"),
    ("process.args", ["a", "b\0c"], "process.args[1]: contains a null byte"),
    ("process.args", ["\ud83d", "\ude00"], "process.args[0]: \"\\ud83d\" holds half of a surrogate pair"),
    ("process.args", ["\udcff"], "process.args[0]: \"\\udcff\" holds half of a surrogate pair"),
    ("process.cwd", "drop", "process.cwd: Cwd property must not be empty"),
    ("process.cwd", "", "process.cwd: Cwd property must not be empty"),
    ("process.cwd", "work", "process.cwd: Cwd must be an absolute path"),
    ("process.env", ["A"], "process.env[0]: invalid environment variable: missing '='"),
    ("process.env", ["A=1", "=1"], "process.env[1]: invalid environment variable: name cannot be empty"),
    ("process.env", [""], "process.env[0]: invalid environment variable: missing '='"),
    ("process.env", ["A=1\0B=2"], "process.env[0]: contains a null byte"),
    ("process.terminal", 0, "process.terminal: must be true or false"),
    ("process.consoleSize", {"height": 1 << 16, "width": 1}, "process.consoleSize.height: 65536 is out of range"),
    ("process.consoleSize", {"height": 1}, "process.consoleSize.width: is missing"),
    ("process.user.uid", -1, "process.user.uid: -1 is out of range"),
    ("process.user.uid", (1 << 32) - 1, "process.user.uid: 4294967295 is out of range"),
    ("process.user.uid", 1 << 32, "process.user.uid: 4294967296 is out of range"),
    ("process.user.gid", (1 << 32) - 1, "process.user.gid: 4294967295 is out of range"),
    ("process.user.uid", 0.0, "process.user.uid: must be a whole number, not 0.0"),
    ("process.user.uid", True, "process.user.uid: must be a whole number, not a boolean"),
    ("process.user.uid", "0", "process.user.uid: must be a whole number, not a string"),
    ("process.user.additionalGids", [0, 1 << 40], "process.user.additionalGids[1]: 1099511627776 is out of range"),
    ("process.user.umask", -1, "process.user.umask: -1 is out of range"),
    ("process.capabilities.bounding", ["CAP_KILL", 5], "process.capabilities.bounding[1]: must be a string"),
    ("process.capabilities.ambient", [7], "process.capabilities.ambient[0]: must be a string, not a number"),
    ("process.capabilities", ["CAP_KILL"], "process.capabilities: must be an object, not a list"),
    ("process.rlimits.0.type", "RLIMIT_TEST", 'process.rlimits[0].type: unknown rlimit "RLIMIT_TEST"'),
    ("process.rlimits.0.soft", "drop", "process.rlimits[0].soft: is missing"),
    ("process.rlimits.0.hard", -1, "process.rlimits[0].hard: -1 is out of range"),
    ("process.rlimits.0.hard", 1 << 64, "process.rlimits[0].hard: 18446744073709551616 is out of range"),
    ("process.rlimits.0.hard", 1000, "process.rlimits[0].soft: 1024 is more than hard (1000)"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2, "process.rlimits[1].type: duplicate of RLIMIT_CPU"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj: 1001 is out of range"),
    ("process.scheduler", {}, "process.scheduler.policy: is missing"),
    ("process.scheduler", {"policy": "SCHED_X"}, 'process.scheduler.policy: invalid scheduler policy: "SCHED_X"'),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice: invalid scheduler.nice: 20 when"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 2}, "process.scheduler.priority: scheduler.priority can only be"),
    ("process.scheduler", {"policy": "SCHED_FIFO", "period": 2}, "process.scheduler.period: scheduler runtime/deadline/period can"),
    ("process.scheduler", {"policy": "SCHED_FIFO", "flags": ["X"]}, "process.scheduler.flags[0]: invalid scheduler flag"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_NONE"}, "process.ioPriority.class: invalid ioPriority.Class"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority: 8 is out of range"),
    ("process.execCPUAffinity", {"initial": "0-x"}, "process.execCPUAffinity.initial: "),
    ("hostname", "x" * 65, "hostname: "),
    ("linux.namespaces", [{"type": "mount"}], "hostname: unable to set hostname without a private UTS namespace"),
    ("linux.namespaces.2.type", "utc", 'linux.namespaces[2].type: namespace "utc" does not exist'),
    ("linux.namespaces.2.type", "pid", 'linux.namespaces[3].type: malformed spec file: duplicated ns "pid"'),
    ("linux.namespaces.2.type", "drop", "linux.namespaces[2].type: is missing"),
    ("linux.namespaces.0.path", "/no/such/file", "linux.namespaces[0].path: invalid namespace path \"/no/such/file\": No such file"),
    ("linux.namespaces.0.path", "/dev/null", "linux.namespaces[0].path: invalid namespace path \"/dev/null\": not a namespace"),
    ("linux.namespaces.0", None, "linux.namespaces[0]: must be an object, not null"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 1000, "size": 1}], "linux.uidMappings: user namespace mappings specified, but"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 1000, "size": 0}], "linux.uidMappings[0].size: 0 is out of range"),
    ("linux.namespaces.1.type", "user", "linux.uidMappings: user namespaces enabled, but no namespace path"),
    ("linux.timeOffsets", {"boottime": {"secs": 1}}, "linux.timeOffsets: time namespace offsets specified, but"),
    ("linux.timeOffsets", {"realtime": {"secs": 1}}, "linux.timeOffsets.realtime: \"realtime\" is no clock"),
    ("linux.timeOffsets", {"boottime": {"nanosecs": 10**9}}, "linux.timeOffsets.boottime.nanosecs: 1000000000 is out of range"),
    ("linux.rootfsPropagation", "public", 'linux.rootfsPropagation: rootfsPropagation="public" is not supported'),
    ("linux.maskedPaths", ["proc/kcore"], 'linux.maskedPaths[0]: "proc/kcore" is not an absolute path'),
    ("linux.readonlyPaths", ["sys"], 'linux.readonlyPaths[0]: "sys" is not an absolute path'),
    ("linux.devices.0.path", "dev/fuse", 'linux.devices[0].path: "dev/fuse" is not an absolute path'),
    ("linux.devices.0.type", "x", 'linux.devices[0].type: invalid device type "x"'),
    ("linux.devices.0.major", 4096, "linux.devices[0].major: 4096 is out of range"),
    ("linux.devices.0.minor", -1, "linux.devices[0].minor: -1 is out of range"),
    ("linux.devices.0.uid", (1 << 32) - 1, "linux.devices[0].uid: 4294967295 is out of range"),
    ("linux.resources.devices.0.access", "", "linux.resources.devices[0].access: device access cannot be empty"),
    ("linux.resources.devices.0.access", "rx", 'linux.resources.devices[0].access: "rx" is no access'),
    ("linux.resources.devices.0.type", "d", 'linux.resources.devices[0].type: invalid cgroup device type "d"'),
    ("linux.resources.devices.0.allow", None, "linux.resources.devices[0].allow: is missing"),
    ("linux.resources.memory.limit", 1 << 63, "linux.resources.memory.limit: 9223372036854775808 is out of range"),
    ("linux.resources.memory.limit", 1e9, "linux.resources.memory.limit: must be a whole number, not 1000000000.0"),
    ("linux.resources.cpu.cpus", "all", "linux.resources.cpu.cpus: "),
    ("linux.resources.cpu.shares", -1, "linux.resources.cpu.shares: -1 is out of range"),
    ("linux.resources.blockIO.weight", 1 << 16, "linux.resources.blockIO.weight: 65536 is out of range"),
    ("linux.resources.unified", {"../memory.high": "1"}, 'linux.resources.unified["../memory.high"]: must be a file name (no slashes)'),
    ("linux.resources.unified", {"": "1"}, 'linux.resources.unified[""]: the specified key has not the form CONTROLLER.VALUE'),
    ("linux.resources.unified", {"memory.high": 1}, 'linux.resources.unified["memory.high"]: must be a string, not a number'),
    ("linux.seccomp.defaultAction", "ALLOW", 'linux.seccomp.defaultAction: invalid seccomp action "ALLOW"'),
    ("linux.seccomp.defaultAction", "drop", "linux.seccomp.defaultAction: is missing"),
    ("linux.seccomp.architectures", ["SCMP_ARCH_PDP11"], "linux.seccomp.architectures[0]: invalid seccomp architecture"),
    ("linux.seccomp.flags", ["X"], 'linux.seccomp.flags[0]: seccomp flag "X" is not known'),
    ("linux.seccomp.syscalls.0.names", "read", "linux.seccomp.syscalls[0].names: must be a list of strings"),
    ("linux.seccomp.syscalls.2.args.0.index", 6, "linux.seccomp.syscalls[2].args[0].index: 6 is out of range"),
    ("linux.seccomp.syscalls.2.args.0.op", "==", "linux.seccomp.syscalls[2].args[0].op: invalid seccomp operator"),
    ("linux.intelRdt", {"closID": "x"}, "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled"),
    ("linux.personality", {"domain": "BSD"}, 'linux.personality.domain: invalid personality domain "BSD"'),
    ("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "linux.personality.flags: "),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0"),
    ("linux.memoryPolicy", {"mode": "MPOL_X"}, "linux.memoryPolicy.mode: invalid memory policy mode"),
    ("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes"),
    ("linux.netDevices", {"eth/0": {}}, 'linux.netDevices["eth/0"]: invalid network device name'),
    ("linux.netDevices", {"eth0": {"name": "a" * 16}}, "linux.netDevices.eth0.name: invalid network device name"),
    ("linux.netDevices", {"a": {"name": "x"}, "b": {"name": "x"}}, 'linux.netDevices.a.name: "x" is given twice'),
    ("mounts.0.destination", "", "mounts[0].destination: must not be empty"),
    ("mounts.0.type", "drop", "mounts[0].type: is missing"),
    ("mounts.2.source", "drop", "mounts[2].source: is missing"),
    ("mounts.0.options", "ro", "mounts[0].options: must be a list of strings, not a string"),
    ("mounts.1.destination", "/proc", 'mounts[1].destination: "/proc" cannot be mounted because it is not of type proc'),
    ("mounts.2.destination", "//proc/.", 'mounts[2].destination: "/proc" cannot be mounted because it is not of type proc'),
    ("mounts.1.destination", "proc/self/attr", 'mounts[1].destination: "/proc/self/attr" cannot be mounted because it is inside'),
    ("mounts.2.destination", "/x/../proc/sys/", 'mounts[2].destination: "/proc/sys" cannot be mounted because it is inside'),
    ("mounts.0.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "mounts[0].uidMappings: id-mapped mounts are only"),
    ("mounts.2.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "mounts[2].uidMappings: id-mapped mounts must have both"),
    ("mounts", [{"destination": "/x", "type": "tmpfs"}] * (MOST_MOUNTS + 1), f"mounts: {MOST_MOUNTS + 1} mounts"),
    ("hooks.prestart.0.path", "bin/true", 'hooks.prestart[0].path: "bin/true" is not an absolute path'),
    ("hooks.prestart.0.timeout", 0, "hooks.prestart[0].timeout: 0 is out of range"),
    ("hooks.poststop", {"path": "/bin/true"}, "hooks.poststop: must be a list, not an object"),
    ("annotations", {"": "x"}, 'annotations[""]: must not be empty'),
    ("annotations", {"a": 1}, "annotations.a: must be a string, not a number"),
    ("annotations", {"a\0": "1"}, 'annotations["a\\x00"]: contains a null byte'),
    ("linux", [], "linux: must be an object, not a list"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_what_is_wrong_is_named(path: str, value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(changed(path, value))
    assert caught.value.message.startswith(message)
    assert "\n" not in str(caught.value).replace(f"\n{caught.value.hint}", "")


@pytest.mark.parametrize("value", [None, 1, 1.5, "x", True, [], [[]], {}])
def test_a_config_that_is_no_config(value: object) -> None:
    with pytest.raises(UsageError):
        check(value)


def test_fields_that_nobody_knows_are_ignored() -> None:
    spec = docker()
    for at in (spec, spec["process"], spec["linux"], spec["mounts"][0], spec["linux"]["resources"]["memory"]):
        at["x-unknown"] = {"\0": [None, {"deep": 1e308}]}
    check(spec)


def test_mounts_on_proc_that_are_right() -> None:
    """The host's own proc for a container in the host's pid namespace, and the files that lxcfs shows."""
    for mount in (
        {"destination": "/proc", "source": "/proc", "options": ["rbind"]},
        {"destination": "/proc/meminfo", "type": "bind", "source": "/var/lib/lxcfs/proc/meminfo"},
        {"destination": "/processes", "type": "tmpfs"},
    ):
        check(changed("mounts.0", mount))


def test_null_is_as_good_as_absent() -> None:
    """Go leaves such a field alone; here it is taken out, so that nobody meets a None."""
    for field in ("process.capabilities", "process.rlimits", "linux.resources", "linux.seccomp", "mounts", "hooks", "annotations", "process.user",
                  "linux.sysctl", "process.env", "linux.maskedPaths"):  # fmt: skip
        spec = changed(field, None)
        check(spec)
        assert ":null" not in fastjson.dumps(spec)


SYSCTLS = [
    # (name, namespaces, whether it is the container's own)
    ("kernel.msgmax", "ipc", True),
    ("kernel/msgmax", "ipc", True),
    ("kernel.msgmax", "", False),
    ("kernel/msgmax", "uts", False),
    ("fs.mqueue.msg_max", "ipc", True),
    ("net.ipv4.ip_forward", "network", True),
    ("net.ipv4.conf.eth0/100.rp_filter", "network", True),
    ("net/ipv4/conf/eth0.100/rp_filter", "network", True),
    ("net.ipv4.ip_forward", "ipc", False),
    ("kernel.domainname", "uts", True),
    ("kernel.hostname", "uts", False),
    ("kernel.hostname", "", False),
    ("user.max_user_namespaces", "network", False),
    ("kernel.core_pattern", "ipc uts network", False),
    ("kernel/core_pattern", "ipc uts network", False),
    ("vm.overcommit_memory", "ipc network", False),
    ("net/../kernel/core_pattern", "network", False),
    ("net/ipv4/../../kernel/core_pattern", "network", False),
    ("net.ipv4/../../kernel.core_pattern", "network", False),
    ("net.../kernel.core_pattern", "network", False),
    ("net.", "network", False),
    ("net//x", "network", False),
    ("net/./x", "network", False),
    ("kernel.shm*", "ipc", False),
    ("fs.mqueue./../../kernel/core_pattern", "ipc", False),
    ("net.ipv4.ip_forward\n", "network", False),
    ("", "network", False),
    ("/", "network", False),
]


@pytest.mark.parametrize(("name", "namespaces", "own"), SYSCTLS)
def test_sysctls_are_the_containers_own(name: str, namespaces: str, own: bool) -> None:
    spec = docker()
    del spec["hostname"]
    spec["linux"].update(sysctl={name: "1"}, namespaces=[{"type": t} for t in ("mount", *namespaces.split())])
    if own:
        check(spec)
        assert not {"", ".", ".."} & set(parts(name))
    else:
        with pytest.raises(UsageError, match=r"^linux\.sysctl"):
            check(spec)


def test_a_network_namespace_by_path_that_is_the_hosts_gives_no_sysctls() -> None:
    spec = changed("linux.namespaces.1.path", "/proc/self/ns/net")
    with pytest.raises(UsageError, match="not allowed in host network namespace"):
        check(spec)


def test_processes_and_resources_by_themselves() -> None:
    check_process(docker()["process"])
    check_resources(docker()["linux"]["resources"])
    with pytest.raises(UsageError, match=r"^user\.uid: 4294967295 is out of range"):
        check_process({"args": ["x"], "cwd": "/", "user": {"uid": (1 << 32) - 1}})
    with pytest.raises(UsageError, match=r"^cwd: Cwd must be an absolute path"):
        check_process({"args": ["x"], "cwd": "proc/self/fd/7"})
    with pytest.raises(UsageError, match=r"^pids\.limit: must be a whole number"):
        check_resources({"pids": {"limit": "10"}})


def test_a_domain_name_is_said_once() -> None:
    """As field and as sysctl it may be the same, but no other."""
    spec = docker()
    spec.update(domainname="one")
    spec["linux"].update(sysctl={"kernel.domainname": "one"})
    check(spec)
    spec["linux"].update(sysctl={"kernel.domainname": "two"})
    with pytest.raises(UsageError, match=r"^linux\.sysctl.*conflicts"):
        check(spec)
