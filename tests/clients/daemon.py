"""A daemon of a test's own: started by hand in namespaces of its own, waited for, stopped by its pid, and its cgroups removed."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import time

START_SECONDS = 60.0
STOP_SECONDS = 30.0

# slave: it sees what is mounted here later, and nothing of its own comes back. containerd's shims have their sockets in
# /run/containerd, and runtimes their state, whatever a daemon's own directories are.
PRIVATE = 'mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && exec "$@"'
NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", PRIVATE, "sh"]


class CommandFailed(Exception):
    """A command that a test relies on failed; the message has what it wrote to stderr."""


def succeeded(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    """The command that was run, or CommandFailed."""
    if done.returncode:
        words = " ".join(done.args)
        raise CommandFailed(f"{words}: exit status {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done


class Daemon:
    """What dockerd and containerd have in common; each says how it is started and asked.

    directory: all of its own (must exist, and is left with what the daemon wrote); name: its program; cgroup: the top one that
    it may leave.
    """

    name: str

    def __init__(self, directory: str, cgroup: str) -> None:
        self.directory = directory
        self.cgroup = cgroup
        self.socket = f"{directory}/{self.name}.sock"
        self.log = f"{directory}/{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not started"
        return self.process.pid

    def launch(self, *arguments: str, namespaces: list[str] | None = None) -> None:
        """Start it and wait until it answers; a daemon that doesn't is an error with the end of its log.

        namespaces: the command that makes or enters those that it works in.
        """
        script = 'ip link set lo up && exec "$0" "$@"'  # exec: the pid stays the same
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*(namespaces or NAMESPACES), "sh", "-c", script, self.name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CommandFailed(f"{self.name} does not answer; the end of its log:\n{self.end_of_log()}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether a client gets an answer."""
        raise NotImplementedError

    def end_of_log(self) -> str:
        with open(self.log, errors="replace") as file:
            return file.read()[-2000:]

    def stop(self) -> None:
        """End it by its pid, and remove the cgroups that it leaves."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self.clear()
        for cgroup in cgroups_named(self.cgroup):
            remove_cgroup(cgroup)

    def clear(self) -> None:
        """End what outlives it."""


def cgroups_named(name: str) -> list[str]:
    """The directories of a top cgroup in every hierarchy, v1, v2 and hybrid."""
    roots = ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")]
    return [f"{root}/{name}" for root in roots if os.path.exists(f"{root}/{name}/cgroup.procs")]


def remove_cgroup(path: str) -> None:
    """Remove a cgroup without processes and what is below it."""
    for below, _directories, _files in os.walk(path, topdown=False):
        os.rmdir(below)
