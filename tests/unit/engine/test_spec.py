"""The OCI spec of a container, on a host made of a few files. tests/clients compares it with docker's own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minicontainer.cli.flags import parse
from minicontainer.cli.run_flags import RUN_FLAGS
from minicontainer.engine import options_check, spec_mounts, spec_security
from minicontainer.engine.host import Host
from minicontainer.engine.options import RunOptions, from_flags
from minicontainer.engine.spec import SpecContainer, command, default_hostname, environment, make_spec
from minicontainer.errors import ImageError, Unsupported, UsageError

ID = "0123456789abcdef" * 4
# Everything but CAP_SYS_RESOURCE (24), as on many a build machine.
CAP_EFF = (1 << 41) - 1 & ~(1 << 24)
MOUNTINFO = """\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 8:2 / /follows rw,relatime master:2 - ext4 /dev/sdb1 rw
22 20 8:3 / /alone rw,relatime - ext4 /dev/sdc1 rw
23 20 8:4 / /with\\040space rw,relatime shared:3 - ext4 /dev/sdd1 rw
"""


@pytest.fixture(autouse=True)
def _profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seccomp profile that tells what it was asked for."""
    fake = SimpleNamespace(profile_for=lambda kind, capabilities: {"kind": kind, "of": list(capabilities)})
    monkeypatch.setitem(sys.modules, "minicontainer.runtime.seccomp", fake)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    proc, system = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self/status").write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{CAP_EFF:016x}\n")
    (proc / "self/mountinfo").write_text(MOUNTINFO)
    (proc / "sys/net/ipv4").mkdir(parents=True)
    (proc / "sys/net/ipv4/ping_group_range").touch()
    (proc / "sys/net/ipv4/ip_unprivileged_port_start").touch()
    (system / "devices/system/cpu/cpu1/thermal_throttle").mkdir(parents=True)
    (system / "devices/system/cpu/possible").write_text("0-1\n")
    return Host(proc=str(proc), sys=str(system), dev="/dev", kernel=(6, 1), inits=("/no/tini", sys.executable))


def container(**more: Any) -> SpecContainer:
    return SpecContainer(ID, rootfs="/root", network_files="/files", cgroups_path=f"/minicontainer/{ID}", **more)


def spec_of(host: Host, *argv: str, config: dict | None = None, **more: Any) -> dict[str, Any]:
    options = from_flags(*parse(RUN_FLAGS, [*argv, "image", *([] if config else ["true"])], False))
    options_check.check(options)
    points = spec_mounts.resolve_mounts(options, config or {}, "/volumes", host, lambda: "made-up")
    return make_spec(options, config or {}, container(**more), points, host)


def mounts_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in spec["mounts"]}


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


def test_mounts_come_parents_first(host: Host) -> None:
    """docker's own first, then the others by depth, so that no mount hides one inside it."""
    argv = ["-v", "/c:/x/y/z", "--tmpfs", "/x", "-v", "/b:/x/y", "-v", "named:/etc/deep/er"]
    order = [mount["destination"] for mount in spec_of(host, *argv)["mounts"]]
    assert order[:2] == ["/proc", "/dev"]
    assert order[-7:] == ["/x", "/x/y", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/x/y/z", "/etc/deep/er"]


def test_users_mounts_replace_dockers(host: Host) -> None:
    """A mount at the place of a default one is the only one there; one at /dev takes all of /dev."""
    found = mounts_of(spec_of(host, "-v", "/a:/dev/shm", "-v", "/b:/etc/hosts", "--tmpfs", "/proc"))
    assert (found["/dev/shm"]["source"], found["/etc/hosts"]["source"], found["/proc"]["type"]) == ("/a", "/b", "tmpfs")
    spec = spec_of(host, "-v", "/dev:/dev")
    assert [d for d in mounts_of(spec) if d.startswith("/dev")] == ["/dev"]
    assert len(spec["mounts"]) == len(mounts_of(spec))


def test_read_only_root(host: Host) -> None:
    """The root and what the engine mounts become read-only; /dev, /proc and the user's mounts stay as they are."""
    spec = spec_of(host, "--read-only", "-v", "/a:/b", "--tmpfs", "/tmp")
    found = mounts_of(spec)
    assert spec["root"] == {"path": "/root", "readonly": True}
    assert "ro" in found["/etc/hosts"]["options"] and "ro" in found["/sys/fs/cgroup"]["options"]
    for destination in ("/b", "/tmp", "/dev", "/dev/shm", "/proc"):
        assert "ro" not in found[destination]["options"]


def test_bind_options(host: Host) -> None:
    """ro goes all the way down where the kernel can do that, and bind-recursive steers it."""

    def options(*argv: str) -> list[str]:
        return mounts_of(spec_of(host, *argv))["/b"]["options"]

    bind = "type=bind,src=/alone,dst=/b,ro"
    assert options("-v", "/alone:/b:ro") == ["rbind", "rro", "rprivate"]
    assert options("--mount", f"{bind},bind-recursive=writable") == ["rbind", "ro", "rprivate"]
    assert options("--mount", f"{bind},bind-recursive=disabled") == ["bind", "ro", "rprivate"]
    host.kernel = (5, 10)
    assert options("-v", "/alone:/b:ro") == ["rbind", "ro", "rprivate"]
    with pytest.raises(Unsupported, match=r"mount_setattr\(2\)"):
        options("--mount", f"{bind},bind-recursive=readonly,bind-propagation=rprivate")


@pytest.mark.parametrize(
    ("source", "word", "rootfs", "error"),
    [
        ("/etc", "rslave", "rslave", ""),
        ("/etc", "rshared", "shared", ""),
        ("/with space/x", "shared", "shared", ""),
        ("/follows/x", "rslave", "rslave", ""),
        ("/follows/x", "rshared", "", "is mounted on /follows but it is not a shared mount"),
        ("/alone", "slave", "", "is mounted on /alone but it is not a shared or slave mount"),
        ("/alone", "private", None, ""),
    ],
)
def test_propagation(host: Host, source: str, word: str, rootfs: str | None, error: str) -> None:
    """Shared and slave binds need a host mount that takes part, and a root that lets them."""
    argv = ["-v", f"{source}:/b:{word}"]
    if error:
        with pytest.raises(UsageError, match=error):
            spec_of(host, *argv)
        return
    spec = spec_of(host, *argv)
    assert spec["linux"].get("rootfsPropagation") == rootfs
    assert word in mounts_of(spec)["/b"]["options"]


def test_volumes(host: Host) -> None:
    """Named, anonymous and the image's volumes: where they lie, and what the engine is to do with them."""
    options = RunOptions(
        image="i",
        mounts=[
            {"type": "volume", "source": "data", "target": "/data", "nocopy": True, "labels": {"a": "b"}},
            {"type": "volume", "source": "", "target": "/any"},
            {"type": "bind", "source": "/src", "target": "/deep/dst", "create_source": True},
        ],
    )
    config = {"Volumes": {"/data": {}, "/image/": {}}}
    points = spec_mounts.resolve_mounts(options, config, "/volumes", host, iter(["v1", "v2"]).__next__)
    facts = [(p.destination, p.source, p.volume, p.anonymous, p.copy_up, p.create) for p in points]
    assert facts == [
        ("/data", "/volumes/data/_data", "data", False, False, True),
        ("/any", "/volumes/v1/_data", "v1", True, True, True),
        ("/image", "/volumes/v2/_data", "v2", True, True, True),
        ("/deep/dst", "/src", "", False, False, True),
    ]
    assert points[0].labels == {"a": "b"} and points[0].options == ["rbind"]
    again = [spec_mounts.MountPoint(**point.to_dict()) for point in points]
    assert [point.to_dict() for point in again] == [point.to_dict() for point in points]


@pytest.mark.parametrize("path", ["/", "data", "/..", ""])
def test_image_volumes_are_not_trusted(host: Host, path: str) -> None:
    """An image's VOLUME that is no path in the container is an error of the image."""
    with pytest.raises(ImageError, match="the image has a VOLUME"):
        spec_mounts.resolve_mounts(RunOptions(image="i"), {"Volumes": {path: {}}}, "/volumes", host)


def test_make_sources(tmp_path: Path) -> None:
    """-v makes what is missing, --mount says that it is missing; what is there stays."""
    make = spec_mounts.MountPoint("bind", f"{tmp_path}/made/below", "/b", [], create=True)
    spec_mounts.make_sources([make, spec_mounts.MountPoint("tmpfs", "tmpfs", "/t", [])])
    assert (tmp_path / "made/below").is_dir() and not Path("tmpfs").exists()
    spec_mounts.make_sources([make])
    with pytest.raises(UsageError, match="bind source path does not exist: /no/such"):
        spec_mounts.make_sources([spec_mounts.MountPoint("bind", "/no/such", "/b", [])])


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
