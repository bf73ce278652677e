"""What minicontainer is measured against: runc and crun on a bundle, docker through a daemon of its own.

All of them run the same busybox rootfs. Each class is made on a directory of its own, has start() and stop(), and
gives Contestants.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from itertools import count

from measure import BenchError, Contestant

from tests.clients.dockerd import Dockerd
from tests.clients.namespaces import namespace
from tests.clients.ours import Ours

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
INSTALLED = f"{REPOSITORY}/build/bench/bin/minicontainer"  # `make bench` puts it there
IMAGE = "busybox"
FILES_IMAGE = "files-{files}"
FILE_BYTES = 1024
PORT = "127.0.0.1:8099:80"

UNIFIED = "/sys/fs/cgroup/unified"


def program(name: str, package: str) -> str:
    """The path of a peer. Raises BenchError with its Debian package."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"{name} is not installed: apt-get install {package} (or make peers)")
    return path


def busybox_tarball(directory: str) -> str:
    """The rootfs tarball that `make images` makes, built below `directory`."""
    tarball = f"{directory}/busybox.tar"
    subprocess.run([sys.executable, "-m", "images.busybox.build", tarball], cwd=REPOSITORY, check=True)
    return tarball


def tarball_of_files(busybox: str, files: int, tarball: str) -> None:
    """The busybox rootfs with `files` more files of 1 KiB, a hundred to a directory."""
    shutil.copyfile(busybox, tarball)
    with tarfile.open(tarball, "a") as archive:
        for number in range(files):
            member = tarfile.TarInfo(f"srv/{number // 100:03}/{number:05}")
            member.size = FILE_BYTES
            archive.addfile(member, io.BytesIO(number.to_bytes(4, "big") * (FILE_BYTES // 4)))


class Bundle:
    """An OCI bundle that runs `true` in the busybox rootfs, and a runtime that runs it (`runc spec` as it is, but
    for the command and the terminal). The runtimes make no network and no overlay, and set no limits."""

    def __init__(self, directory: str, tarball: str) -> None:
        self.directory = directory
        self.ids = count(1)
        self.namespaces: list[int] = []
        os.makedirs(f"{directory}/rootfs")
        subprocess.run(["tar", "-C", f"{directory}/rootfs", "-xpf", tarball], check=True)
        subprocess.run([program("runc", "runc"), "spec", "--bundle", directory], check=True)
        self.set_command("true")

    def set_command(self, *arguments: str) -> None:
        """Have the bundle run this command, without a terminal."""
        with open(f"{self.directory}/config.json") as file:
            config = json.load(file)
        config["process"]["terminal"] = False
        config["process"]["args"] = arguments
        with open(f"{self.directory}/config.json", "w") as file:
            json.dump(config, file)

    def runc(self) -> Contestant:
        return Contestant("runc", lambda: self.run_command(program("runc", "runc")))

    def crun(self) -> Contestant:
        """crun refuses hybrid cgroups, so there it runs in a mount namespace that lacks the unified hierarchy."""
        if os.path.exists(UNIFIED):
            script = f"mount --make-rprivate / && umount {UNIFIED}"
            self.namespaces.append(namespace("mnt", script))
        return Contestant("crun", lambda: self.run_command(program("crun", "crun")), tuple(self.namespaces))

    def run_command(self, runtime: str) -> list[str]:
        name = f"bench-{os.getpid()}-{next(self.ids)}"
        return [runtime, "--root", f"{self.directory}/state", "run", "--bundle", self.directory, name]

    def close(self) -> None:
        for descriptor in self.namespaces:
            os.close(descriptor)


class Docker(Dockerd):
    """docker run, with the images imported."""

    def contestant(self, *flags: str, image: str = IMAGE) -> Contestant:
        return Contestant("docker", lambda: self.command("run", "--rm", *flags, image, "true"))


class Minicontainer(Ours):
    """minicontainer run as its users have it, with the images imported: installed, its state on /run, no configuration file.

    Its cgroups are a flag's, its bridge and firewall tables are those of a network namespace of its own.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(directory, INSTALLED)
        self.state = tempfile.mkdtemp(prefix="minicontainer-bench.", dir="/run")

    def command(self, *arguments: str) -> list[str]:
        verb, *rest = arguments
        parent = ["--cgroup-parent", self.cgroup] if verb == "run" else []
        return [self.program, "--root", f"{self.directory}/root", "--state", self.state, verb, *parent, *rest]

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.state)

    def contestant(self, *flags: str, image: str = IMAGE, name: str = "minicontainer") -> Contestant:
        command = self.command("run", "--rm", *flags, image, "true")
        return Contestant(name, lambda: command, (self.network_namespace,))
