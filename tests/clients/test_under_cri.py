"""Pods as the kubelet makes them: containerd's CRI with `minicontainer-oci` as a runtime handler, and with runc before it."""

from __future__ import annotations

import os
import re
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients import readme
from tests.clients.containerd import SUBNET
from tests.clients.peer_first import Both, cgroup_value, peer_first, until

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from tests.clients import cri  # noqa: E402  # it imports grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.conftest import Pods
    from tests.clients.cri import Cri

IDLE = "trap 'exit 9' TERM; while :; do sleep 0.1; done"
MIB = 1 << 20


@pytest.fixture(scope="module")
def both(pods: Pods) -> Iterator[Both]:
    """A kubelet with the handler runc, and one with the handler that the README's RuntimeClass names."""
    (handler,) = re.findall(r"^handler: (\S+)$", readme.block("yaml", "kind: RuntimeClass", ""), re.M)
    yield Both(cri.Cri(pods.daemon, "runc", pods.image), cri.Cri(pods.daemon, handler, pods.image), (grpc.RpcError,))


@peer_first
def test_life_of_a_pod(kubelet: Cri) -> None:
    """A pod gets its address and handler, its container starts, is stopped with its own exit code, and all goes away."""
    pod = kubelet.pod()
    status = kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status
    assert status.state == cri.READY and status.runtime_handler == kubelet.runtime
    assert status.network.ip.startswith(SUBNET.removesuffix("0/24"))
    container = kubelet.container(pod, IDLE, start=False)
    assert kubelet.status(container).state == cri.CREATED
    kubelet.call("StartContainer", container_id=container)
    assert kubelet.status(container).state == cri.RUNNING
    kubelet.call("StopContainer", container_id=container, timeout=10)
    stopped = kubelet.status(container)
    assert (stopped.state, stopped.exit_code, stopped.reason) == (cri.EXITED, 9, "Error")
    kubelet.call("RemoveContainer", container_id=container)
    kubelet.call("StopPodSandbox", pod_sandbox_id=pod)
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.state == cri.NOT_READY
    kubelet.remove_pod(pod)
    with pytest.raises(grpc.RpcError, match="(?s)not found|NOT_FOUND"):
        kubelet.call("PodSandboxStatus", pod_sandbox_id=pod)


@peer_first
def test_two_containers_in_a_pod(kubelet: Cri) -> None:
    """They share the network, IPC and the host name, and not their processes and files."""
    pod = kubelet.pod()
    kubelet.container(pod, "mkdir /www; echo page >/www/index.html; exec httpd -f -p 8080 -h /www")
    second = kubelet.container(pod, IDLE)
    page = "for i in $(seq 50); do wget -qO- http://127.0.0.1:8080/ && exit; sleep 0.1; done; exit 1"
    assert kubelet.execute(second, page)[:2] == (0, "page\n")
    assert kubelet.execute(second, "hostname")[1] == "pod-host\n"
    assert kubelet.execute(second, "ls /www")[0] == 1
    sandbox, process = kubelet.pid(pod), kubelet.pid(second)
    shared = {kind: _namespace(sandbox, kind) == _namespace(process, kind) for kind in ("net", "ipc", "uts", "pid", "mnt")}
    assert shared == {"net": True, "ipc": True, "uts": True, "pid": False, "mnt": False}
    assert kubelet.execute(second, "readlink /proc/1/exe")[1] == "/bin/busybox\n"


@peer_first
def test_shared_processes_and_the_nodes(kubelet: Cri) -> None:
    """shareProcessNamespace, and hostPID, hostNetwork and hostIPC."""
    together = {"pid": cri.POD}
    pod = kubelet.pod(namespace_options=together)
    inside = kubelet.container(pod, IDLE, security_context={"namespace_options": together})
    assert _namespace(kubelet.pid(pod), "pid") == _namespace(kubelet.pid(inside), "pid")
    assert "sleep infinity" in kubelet.execute(inside, "ps")[1]  # the pod's own process
    node = {"network": cri.NODE, "pid": cri.NODE, "ipc": cri.NODE}
    hosts = kubelet.container(kubelet.pod(namespace_options=node), IDLE, security_context={"namespace_options": node})
    assert kubelet.execute(hosts, f"test -d /proc/{os.getpid()}")[0] == 0
    assert _namespace(kubelet.pid(hosts), "ipc") == os.readlink("/proc/self/ns/ipc")
    assert kubelet.daemon.process is not None
    assert _namespace(kubelet.pid(hosts), "net") == _namespace(kubelet.daemon.process.pid, "net")


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@peer_first
def test_probes(kubelet: Cri) -> None:
    """ExecSync, the kubelet's exec probe: exit codes, both streams, much output, and what is not there."""
    container = kubelet.container(kubelet.pod(), IDLE, envs=[{"key": "A", "value": "b c"}], working_dir="/tmp")
    assert kubelet.execute(container, "echo $A; pwd; echo wrong >&2; exit 3") == (3, "b c\n/tmp\n", "wrong\n")
    assert kubelet.execute(container, "kill -KILL $$")[0] == 137
    assert len(kubelet.execute(container, "seq 100000")[1]) == 588895
    with pytest.raises(grpc.RpcError, match="executable file not found in \\$PATH"):
        kubelet.execute(container, "no-such-program", "argument")


@peer_first
def test_a_probe_that_takes_too_long(kubelet: Cri) -> None:
    """It ends at its timeout with an error, and so do its processes; the container lives on."""
    container = kubelet.container(kubelet.pod(), IDLE)
    with pytest.raises(grpc.RpcError, match="timeout"):
        kubelet.execute(container, "sleep", "1000", timeout=1)
    assert "sleep 1000" not in kubelet.execute(container, "ps")[1]
    assert kubelet.status(container).state == cri.RUNNING


@peer_first
def test_logs(kubelet: Cri) -> None:
    """Both streams line by line, an unfinished line, and all of much output."""
    pod = kubelet.pod()
    container = kubelet.container(pod, "echo out; sleep 0.3; echo err >&2; sleep 0.3; printf unfinished", name="streams")
    much = kubelet.container(pod, "seq 20000; sleep 0.5", name="much")
    for each in (container, much):
        until(lambda each=each: kubelet.status(each).state == cri.EXITED, "the end of the container")
    until(lambda: kubelet.log("much")[-1][2] == "20000", "the last line")
    streams = [["stdout", "F", "out"], ["stderr", "F", "err"], ["stdout", "P", "unfinished"]]
    assert kubelet.log("streams")[:3] == streams
    assert [line[2] for line in kubelet.log("much")] == [str(number) for number in range(1, 20001)]


@peer_first
def test_restart(kubelet: Cri) -> None:
    """A container that fails is made again in the same pod, as the kubelet does it: the next attempt, the same namespaces."""
    pod = kubelet.pod()
    network = _namespace(kubelet.pid(pod), "net")
    first = kubelet.container(pod, "exit 7", name="again")
    until(lambda: kubelet.status(first).state == cri.EXITED, "the end of the first attempt")
    assert kubelet.status(first).exit_code == 7
    second = kubelet.container(pod, IDLE, metadata={"name": "again", "attempt": 1})
    assert _namespace(kubelet.pid(second), "net") == network
    kubelet.call("RemoveContainer", container_id=first)
    assert kubelet.status(second).state == cri.RUNNING


@peer_first
def test_stop_kills_what_does_not_end(kubelet: Cri) -> None:
    """After the grace period the whole container is killed: 137."""
    container = kubelet.container(kubelet.pod(), "trap '' TERM; sleep 1000 & while :; do sleep 0.1; done")
    kubelet.call("StopContainer", container_id=container, timeout=1)
    assert kubelet.status(container).exit_code == 137


@peer_first
def test_what_can_not_start(kubelet: Cri) -> None:
    """StartContainer says why in runc's words, and the pod lives on."""
    pod = kubelet.pod()
    with pytest.raises(grpc.RpcError, match='exec: "/no/such": stat /no/such: no such file or directory'):
        kubelet.container(pod, "/no/such", "argument")
    with pytest.raises(grpc.RpcError, match='exec: "no-such": executable file not found in \\$PATH'):
        kubelet.container(pod, "no-such", "argument")
    with pytest.raises(grpc.RpcError, match="permission denied"):
        kubelet.container(pod, "/etc/passwd", "argument")
    assert kubelet.call("PodSandboxStatus", pod_sandbox_id=pod).status.state == cri.READY


@peer_first
def test_limits_and_their_update(kubelet: Cri) -> None:
    """Limits are the kernel's, before and after UpdateContainerResources (a pod's resize in place)."""
    limits = {"memory_limit_in_bytes": 64 * MIB, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "oom_score_adj": 500}
    container = kubelet.container(kubelet.pod(), IDLE, resources=limits)
    assert _limits(kubelet.pid(container)) == (64 * MIB, 0.5)
    assert kubelet.execute(container, "cat /proc/1/oom_score_adj")[1] == "500\n"
    changed = {"memory_limit_in_bytes": 96 * MIB, "cpu_period": 100000, "cpu_quota": 70000, "cpuset_cpus": "0"}
    kubelet.call("UpdateContainerResources", container_id=container, linux=changed)
    pid = kubelet.pid(container)
    assert _limits(pid) == (96 * MIB, 0.7)
    assert cgroup_value(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert kubelet.execute(container, "head -c 1 /dev/zero | wc -c")[1] == "1\n"  # the device rules are still there
    assert kubelet.execute(container, "mknod /kmsg c 1 11 && head -c 1 /kmsg")[0] == 1


def _limits(pid: int) -> tuple[int, float]:
    """Memory in bytes and CPUs."""
    quota, *period = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()
    memory = int(cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max"))
    return memory, int(quota) / int(period[0] if period else 100000)


@peer_first
def test_out_of_memory(kubelet: Cri) -> None:
    """The kubelet reads the reason OOMKilled and 137."""
    container = kubelet.container(kubelet.pod(), "sleep 0.5; tail /dev/zero", resources={"memory_limit_in_bytes": 16 * MIB})
    until(lambda: kubelet.status(container).state == cri.EXITED, "the end of the container")
    until(lambda: kubelet.status(container).reason == "OOMKilled", "the reason OOMKilled")
    assert kubelet.status(container).exit_code == 137


@peer_first
def test_stats(kubelet: Cri) -> None:
    """ContainerStats has the CPU time and working set of what the container does."""
    held = "dd if=/dev/zero of=/dev/shm/held bs=1M count=20 2>/dev/null"
    container = kubelet.container(
        kubelet.pod(), f"{held}; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; {IDLE}", name="busy"
    )
    until(lambda: os.path.exists(f"{kubelet.logs}/busy.log") and kubelet.log("busy"), "the work to be done")
    stats = kubelet.call("ContainerStats", container_id=container).stats
    assert stats.cpu.usage_core_nano_seconds.value > 10_000_000
    assert stats.memory.working_set_bytes.value > 20 * MIB


@peer_first
def test_confinement(kubelet: Cri) -> None:
    """RuntimeDefault seccomp, read-only root, user, groups, no capability, no new privileges, as the restricted profile asks."""
    context = {
        "seccomp": {"profile_type": cri.RUNTIME_DEFAULT},
        "readonly_rootfs": True,
        "run_as_user": {"value": 1234},
        "run_as_group": {"value": 2345},
        "supplemental_groups": [3456],
        "capabilities": {"drop_capabilities": ["ALL"]},
        "no_new_privs": True,
        "masked_paths": ["/proc/version"],
        "readonly_paths": ["/proc/sys"],
    }
    container = kubelet.container(kubelet.pod(), IDLE, security_context=context)
    for status in (_status(kubelet, container, "1"), _status(kubelet, container, "self")):  # the container's, and exec's
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (status["Uid"].split()[0], status["Gid"].split()[0], set(status["Groups"].split()) - {"2345"}) == (
            "1234",
            "2345",
            {"3456"},
        )
    assert kubelet.execute(container, "touch /x")[::2] == (1, "touch: /x: Read-only file system\n")
    assert kubelet.execute(container, "unshare -U true")[0] == 1
    assert kubelet.execute(container, "cat /proc/version")[:2] == (0, "")


def _status(kubelet: Cri, container: str, pid: str) -> dict[str, str]:
    lines = kubelet.execute(container, f"cat /proc/{pid}/status")[1].splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@peer_first
def test_capabilities_and_profiles(kubelet: Cri) -> None:
    """Capabilities are added to nothing; Unconfined is without a filter; Localhost is the node's own profile."""
    pod = kubelet.pod()
    context = {
        "seccomp": {"profile_type": cri.UNCONFINED},
        "capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]},
    }
    status = _status(kubelet, kubelet.container(pod, IDLE, security_context=context), "1")
    assert (status["Seccomp"], int(status["CapEff"], 16), int(status["CapBnd"], 16)) == ("0", 1 << 10, 1 << 10)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as profile:
        profile.write(
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}'
        )
        profile.flush()
        localhost = {"profile_type": cri.LOCALHOST, "localhost_ref": f"localhost/{profile.name}"}
        container = kubelet.container(pod, IDLE, security_context={"seccomp": localhost})
        assert "Operation not supported" in kubelet.execute(container, "mkdir /tmp/x")[2]


@peer_first
def test_volumes(kubelet: Cri) -> None:
    """Host paths read-write and read-only, a device, and mounts that come later in either direction."""
    folder = f"{kubelet.daemon.directory}/volume-{kubelet.runtime}"
    os.makedirs(folder)
    mounts = [
        {"container_path": "/rw", "host_path": folder},
        {"container_path": "/ro", "host_path": folder, "readonly": True},
        {"container_path": "/etc/named", "host_path": "/etc/hostname", "readonly": True},
    ]
    devices = [{"container_path": "/dev/mine", "host_path": "/dev/fuse", "permissions": "r"}]
    container = kubelet.container(kubelet.pod(), IDLE, mounts=mounts, devices=devices)
    assert kubelet.execute(container, "echo text >/rw/file; cat /ro/file; touch /ro/x") == (
        1,
        "text\n",
        "touch: /ro/x: Read-only file system\n",
    )
    with open(f"{folder}/file") as file:
        assert file.read() == "text\n"
    assert kubelet.execute(container, "test -c /dev/mine && : </dev/mine")[0] == 0
    assert kubelet.execute(container, ": >/dev/mine")[0] == 1


@peer_first
def test_sysctls(kubelet: Cri) -> None:
    """A pod's safe sysctls are set in its namespaces."""
    container = kubelet.container(kubelet.pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "81"}), IDLE)
    assert kubelet.execute(container, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")[1] == "81\n"


@peer_first
def test_privileged(kubelet: Cri) -> None:
    """Every capability, and the host's devices."""
    pod = kubelet.pod(privileged=True)
    container = kubelet.container(pod, IDLE, security_context={"privileged": True})
    status = _status(kubelet, container, "1")
    assert status["CapEff"] == status["CapBnd"] and int(status["CapEff"], 16) & 1 << 21
    assert kubelet.execute(container, "test -e /dev/kmsg")[0] == 0
