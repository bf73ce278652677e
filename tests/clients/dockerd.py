"""A dockerd of our own, beside whatever docker the machine has: started by hand, used, and gone without a trace.

It has its own data root, exec root, socket, cgroup parent and mount namespace, and a network namespace too, so that
its bridge and its iptables rules never meet the machine's firewall. It is stopped by its pid.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from tests.clients.daemon import STOP_SECONDS, Daemon, succeeded

CONTAINER_SECONDS = 60.0

CLIENT = "/usr/bin/docker"  # the one of the daemon's package (docker.io); another may come first in PATH


def missing() -> str:
    """Why there can be no dockerd here, or an empty string."""
    if os.geteuid() != 0:
        return "dockerd needs root"
    if shutil.which("dockerd") is None or not os.path.exists(CLIENT):
        return "docker is not installed (apt-get install docker.io)"
    return ""


class Dockerd(Daemon):
    """One daemon below `directory` (which must exist, and is left with what the daemon wrote).

    arguments: more of dockerd's own, such as ("--add-runtime", "name=/path"); settings: its daemon.json.
    """

    name = "dockerd"

    def __init__(self, directory: str, *, arguments: tuple[str, ...] = (), settings: str = "{}") -> None:
        super().__init__(directory, f"dockerd-{os.path.basename(directory)}-{os.getpid()}")
        self.arguments = arguments
        self.settings = settings

    def start(self, namespaces: list[str] | None = None) -> None:
        """Start it in new namespaces, or in those that a command makes or enters."""
        own = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"]
        own += ["--host", f"unix://{self.socket}", "--pidfile", f"{self.directory}/pid"]
        own += ["--config-file", f"{self.directory}/daemon.json", "--cgroup-parent", f"/{self.cgroup}"]
        self._write_settings(self.settings)
        self.launch(*own, *self.arguments, namespaces=namespaces)

    def answers(self) -> bool:
        return self.docker("version", check=False).returncode == 0

    def _write_settings(self, settings: str) -> None:
        with open(f"{self.directory}/daemon.json", "w") as file:
            file.write(settings)

    def reload(self, settings: str) -> None:
        """Have the daemon read another daemon.json; runtimes and the default one are among what it takes over."""
        self._write_settings(settings)
        os.kill(self.pid, signal.SIGHUP)

    def restart(self) -> None:
        """Stop the daemon and start it again; with live-restore its containers run on meanwhile."""
        assert self.process is not None, "dockerd is not started"
        kept = [os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
        try:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)
            net, mnt = (f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in kept)
            self.start(["nsenter", f"--net={net}", f"--mount={mnt}"])
        finally:
            for descriptor in kept:
                os.close(descriptor)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a docker client for this daemon."""
        return [CLIENT, "--host", f"unix://{self.socket}", *arguments]

    def docker(self, *arguments: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a docker client; its output is captured."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            timeout=CONTAINER_SECONDS,
            env=self.environment(),
        )
        return succeeded(done) if check else done

    def environment(self) -> dict[str, str]:
        """The client's environment: without the user's docker contexts and settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        return {**kept, "DOCKER_CONFIG": f"{self.directory}/client"}

    def import_rootfs(self, tarball: str, name: str, *changes: str) -> None:
        """docker import, with Dockerfile instructions."""
        flags = [flag for change in changes for flag in ("--change", change)]
        self.docker("import", *flags, tarball, name)

    def stop(self) -> None:
        """Remove its containers, then as any daemon."""
        if self.process is not None and self.process.poll() is None:
            containers = self.docker("ps", "--all", "--quiet", check=False).stdout.decode().split()
            if containers:
                self.docker("rm", "--force", "--volumes", *containers, check=False)
        super().stop()
