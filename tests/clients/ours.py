"""minicontainer as its users call it, on directories, cgroups, bridge and firewall table of a test's own."""

from __future__ import annotations

import os
import subprocess

from tests.clients.daemon import cgroups_named, remove_cgroup, succeeded
from tests.clients.namespaces import network_namespace

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROGRAM = f"{REPOSITORY}/.venv/bin/minicontainer"

COMMAND_SECONDS = 60.0

SETTINGS = """\
[cgroup]
parent = "{cgroup}"
[network]
bridge = "mc-test0"
table = "minicontainer-test"
ipv4 = "10.213.70.0/24"
ipv6 = "fd00:213:70::/64"
"""


class Ours:
    """minicontainer below `directory` (which must exist), in a network namespace that has nothing but a loopback.

    program: the launcher to use. After start(), network_namespace is its descriptor.
    """

    def __init__(self, directory: str, program: str = PROGRAM) -> None:
        self.directory = directory
        self.program = program
        self.settings = f"{directory}/minicontainer.toml"
        self.cgroup = f"minicontainer-{os.path.basename(directory)}-{os.getpid()}"
        self.network_namespace = -1

    def start(self) -> None:
        """Write the settings and make the network namespace."""
        with open(self.settings, "w") as file:
            file.write(SETTINGS.format(cgroup=self.cgroup))
        self.network_namespace = network_namespace()

    def command(self, *arguments: str) -> list[str]:
        """The command line, for someone who is in the network namespace already."""
        roots = ["--root", f"{self.directory}/root", "--state", f"{self.directory}/state"]
        return [self.program, *roots, "--config", self.settings, *arguments]

    def enter(self, *arguments: str) -> list[str]:
        """The command line with the way into the network namespace before it."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.network_namespace}", *self.command(*arguments)]

    def run(self, *arguments: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run one command; its output is captured."""
        command = self.enter(*arguments)
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=COMMAND_SECONDS)
        return succeeded(done) if check else done

    def import_rootfs(self, tarball: str, name: str, *changes: str) -> None:
        """minicontainer import, with Dockerfile instructions."""
        flags = [flag for change in changes for flag in ("--change", change)]
        self.run("import", *flags, tarball, name)

    def stop(self) -> None:
        """Remove its containers, the network namespace with all that is in it, and its cgroups."""
        containers = self.run("ps", "--all", "--quiet", check=False).stdout.decode().split()
        if containers:
            self.run("rm", "--force", "--volumes", *containers, check=False)
        os.close(self.network_namespace)
        for cgroup in cgroups_named(self.cgroup):
            remove_cgroup(cgroup)
