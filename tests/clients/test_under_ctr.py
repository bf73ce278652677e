"""containerd without Kubernetes: `ctr run --runc-binary minicontainer-oci`, and with runc before it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.clients.peer_first import OURS, Both, cgroup_value, peer_first, until

if TYPE_CHECKING:
    import subprocess

    from tests.clients.conftest import Pods

IDLE = "trap 'exit 9' TERM; while :; do sleep 0.1; done"


class Ctr:
    """ctr with one OCI runtime; containers are named by the scripts."""

    def __init__(self, pods: Pods, runtime: str) -> None:
        self.pods = pods
        self.runtime = runtime

    def run(self, name: str, script: str, *flags: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """ctr run of a shell script in the busybox image."""
        words = ["run", "--runc-binary", self.runtime, *flags, self.pods.image, name, "/bin/sh", "-c", script]
        return self.pods.daemon.ctr(*words, check=check)

    def ctr(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self.pods.daemon.ctr(*words, check=check)

    def tasks(self) -> dict[str, tuple[int, str]]:
        """pid and status of each task, by name."""
        lines = self.ctr("tasks", "list").stdout.decode().splitlines()[1:]
        return {name: (int(pid), status) for name, pid, status in (line.split() for line in lines)}

    def clean(self) -> None:
        for name in self.ctr("containers", "list", "--quiet").stdout.decode().split():
            self.ctr("tasks", "delete", "--force", name, check=False)  # it may have none
            self.ctr("containers", "delete", name)


@pytest.fixture(scope="module")
def both(pods: Pods) -> Both:
    return Both(Ctr(pods, shutil.which("runc") or "runc"), Ctr(pods, OURS))


@peer_first
def test_run(client: Ctr) -> None:
    """Output and exit status come back, and nothing stays."""
    done = client.run("one", "echo out; echo err >&2; exit 5", "--rm", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")
    assert client.tasks() == {}


@peer_first
def test_life_of_a_task(client: Ctr) -> None:
    """exec, ps, metrics, pause, resume, kill and delete of a detached task."""
    client.run("one", IDLE, "--detach", "--memory-limit", str(32 << 20), "--env", "A=b")
    pid, status = client.tasks()["one"]
    assert status == "RUNNING"
    done = client.ctr("tasks", "exec", "--exec-id", "e1", "one", "sh", "-c", "echo $A; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, b"b\n")
    listed = client.ctr("tasks", "ps", "one").stdout.decode().splitlines()
    assert str(pid) in [line.split()[0] for line in listed]
    metrics = json.loads(client.ctr("tasks", "metrics", "--format", "json", "one").stdout)
    assert "memory" in metrics and "pids" in metrics
    client.ctr("tasks", "pause", "one")
    assert client.tasks()["one"] == (pid, "PAUSED")
    client.ctr("tasks", "resume", "one")
    assert client.tasks()["one"] == (pid, "RUNNING")
    client.ctr("tasks", "kill", "--signal", "SIGTERM", "one")
    until(lambda: client.tasks()["one"][1] == "STOPPED", "the task to stop")
    assert b"non-zero exit code 9" in client.ctr("tasks", "delete", "one").stderr
    assert client.tasks() == {}


@peer_first
def test_every_process_is_killed(client: Ctr) -> None:
    """tasks kill --all reaches the children too, and a paused task can be deleted by force."""
    client.run("one", "sleep 1000 & sleep 1000", "--detach")
    until(lambda: len(client.ctr("tasks", "ps", "one").stdout.splitlines()) == 3, "both processes")
    client.ctr("tasks", "kill", "--all", "--signal", "SIGKILL", "one")
    until(lambda: client.tasks()["one"][1] == "STOPPED", "the task to stop")
    client.ctr("tasks", "delete", "one")
    client.ctr("containers", "delete", "one")
    client.run("one", "sleep 1000", "--detach")
    client.ctr("tasks", "pause", "one")
    client.ctr("tasks", "delete", "--force", "one")
    assert client.tasks() == {}


@peer_first
def test_limits(client: Ctr) -> None:
    """--memory-limit and --cpus are the kernel's limits."""
    client.run("one", IDLE, "--detach", "--memory-limit", str(32 << 20), "--cpus", "0.5")
    pid, _ = client.tasks()["one"]
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


@peer_first
def test_flags_of_run(client: Ctr) -> None:
    """Read-only root, seccomp, host network and mounts."""
    script = "touch /x; cat /etc/name; grep Seccomp: /proc/self/status; readlink /proc/self/ns/net"
    flags = ["--rm", "--read-only", "--seccomp", "--net-host"]
    mount = f"type=bind,src={client.pods.daemon.directory}/config.toml,dst=/etc/name,options=rbind:ro"
    done = client.run("one", script, *flags, "--mount", mount)
    lines = done.stdout.decode().splitlines()
    assert b"Read-only file system" in done.stderr
    assert any(line.startswith("root = ") for line in lines)
    assert lines[-2] == "Seccomp:\t2"


@peer_first
def test_what_can_not_start(client: Ctr) -> None:
    """The message is runc's, and nothing stays of the task."""
    words = ["run", "--rm", "--runc-binary", client.runtime, client.pods.image, "one"]
    done = client.ctr(*words, "no-such-program", check=False)
    assert done.returncode == 1 and b'exec: "no-such-program": executable file not found in $PATH' in done.stderr
    assert client.tasks() == {}
