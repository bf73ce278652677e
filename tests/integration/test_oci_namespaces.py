"""OCI's linux.namespaces for real: each kind new, joined by path and left out; clocks; network devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.errors import MinicontainerError
from minicontainer.runtime import lifecycle, rootfs
from tests.integration.engine import until
from tests.integration.oci import Oci

# Name in config.json, file in /proc/PID/ns, option of unshare(1).
KINDS = [
    ("network", "net", "--net"), ("ipc", "ipc", "--ipc"), ("uts", "uts", "--uts"), ("cgroup", "cgroup", "--cgroup"),
    ("time", "time", "--time"), ("pid", "pid", "--pid"), ("mount", "mnt", "--mount"),
]  # fmt: skip
NAMES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def kernel(major: int, minor: int) -> bool:
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (major, minor)


def has(kind: str) -> None:
    if not os.path.exists(f"/proc/self/ns/{kind}"):
        pytest.skip(f"this kernel has no {kind} namespaces")


def entry(oci: Oci, kind: str, path: str | None = "") -> None:
    """One entry of linux.namespaces: new, by path, or (None) none at all."""
    entries = [n for n in oci.config["linux"]["namespaces"] if n["type"] != kind]
    if path is not None:
        entries.append({"type": kind, **({"path": path} if path else {})})
    oci.config["linux"]["namespaces"] = entries
    if kind == "uts" and path is None:
        del oci.config["hostname"]


@pytest.fixture
def holder(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with a namespace of its own; request.param: options of unshare(1)."""
    process = subprocess.Popen(["unshare", *request.param, "--fork", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"up\n"
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    yield child
    os.kill(child, 9)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("kind", "name", "holder"), [(k, n, [o]) for k, n, o in KINDS], indirect=["holder"], ids=[k for k, _, _ in KINDS]
)
def test_joined_by_path(oci: Oci, kind: str, name: str, holder: int) -> None:
    """The container is in the namespace that the path names, and so is who is executed in it."""
    has(name)
    if kind == "mount" and not kernel(6, 15):
        pytest.skip("mounts within a tree that is mounted nowhere came with Linux 6.15")
    expected = os.readlink(f"/proc/{holder}/ns/{name}")
    if kind == "mount":
        # It has its own copies of all mounts, those of the test's folder too.
        oci.config["linux"].update(maskedPaths=["/proc/kcore", "/sys/firmware"])
    entry(oci, kind, f"/proc/{holder}/ns/{name}")
    pid = oci.running("sleep", "600")
    assert os.readlink(f"/proc/{pid}/ns/{name}") == expected
    assert oci.ok("exec", "one", "readlink", f"/proc/self/ns/{name}").strip() == expected
    assert oci.ok("exec", "one", "ls", "/").split() == sorted(os.listdir(oci.rootfs))
    oci.clear()
    assert not oci.left()


@pytest.mark.parametrize(("kind", "wrong"), [("cgroup", "ipc"), ("ipc", "mnt"), ("mount", "net"), ("network", "pid"), ("pid", "user"), ("user", "uts"), ("uts", "cgroup")])  # fmt: skip
def test_a_path_of_another_kind_is_refused(oci: Oci, kind: str, wrong: str) -> None:
    """By name, and before anything is made (config-linux.md: the runtime MUST generate an error)."""
    entry(oci, kind, f"/proc/self/ns/{wrong}")
    done = oci.run("true")
    assert done.code == 1 and f"cannot join the {kind} namespace /proc/self/ns/{wrong}: it is a" in done.err
    assert not oci.left()


def test_new_ones_are_new(oci: Oci) -> None:
    """Every kind that is asked for without a path is nobody else's."""
    for name in ("user", "time"):
        has(name)
    oci.config["linux"].update(
        uidMappings=[{"containerID": 0, "hostID": 300000, "size": 1000}],
        gidMappings=[{"containerID": 0, "hostID": 300000, "size": 1000}],
    )
    for kind in ("user", "time"):
        entry(oci, kind)
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in (*NAMES, "time"))
    seen = oci.sh(script).split()
    assert len(seen) == 8 and not {os.readlink(f"/proc/self/ns/{name}") for name in (*NAMES, "time")} & set(seen)


def test_none_at_all(oci: Oci) -> None:
    """What is not asked for is inherited, the mount namespace too; its mounts are its own nevertheless, and the host sees none."""
    for key in ("maskedPaths", "readonlyPaths"):
        del oci.config["linux"][key]
    del oci.config["hostname"]
    oci.config["linux"]["namespaces"] = []
    names = " ".join(f"/proc/self/ns/{name}" for name in NAMES)
    oci.write("sh", "-c", f"for n in {names}; do readlink $n; done; ls /dev; echo x > /dev/null; echo /*")
    expected = [os.readlink(f"/proc/self/ns/{name}") for name in NAMES]
    done = oci.fenced("run", "one")
    seen = done.out.split()
    assert done.code == 0 and not done.err, done
    # fenced() gives it other mounts to inherit.
    assert [n for n in seen[: len(NAMES)] if n[:4] != "mnt:"] == [n for n in expected if n[:4] != "mnt:"]
    assert "urandom" in seen and f"/{min(os.listdir(oci.rootfs))}" in seen
    assert not oci.left()


def test_read_only_file_systems_without_a_mount_namespace(oci: Oci) -> None:
    """The cgroups, /dev and a tmpfs are filled first and read only then, though a mount in a loose tree takes no attributes."""
    for key in ("maskedPaths", "readonlyPaths"):
        del oci.config["linux"][key]
    entry(oci, "mount", None)
    for mount in oci.config["mounts"]:
        mount["options"] = [*mount.get("options", ()), *(["ro"] if mount["destination"] == "/dev" else [])]
    oci.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    oci.mount("/tmp", "tmpfs", "ro")
    oci.write("sh", "-c", "ls /dev /sys/fs/cgroup; for d in /dev /sys/fs/cgroup /tmp; do touch $d/x 2>&1; done; echo x > /dev/null")
    done = oci.fenced("run", "one")
    assert done.code == 0 and not done.err, done
    assert done.out.count("Read-only file system") == 3 and "urandom" in done.out
    assert "cgroup.procs" in done.out or "memory" in done.out
    oci.mount("/tmp", "tmpfs", "remount", "rw")
    done = oci.run("true")
    if not kernel(6, 15):
        assert done.code == 0  # it is mounted on its own folder there
        return
    assert done.code == 1 and "a remount of one mount needs a mount namespace of the container's own" in done.err


def test_without_a_mount_namespace_before_linux_6_15(oci: Oci, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root is mounted over its own folder, where the host sees it, and goes with the container (runc leaves it behind)."""
    monkeypatch.setattr(rootfs, "loose_trees", lambda: False)
    for key in ("maskedPaths", "readonlyPaths"):
        del oci.config["linux"][key]
    entry(oci, "mount", None)
    oci.mount("/tmp", "tmpfs", "ro")
    script = "touch /tmp/x 2>/dev/null || readlink /proc/self/ns/mnt > /home/seen; ls /dev/null /proc/1/cmdline >> /home/seen"
    oci.write("sh", "-c", f"mkdir -p /home; ({script}); exec sleep 600")
    container = lifecycle.create(str(oci.root), "one", str(oci.bundle))
    lifecycle.start(container)
    seen = oci.rootfs / "home/seen"
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(oci.rootfs) in line]
    assert str(oci.rootfs) in mounted and f"{oci.rootfs}/proc" in mounted
    until(lambda: seen.exists() and len(seen.read_text().split()) == 3, "the script has run")
    assert seen.read_text().split() == [os.readlink("/proc/self/ns/mnt"), "/dev/null", "/proc/1/cmdline"]
    assert oci.ok("exec", "one", "ls", "/").split() == sorted(os.listdir(oci.rootfs))
    oci.clear()
    assert not oci.left()
    elsewhere = oci.folder / "elsewhere"
    os.rename(oci.rootfs, elsewhere)
    oci.rootfs.symlink_to("../elsewhere")
    for helped in (False, True):
        subprocess.run(["mount", "--bind", elsewhere, elsewhere], check=True)
        lifecycle.create(str(oci.root), "one", str(oci.bundle))
        if helped:  # somebody unmounts it, and what was there before
            subprocess.run(["umount", "--lazy", elsewhere], check=True)
            subprocess.run(["umount", "--lazy", elsewhere], check=True)
        oci.ok("delete", "--force", "one")
        if not helped:
            subprocess.run(["umount", elsewhere], check=True)
        assert not oci.left()
    oci.config["process"]["args"] = ["/nosuch"]
    oci.write()
    with pytest.raises(MinicontainerError, match="no such file"):
        lifecycle.create(str(oci.root), "one", str(oci.bundle))
    assert not oci.left()


@pytest.mark.parametrize("holder", [["--pid"]], indirect=True)
def test_a_joined_mount_namespace_before_linux_6_15(oci: Oci, holder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and what is missing is named."""
    monkeypatch.setattr(rootfs, "loose_trees", lambda: False)
    entry(oci, "mount", f"/proc/{holder}/ns/mnt")
    oci.write("true")
    with pytest.raises(MinicontainerError, match="came with Linux 6.15"):
        lifecycle.create(str(oci.root), "one", str(oci.bundle))
    assert not oci.left()


@pytest.mark.parametrize("holder", [["--pid"]], indirect=True)
def test_proc_of_a_joined_pid_namespace_in_a_new_user_namespace(oci: Oci, holder: int) -> None:
    """It shows who is in there, and nobody of the host (runc can't: EPERM; crun can)."""
    has("user")
    entry(oci, "pid", f"/proc/{holder}/ns/pid")
    entry(oci, "user")
    mapping = [{"containerID": 0, "hostID": 0, "size": 1000}]
    oci.config["linux"].update(uidMappings=mapping, gidMappings=mapping)
    shown = oci.sh("cat /proc/1/cmdline | tr '\\0' ' '; echo; cd /proc; echo [0-9]*").splitlines()
    assert shown[0] == "sleep 600 " and len(shown[1].split()) <= 3, shown


def test_exec_without_a_mount_namespace_stays_in_the_containers_root(oci: Oci) -> None:
    """The joined namespace's root is the host's: the new process gets the root of the container's first one."""
    for key in ("maskedPaths", "readonlyPaths"):
        del oci.config["linux"][key]
    entry(oci, "mount", None)
    oci.running("sleep", "600")
    assert oci.ok("exec", "one", "ls", "/").split() == sorted(os.listdir(oci.rootfs))
    oci.clear()
    assert not oci.left()


def test_clocks(oci: Oci) -> None:
    """linux.timeOffsets: the container's clocks run ahead of the host's, and the host's do not."""
    has("time")
    entry(oci, "time")
    oci.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 86400, "nanosecs": 5}}
    up, *offsets = oci.sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets").split()
    assert offsets == ["monotonic", "86400", "5", "boottime", "1000000", "0"]
    here = float(Path("/proc/uptime").read_text().split()[0])
    assert 1_000_000 <= int(up) - here + 5 <= 1_000_010
    oci.running("sleep", "600")
    assert oci.ok("exec", "one", "cat", "/proc/self/timens_offsets").split() == offsets


def test_offsets_that_are_none(oci: Oci) -> None:
    """A clock before the boot is refused in one line, and nothing is left."""
    has("time")
    entry(oci, "time")
    oci.config["linux"]["timeOffsets"] = {"boottime": {"secs": -(1 << 40)}}
    done = oci.run("true")
    assert done.code == 1 and "timens_offsets" in done.err and done.err.count("\n") == 1
    assert not oci.left()


# -- linux.netDevices --------------------------------------------------------------------------------------------------------


@pytest.fixture
def device() -> Iterator[str]:
    """A device of the host with an address of each family: an end of a veth pair."""
    name = f"mcnd{os.getpid() % 10000}"
    if shutil.which("ip") is None:
        pytest.skip("ip(8) is not installed: apt-get install iproute2")
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    for address in ("192.0.2.1/24", "2001:db8::1/64"):
        subprocess.run(["ip", "addr", "add", address, "dev", name], check=True)
    yield name
    subprocess.run(["ip", "link", "del", f"{name}p"], check=False)
    until(lambda: not any(os.path.exists(f"/sys/class/net/{end}") for end in (name, f"{name}p")), "the devices are gone")


@pytest.mark.parametrize("new", ["", "eth7", "net%d"])
def test_a_network_device_moves_in(oci: Oci, device: str, new: str) -> None:
    """With its addresses, up, by the name that is asked for."""
    oci.config["linux"]["netDevices"] = {device: {"name": new} if new else {}}
    shown = oci.sh("ip addr")
    assert f" {new.replace('%d', '0') or device}@" in shown and "inet 192.0.2.1/24" in shown and "inet6 2001:db8::1/64" in shown
    assert "UP" in shown.partition("@")[2]


@pytest.fixture
def crowded(oci: Oci, device: str, holder: int) -> Oci:
    """A container in a joined network namespace that has an eth0 already, and the number of the device."""
    index = Path(f"/sys/class/net/{device}/ifindex").read_text().strip()
    link = ["ip", "link", "add", "eth0", "index", index, "type", "veth", "peer", "name", "eth1"]
    subprocess.run(["nsenter", "--net", "-t", str(holder), *link], check=True)
    entry(oci, "network", f"/proc/{holder}/ns/net")
    return oci


@pytest.mark.parametrize("holder", [["--net"]], indirect=True)
def test_a_network_device_moves_into_a_joined_namespace(crowded: Oci, device: str) -> None:
    """Also if the number that the device has is taken there."""
    crowded.config["linux"]["netDevices"] = {device: {"name": "eth7"}}
    assert "inet 192.0.2.1/24" in crowded.sh("ip addr show eth7")


@pytest.mark.parametrize("holder", [["--net"]], indirect=True)
def test_a_network_device_with_a_name_that_is_taken(crowded: Oci, device: str) -> None:
    """Is an error, unless the kernel may choose the number."""
    crowded.config["linux"]["netDevices"] = {device: {"name": "eth0"}}
    done = crowded.run("true")
    assert done.code == 1 and "has one of that name already" in done.err
    assert not crowded.left()


def test_a_network_device_that_is_not_there(oci: Oci) -> None:
    """It is named, and nothing is left."""
    oci.config["linux"]["netDevices"] = {"nosuch0": {}}
    done = oci.run("true")
    assert done.code == 1 and "the host has no network device nosuch0" in done.err
    assert not oci.left()


def test_state_knows_the_right_process(oci: Oci) -> None:
    """With two births the pid is that of the second one."""
    has("time")
    entry(oci, "time")
    pid = oci.running("sleep", "600")
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert json.loads(oci.ok("state", "one"))["status"] == "running"
