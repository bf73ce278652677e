"""A dockerd of our own, beside whatever docker the machine has: started by hand, used, and gone without a trace.

It has its own data root, exec root, socket, cgroup parent and mount namespace, and a network namespace too, so that
its bridge and its iptables rules never meet the machine's firewall. It is stopped by its pid.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import time

START_SECONDS = 60.0
STOP_SECONDS = 30.0
CONTAINER_SECONDS = 60.0

# slave: it sees what is mounted here later, and nothing of its own comes back. containerd's shims have their sockets in
# /run/containerd, and runtimes their state, whatever a daemon's own directories are.
PRIVATE = 'mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && exec "$@"'
NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", PRIVATE, "sh"]
CLIENT = "/usr/bin/docker"  # the one of the daemon's package (docker.io); another may come first in PATH


def missing() -> str:
    """Why there can be no dockerd here, or an empty string."""
    if os.geteuid() != 0:
        return "dockerd needs root"
    if shutil.which("dockerd") is None or not os.path.exists(CLIENT):
        return "docker is not installed (apt-get install docker.io)"
    return ""


class CommandFailed(Exception):
    """A command that a test relies on failed; the message has what it wrote to stderr."""


def succeeded(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    """The command that was run, or CommandFailed."""
    if done.returncode:
        words = " ".join(done.args)
        raise CommandFailed(f"{words}: exit status {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done


class Dockerd:
    """One daemon below `directory` (which must exist, and is left with what the daemon wrote).

    arguments: more of dockerd's own, such as ("--add-runtime", "name=/path"); settings: its daemon.json.
    """

    def __init__(self, directory: str, *, arguments: tuple[str, ...] = (), settings: str = "{}") -> None:
        self.directory = directory
        self.arguments = arguments
        self.settings = settings
        self.socket = f"{directory}/docker.sock"
        self.log = f"{directory}/dockerd.log"
        self.cgroup = f"dockerd-{os.path.basename(directory)}-{os.getpid()}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, "dockerd is not started"
        return self.process.pid

    def start(self, namespaces: list[str] | None = None) -> None:
        """Start it and wait until it answers; a daemon that doesn't is an error with the end of its log.

        namespaces: the command that makes or enters those that it works in.
        """
        own = ["--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"]
        own += ["--host", f"unix://{self.socket}", "--pidfile", f"{self.directory}/pid"]
        own += ["--config-file", f"{self.directory}/daemon.json", "--cgroup-parent", f"/{self.cgroup}"]
        self._write_settings(self.settings)
        namespaces = namespaces or NAMESPACES
        script = 'ip link set lo up && exec dockerd "$@"'  # exec: the pid stays the same
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*namespaces, "sh", "-c", script, "dockerd", *own, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while self.docker("version", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                with open(self.log, errors="replace") as log_text:
                    raise RuntimeError(f"dockerd does not answer; the end of its log:\n{log_text.read()[-2000:]}")
            time.sleep(0.1)

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
        """Remove its containers, end it by its pid, and remove the cgroups that it leaves."""
        if self.process is None:
            return
        if self.process.poll() is None:
            containers = self.docker("ps", "--all", "--quiet", check=False).stdout.decode().split()
            if containers:
                self.docker("rm", "--force", "--volumes", *containers, check=False)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        for cgroup in cgroups_named(self.cgroup):
            remove_cgroup(cgroup)


def cgroups_named(name: str) -> list[str]:
    """The directories of a top cgroup in every hierarchy, v1, v2 and hybrid."""
    roots = ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")]
    return [f"{root}/{name}" for root in roots if os.path.exists(f"{root}/{name}/cgroup.procs")]


def remove_cgroup(path: str) -> None:
    """Remove a cgroup without processes and what is below it."""
    for below, _directories, _files in os.walk(path, topdown=False):
        os.rmdir(below)
