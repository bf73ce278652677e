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

from measure import REAP, BenchError, Contestant

from tests.clients.dockerd import Dockerd
from tests.clients.namespaces import namespace
from tests.clients.ours import Ours

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
INSTALLED = f"{REPOSITORY}/build/bench/bin/minicontainer"  # `make bench` puts it there
INSTALLED_OCI = f"{INSTALLED}-oci"
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
    for the command and the terminal). The runtimes make no network and no overlay, and set no limits.

    unified: on a hybrid host all of them see its unified hierarchy alone: cgroup v2, if without its controllers.
    """

    def __init__(self, directory: str, tarball: str, *, unified: bool = False) -> None:
        self.directory = directory
        self.unified = unified
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

    def runtimes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Program and namespaces to be in by name: ours, runc, crun.

        crun refuses hybrid cgroups, so there it runs in a mount namespace that lacks the unified hierarchy.
        """
        if os.path.exists(UNIFIED) and not self.namespaces:
            change = f"umount {UNIFIED}"
            if self.unified:
                change = f"mount --bind {UNIFIED} /mnt && umount --recursive /sys/fs/cgroup && mount --move /mnt /sys/fs/cgroup"
            self.namespaces.append(namespace("mnt", f"mount --make-rprivate / && {change}"))
        inside = tuple(self.namespaces)
        return {
            "minicontainer-oci": (INSTALLED_OCI, inside if self.unified else ()),
            "runc": (program("runc", "runc"), inside if self.unified else ()),
            "crun": (program("crun", "crun"), inside),
        }

    def runc(self) -> Contestant:
        return self.running("runc")

    def crun(self) -> Contestant:
        return self.running("crun")

    def running(self, name: str) -> Contestant:
        """`run` of a runtime."""
        runtime, namespaces = self.runtimes()[name]
        return Contestant(name, lambda: self.run_command(runtime), namespaces)

    def at_once(self, name: str, count: int) -> Contestant:
        """So many `run`s at the same time."""
        runtime, namespaces = self.runtimes()[name]
        return Contestant(name, lambda: [self.run_command(runtime) for _ in range(count)], namespaces, at_once=True)

    def by_steps(self, name: str) -> Contestant:
        """create, start and, when the container has ended, delete: what an engine calls."""
        runtime, namespaces = self.runtimes()[name]

        def commands() -> list[list[str]]:
            ident = self.ident()
            start = [runtime, "--root", f"{self.directory}/state"]
            return [
                [*start, "create", "--bundle", self.directory, ident],
                [*start, "start", ident],
                REAP,
                [*start, "delete", ident],
            ]

        return Contestant(name, commands, namespaces)

    def ident(self) -> str:
        return f"bench-{os.getpid()}-{next(self.ids)}"

    def run_command(self, runtime: str) -> list[str]:
        return [runtime, "--root", f"{self.directory}/state", "run", "--bundle", self.directory, self.ident()]

    def close(self) -> None:
        for descriptor in self.namespaces:
            os.close(descriptor)


class Docker(Dockerd):
    """docker run, with the images imported."""

    def contestant(self, *flags: str, image: str = IMAGE, name: str = "docker") -> Contestant:
        return Contestant(name, lambda: self.command("run", "--rm", *flags, image, "true"))


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
