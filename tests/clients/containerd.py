"""A containerd of our own, with its CRI plugin: started by hand, used, and gone without a trace.

It has its own root, state, socket, mount and network namespace, so that its shims' mounts and the CNI plugins' bridge
never meet the machine's. It is stopped by its pid, and so is each shim that is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

from tests.clients.dockerd import NAMESPACES, CommandFailed, cgroups_named, remove_cgroup, succeeded

START_SECONDS = 60.0
STOP_SECONDS = 30.0
COMMAND_SECONDS = 60.0
CNI_PLUGINS = "/usr/lib/cni"
SUBNET = "10.247.0.0/24"

# What the machine needs (no CAP_SYS_RESOURCE, no hugetlb in v1) and where things are; the runtimes come from outside.
SETTINGS = """\
root = "{directory}/root"
state = "{directory}/state"
{runtimes}
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
disable_hugetlb_controller = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/cni"
"""
# The peer's, beside the ones that a test brings.
RUNC = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def missing() -> str:
    """Why there can be no containerd here, or an empty string."""
    if os.geteuid() != 0:
        return "containerd needs root"
    if shutil.which("containerd") is None:
        return "containerd is not installed (apt-get install containerd)"
    if not os.path.exists(f"{CNI_PLUGINS}/bridge"):
        return "the CNI plugins are not installed (apt-get install containernetworking-plugins)"
    return ""


class Containerd:
    """One daemon below `directory` (which must exist, and is left with what the daemon wrote).

    runtimes: the part of config.toml that names the runtimes, from its `version = 2` on; pause: the pods' image.
    """

    def __init__(self, directory: str, runtimes: str, pause: str) -> None:
        self.directory = directory
        self.runtimes = runtimes
        self.pause = pause
        self.socket = f"{directory}/containerd.sock"
        self.log = f"{directory}/containerd.log"
        self.name = f"containerd-{os.getpid()}"  # of its cgroup and of ctr's namespace
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; a daemon that doesn't is an error with the end of its log."""
        os.mkdir(f"{self.directory}/cni")
        settings = f"{self.directory}/config.toml"
        with open(settings, "w") as file:
            file.write(SETTINGS.format(**vars(self), plugins=CNI_PLUGINS))
        with open(f"{self.directory}/cni/10-test.conflist", "w") as file:
            json.dump(self._network(), file)
        script = f'ip link set lo up && exec containerd --config "{settings}"'  # exec: the pid stays the same
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*NAMESPACES, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.ctr("version", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CommandFailed(f"containerd does not answer; the end of its log:\n{self.end_of_log()}")
            time.sleep(0.1)

    def _network(self) -> dict[str, object]:
        addresses = {"type": "host-local", "dataDir": f"{self.directory}/ipam", "ranges": [[{"subnet": SUBNET}]]}
        bridge = {"type": "bridge", "bridge": "test0", "isGateway": True, "ipMasq": False, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge, {"type": "loopback"}]}

    def end_of_log(self) -> str:
        with open(self.log, errors="replace") as file:
            return file.read()[-2000:]

    def ctr(self, *arguments: str, check: bool = True, namespace: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run ctr in a namespace of its own or the given one; its output is captured.

        It has its pipes in /run/containerd, where the shims must find them: so it is in the daemon's mount namespace.
        """
        assert self.process is not None, "containerd is not started"
        command = [
            "nsenter",
            f"--mount=/proc/{self.process.pid}/ns/mnt",
            "ctr",
            "--address",
            self.socket,
            "--namespace",
            namespace or self.name,
            *arguments,
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS)
        return succeeded(done) if check else done

    def stop(self) -> None:
        """End it by its pid, and the shims that are left, with what they run; then its cgroups."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        left = self._shims()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for cgroup in cgroups_named(self.name):
            remove_cgroup(cgroup)
        if left:
            raise CommandFailed(f"shims were left: {left}\n{self.end_of_log()}")

    def _shims(self) -> list[int]:
        """Processes that have our directory on their command line: shims (a container of theirs would have none)."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if words[0].endswith(b"containerd-shim-runc-v2") and f"{self.socket}.ttrpc".encode() in words:
                found.append(int(pid))
        return found
