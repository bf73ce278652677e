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

from tests.clients.daemon import CommandFailed, Daemon, succeeded

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


class Containerd(Daemon):
    """One daemon below `directory` (which must exist, and is left with what the daemon wrote).

    runtimes: the part of config.toml that names the runtimes, from its `version = 2` on; pause: the pods' image.
    """

    name = "containerd"

    def __init__(self, directory: str, runtimes: str, pause: str) -> None:
        self.namespace = f"containerd-{os.getpid()}"  # ctr's; its containers' cgroups are named after it
        super().__init__(directory, self.namespace)
        self.runtimes = runtimes
        self.pause = pause
        self.left: list[int] = []

    def start(self) -> None:
        """Write its settings and start it."""
        os.mkdir(f"{self.directory}/cni")
        settings = f"{self.directory}/config.toml"
        with open(settings, "w") as file:
            file.write(SETTINGS.format(**vars(self), plugins=CNI_PLUGINS))
        with open(f"{self.directory}/cni/10-test.conflist", "w") as file:
            json.dump(self._network(), file)
        self.launch("--config", settings)

    def answers(self) -> bool:
        return self.ctr("version", check=False).returncode == 0

    def _network(self) -> dict[str, object]:
        addresses = {"type": "host-local", "dataDir": f"{self.directory}/ipam", "ranges": [[{"subnet": SUBNET}]]}
        bridge = {"type": "bridge", "bridge": "test0", "isGateway": True, "ipMasq": False, "ipam": addresses}
        return {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge, {"type": "loopback"}]}

    def ctr(self, *arguments: str, check: bool = True, namespace: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run ctr in a namespace of its own or the given one; its output is captured.

        It has its pipes in /run/containerd, where the shims must find them: so it is in the daemon's mount namespace.
        """
        command = [
            "nsenter",
            f"--mount=/proc/{self.pid}/ns/mnt",
            "ctr",
            "--address",
            self.socket,
            "--namespace",
            namespace or self.namespace,
            *arguments,
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS)
        return succeeded(done) if check else done

    def clear(self) -> None:
        """The shims that are left, with what they run."""
        self.left = self._shims()
        for pid in self.left:
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """As any daemon; shims that are left are an error."""
        super().stop()
        if self.left:
            raise CommandFailed(f"shims were left: {self.left}\n{self.end_of_log()}")

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
