"""The OCI spec of a container, on a host made of a few files. tests/clients compares it with docker's own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from minicontainer.engine import spec_mounts, spec_security
from minicontainer.engine.host import Host
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import command, default_hostname, environment, make_spec
from minicontainer.errors import Unsupported, UsageError
from tests.unit.engine.specs import ID, container, mounts_of, spec_of


def test_default_process(host: Host) -> None:
    """Without flags: root, five capability sets of which two are empty, no terminal, HOME, oom_score_adj said."""
    process = spec_of(host, uid=0, home="/root")["process"]
    assert process["args"] == ["true"] and process["cwd"] == "/" and not process["terminal"]
    assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": [0]}
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0123456789ab", "HOME=/root",
    ]  # fmt: skip
    assert process["noNewPrivileges"] is False and process["oomScoreAdj"] == 0 and "rlimits" not in process
    sets = process["capabilities"]
    assert sets["bounding"] == sets["effective"] == sets["permitted"] == list(spec_security.DEFAULT_CAPABILITIES)
    assert sets["inheritable"] == sets["ambient"] == [] and len(sets["bounding"]) == 14


def test_default_linux(host: Host) -> None:
    """Without flags: docker's namespaces, sysctls, masked paths and device rules, and no limit at all."""
    linux = spec_of(host)["linux"]
    assert [namespace["type"] for namespace in linux["namespaces"]] == ["mount", "network", "uts", "pid", "ipc"]
    assert linux["sysctl"] == {
        "net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0",
    }  # fmt: skip
    assert set(linux["resources"]) == {"devices"} and linux["devices"] == []
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert {"/proc/kcore", "/proc/interrupts", "/sys/firmware"} < set(linux["maskedPaths"])
    assert "/sys/devices/system/cpu/cpu1/thermal_throttle" in linux["maskedPaths"]
    assert "/sys/devices/system/cpu/cpu0/thermal_throttle" not in linux["maskedPaths"]
    assert linux["readonlyPaths"] == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    assert linux["cgroupsPath"] == f"/minicontainer/{ID}"
    assert linux["seccomp"] == {"kind": "default", "of": list(spec_security.DEFAULT_CAPABILITIES)}


def test_cgroup_namespace_follows_the_hierarchy(host: Host) -> None:
    """Private on v2, the host's on v1, unless asked otherwise."""

    def kinds(*argv: str) -> list[str]:
        return [namespace["type"] for namespace in spec_of(host, *argv)["linux"]["namespaces"]]

    assert "cgroup" not in kinds() and "cgroup" in kinds("--cgroupns", "private")
    host.cgroup_v2 = True
    assert "cgroup" in kinds() and "cgroup" not in kinds("--cgroupns", "host")


def test_shared_namespaces(host: Host) -> None:
    """host leaves a namespace out, container:NAME joins by path; the network's sysctls are for one's own alone."""
    joined = {"network": "/proc/7/ns/net", "pid": "/proc/7/ns/pid", "ipc": "/proc/7/ns/ipc"}
    argv = ["--network", "container:a", "--pid", "container:a", "--ipc", "container:a", "--uts", "host"]
    spec = spec_of(host, *argv, joined=joined, shm_path="/proc/7/root/dev/shm")
    assert spec["linux"]["namespaces"] == [
        {"type": "mount"}, {"type": "network", "path": "/proc/7/ns/net"}, {"type": "pid", "path": "/proc/7/ns/pid"},
        {"type": "ipc", "path": "/proc/7/ns/ipc"},
    ]  # fmt: skip
    assert spec["linux"]["sysctl"] == {} and "hostname" not in spec
    assert mounts_of(spec)["/dev/shm"]["source"] == "/proc/7/root/dev/shm"
    assert mounts_of(spec_of(host, "--ipc", "host"))["/dev/shm"]["options"] == ["rbind", "rprivate"]
    assert "/dev/shm" not in mounts_of(spec_of(host, "--ipc", "none"))


def test_missing_sysctls_are_left_out(host: Host) -> None:
    """A kernel without one of docker's sysctls starts containers all the same; a user's is always asked for."""
    os.unlink(f"{host.proc}/sys/net/ipv4/ping_group_range")
    sysctl = spec_of(host, "--sysctl", "net.ipv4.ip_forward=1")["linux"]["sysctl"]
    assert sysctl == {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ip_forward": "1"}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--cap-drop", "ALL"], set()),
        (["--cap-drop", "all", "--cap-add", "kill"], {"CAP_KILL"}),
        (["--cap-drop", "CAP_KILL"], set(spec_security.DEFAULT_CAPABILITIES) - {"CAP_KILL"}),
        (["--cap-add", "net_admin"], {*spec_security.DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        (["--cap-add", "KILL"], set(spec_security.DEFAULT_CAPABILITIES)),
    ],
)
def test_capabilities(host: Host, argv: list[str], expected: set[str]) -> None:
    """Names in any case, with CAP_ or without; ALL on either side; none twice."""
    bounding = spec_of(host, *argv)["process"]["capabilities"]["bounding"]
    assert set(bounding) == expected and len(bounding) == len(expected)


def test_all_capabilities_are_those_of_this_host(host: Host) -> None:
    """--cap-add ALL and --privileged give what this process has, less what is dropped."""
    everything = spec_of(host, "--cap-add", "ALL")["process"]["capabilities"]["bounding"]
    assert len(everything) == 40 and "CAP_SYS_RESOURCE" not in everything
    assert spec_of(host, "--privileged")["process"]["capabilities"]["bounding"] == everything
    less = spec_of(host, "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN")["process"]["capabilities"]["bounding"]
    assert set(everything) - set(less) == {"CAP_SYS_ADMIN"}


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--cap-add", "NET_ADMN"], 'invalid CapAdd: unknown capability: "CAP_NET_ADMN"', "did you mean CAP_NET_ADMIN?"),
        (["--cap-drop", "ZZZ"], 'invalid CapDrop: unknown capability: "CAP_ZZZ"', "see capabilities(7)"),
        (["--cap-add", "SYS_RESOURCE"], 'not available in the current environment: "CAP_SYS_RESOURCE"', ""),
    ],
)
def test_capability_errors(host: Host, argv: list[str], message: str, hint: str) -> None:
    """A capability that is none, or that this host can't give, is an error with the flag's name."""
    with pytest.raises(UsageError) as caught:
        spec_of(host, *argv)
    assert message in caught.value.message and caught.value.hint == hint


def test_privileged(host: Host) -> None:
    """Nothing masked or read-only, every device, no seccomp, writable sysfs and cgroups."""
    spec = spec_of(host, "--privileged")
    linux = spec["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == [] and "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    paths = [device["path"] for device in linux["devices"]]
    assert "/dev/null" in paths and not [p for p in paths if p.startswith(("/dev/pts/", "/dev/shm", "/dev/console"))]
    assert "ro" not in mounts_of(spec)["/sys"]["options"] + mounts_of(spec)["/sys/fs/cgroup"]["options"]
    asked = spec_of(host, "--privileged", "--security-opt", "seccomp=/profile")["linux"]["seccomp"]
    assert asked["kind"] == "/profile"


def test_security_options(host: Host) -> None:
    """no-new-privileges, seccomp, writable cgroups, masks of one's own."""
    spec = spec_of(
        host,
        *("--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"),
        *("--security-opt", "writable-cgroups=true", "--security-opt", "mask=/proc/meminfo"),
        *("--security-opt", "unmask=/proc/kcore:/proc/bus"),
    )
    linux = spec["linux"]
    assert spec["process"]["noNewPrivileges"] is True and "seccomp" not in linux
    assert "ro" not in mounts_of(spec)["/sys/fs/cgroup"]["options"] and "ro" in mounts_of(spec)["/sys"]["options"]
    assert "/proc/meminfo" in linux["maskedPaths"] and "/proc/kcore" not in linux["maskedPaths"]
    assert "/proc/bus" not in linux["readonlyPaths"] and "/proc/sys" in linux["readonlyPaths"]


def test_resources(host: Host) -> None:
    """Only what was asked for is in the spec; swap is twice the memory; --cpus is a quota of 100 ms."""

    def resources(*argv: str) -> dict[str, Any]:
        found = spec_of(host, *argv)["linux"]["resources"]
        del found["devices"]
        return found

    assert resources("-m", "64m") == {"memory": {"limit": 64 << 20, "swap": 128 << 20}}
    assert resources("-m", "64m", "--memory-swap", "64m") == {"memory": {"limit": 64 << 20, "swap": 64 << 20}}
    assert resources("-m", "64m", "--memory-swap", "-1") == {"memory": {"limit": 64 << 20}}
    assert resources("--memory-swappiness", "0", "--oom-kill-disable") == {"memory": {"swappiness": 0, "disableOOMKiller": True}}
    assert resources("--cpus", "0.5", "-c", "10") == {"cpu": {"shares": 10, "quota": 50_000, "period": 100_000}}
    assert resources("--cpu-quota", "-1") == {"cpu": {"quota": -1}}
    assert resources("--pids-limit", "-1") == {"pids": {"limit": -1}}
    assert resources("--blkio-weight", "20") == {"blockIO": {"weight": 20}}


def test_block_devices_must_be_ones(host: Host) -> None:
    """A throttle on what is no block device names the flag."""
    with pytest.raises(UsageError, match='"/dev/null" for "--device-read-bps" flag: not a block device'):
        spec_of(host, "--device-read-bps", "/dev/null:1m")
    with pytest.raises(UsageError, match='"/dev/none" for "--device-write-iops" flag: No such file'):
        spec_of(host, "--device-write-iops", "/dev/none:1")


def test_devices(host: Host) -> None:
    """--device makes a node with the host's numbers and allows it in the cgroup, no more than asked."""
    linux = spec_of(host, "--device", "/dev/null:/dev/void:r", "--device-cgroup-rule", "b 7:* m")["linux"]
    (node,) = linux["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/void", "c", 1, 3)
    assert linux["resources"]["devices"][-2:] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"},
        {"allow": True, "type": "b", "major": 7, "minor": -1, "access": "m"},
    ]


@pytest.mark.parametrize(
    ("path", "reason"), [("/dev/none", "No such file"), ("/etc/passwd", "not a device node"), ("/etc", "no device node")]
)
def test_device_errors(host: Host, path: str, reason: str) -> None:
    """What is no device is named."""
    with pytest.raises(UsageError, match=f'custom device "{path}": {reason}'):
        spec_of(host, "--device", path)


def test_init(host: Host) -> None:
    """--init is the first program, on /dev and not in the image, and only in a pid namespace of its own."""
    spec = spec_of(host, "--init", config={"Entrypoint": ["/e"], "Cmd": ["c"]})
    assert spec["process"]["args"] == ["/dev/init", "--", "/e", "c"]
    assert mounts_of(spec)["/dev/init"]["source"] == sys.executable
    assert mounts_of(spec)["/dev/init"]["options"] == ["bind", "ro"]
    assert spec_of(host, "--init", "--pid", "host")["process"]["args"] == ["true"]
    spec = spec_of(host, "--init", "-v", "/dev:/dev")
    assert spec["process"]["args"][0] == "/sbin/minicontainer-init" and "/dev/init" not in mounts_of(spec)
    host.inits = ("/no/tini",)
    with pytest.raises(Unsupported) as caught:
        spec_of(host, "--init")
    assert "/no/tini" in caught.value.message and "apt-get install tini" in caught.value.hint


@pytest.mark.parametrize(
    ("entrypoint", "args", "config", "expected"),
    [
        (None, [], {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/e", "c"]),
        (None, ["x"], {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/e", "x"]),
        (None, [], {"Cmd": ["c"]}, ["c"]),
        (["/o"], [], {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/o"]),
        (["/o"], ["x"], {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["/o", "x"]),
        ([], ["x"], {"Entrypoint": ["/e"], "Cmd": ["c"]}, ["x"]),
        ([], [], {"Entrypoint": ["/e"], "Cmd": ["c"]}, None),
        (None, [], {"Entrypoint": None, "Cmd": None}, None),
    ],
)
def test_command(entrypoint: list[str] | None, args: list[str], config: dict, expected: list[str] | None) -> None:
    """Entrypoint and command by docker's rules."""
    options = RunOptions(image="i", entrypoint=entrypoint, args=args)
    if expected is None:
        with pytest.raises(UsageError, match="no command specified"):
            command(options, config)
    else:
        assert command(options, config) == expected


def test_environment() -> None:
    """The user's come before the image's, a bare name removes, PATH and HOME can be anyone's."""
    config = {"Env": ["PATH=/image", "A=image", "B=image", "C=image"]}
    options = RunOptions(image="i", env=["A=user", "B", "HOSTNAME=mine"], tty=True)
    assert environment(options, config, container(home="/h")) == [
        "PATH=/image", "HOSTNAME=mine", "TERM=xterm", "A=user", "C=image", "HOME=/h",
    ]  # fmt: skip
    assert "HOME=" in environment(RunOptions(env=["HOME="]), {}, container(home="/h"))


def test_working_directory_and_user(host: Host) -> None:
    """The image's working directory unless asked; the group is among the supplementary groups (CVE-2022-36109)."""
    assert spec_of(host, config={"WorkingDir": "/w", "Cmd": ["c"]})["process"]["cwd"] == "/w"
    assert spec_of(host, "-w", "/x", config={"WorkingDir": "/w", "Cmd": ["c"]})["process"]["cwd"] == "/x"
    user = spec_of(host, uid=1000, gid=50, groups=[27, 50, 99])["process"]["user"]
    assert user == {"uid": 1000, "gid": 50, "additionalGids": [50, 27, 99]}


def test_terminal_and_limits(host: Host) -> None:
    """The size of the terminal and rlimits; -1 is RLIM_INFINITY."""
    process = spec_of(host, "-t", "--ulimit", "core=-1", "--ulimit", "nofile=1:2", console_size=(24, 80))["process"]
    assert process["terminal"] and process["consoleSize"] == {"height": 24, "width": 80}
    assert process["rlimits"] == [
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
        {"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1},
    ]


def test_names(host: Host) -> None:
    """Host name, domain name, annotations."""
    spec = spec_of(host, "-h", "box", "--domainname", "d.org", "--annotation", "a=b", hostname="box")
    assert (spec["hostname"], spec["domainname"], spec["annotations"]) == ("box", "d.org", {"a": "b"})
    assert default_hostname(RunOptions(), ID, "host") == "0123456789ab"
    assert default_hostname(RunOptions(network="host"), ID, "host") == "host"
    assert default_hostname(RunOptions(uts_mode="host"), ID, "host") == "host"
    assert default_hostname(RunOptions(hostname="box", network="host"), ID, "host") == "box"


def test_spec_shares_no_state(host: Host) -> None:
    """Two specs have no list in common: what is done to one is not done to the next."""
    first, second = spec_of(host), spec_of(host)
    first["mounts"][0]["options"].append("x")
    first["process"]["capabilities"]["bounding"].append("x")
    first["linux"]["resources"]["devices"][1]["access"] = ""
    assert second == spec_of(host)


def test_cost() -> None:
    """make_spec is on the way of every run: no more than ten sums of 10,000 numbers, half a millisecond here."""
    options = RunOptions(image="i", args=["true"], seccomp="unconfined", memory_bytes=64 << 20)

    def make() -> None:
        host = Host()
        make_spec(options, {}, container(), spec_mounts.resolve_mounts(options, {}, "/v", host), host)

    def best(work: Callable[[], object]) -> float:
        """Seconds of the quickest of many: what else the machine does only adds."""
        clock = time.perf_counter
        return min(-clock() + (work(), clock())[1] for _ in range(100))

    assert best(make) < 10 * best(lambda: sum(range(10_000)))
