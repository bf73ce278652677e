"""A podman of our own: its storage, network, runtime state and locks are gone when the test is.

All of it happens in a mount namespace with an empty /run, /var/lib and /dev/shm (where podman, CNI and the runtimes keep
what they share), and in a network namespace; both vanish with their last process and descriptor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from tests.clients import docker_archive
from tests.clients.daemon import cgroups_named, remove_cgroup
from tests.clients.engine import Engine
from tests.clients.namespaces import namespace
from tests.clients.peer_first import Both, until

if TYPE_CHECKING:
    from collections.abc import Iterator

# root of these tests may lack CAP_SYS_RESOURCE, which podman's own default of these limits needs.
SETTINGS = """\
{readme}
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
log_driver = "k8s-file"
"""
PEER = "runc" if os.path.exists("/sys/fs/cgroup/memory") else "crun"  # crun 1.8 refuses hybrid hierarchies
PARENT = "libpod_parent"  # where podman has its cgroups
EMPTY = (("/run", "755"), ("/var/lib", "755"), ("/dev/shm", "1777"))


def missing() -> str:
    """Why there can be no podman here, or an empty string."""
    if os.geteuid() != 0:
        return "podman with cgroups and a bridge needs root"
    if shutil.which("podman") is None or shutil.which("catatonit") is None:
        return "podman is not installed (apt-get install podman catatonit)"
    return ""


class Podman(Engine):
    """podman below `directory` (which must exist), with one runtime; both sides of a comparison share a directory.

    settings: containers.conf's part that names runtimes; runtime: one of those, or a path; manager: "cgroupfs" or "systemd".
    """

    SOCKETS = ("systemd", "dbus")  # where they are in /run, which it needs for the systemd manager

    def __init__(self, directory: str, settings: str, runtime: str, manager: str = "cgroupfs") -> None:
        self.directory = directory
        self.manager = manager
        self.runtime = runtime
        self.configuration = f"{directory}/containers.conf"
        with open(self.configuration, "w") as file:
            file.write(SETTINGS.format(readme=settings))

    def start(self) -> None:
        """Make the namespaces."""
        run = f"{self.directory}/run"
        script = f"mkdir {run}\nmount --rbind /run {run}\n" if self.manager == "systemd" else ""
        script += "".join(f"mount -t tmpfs -o mode={mode} none {path}\n" for path, mode in EMPTY)
        if self.manager == "systemd":  # its sockets
            script += "".join(f"mkdir /run/{each}\nmount --rbind {run}/{each} /run/{each}\n" for each in self.SOCKETS)
        for name, text in self.files().items():
            with open(f"{self.directory}/{name}", "w") as file:
                file.write(text)
            script += f"mount --bind {self.directory}/{name} /etc/{name}\n"
        script += f"install -d -o {Rootless.USER} -m 700 {Rootless.RUN}\n"
        self.mounts = namespace("mnt", script)
        self.cgroups = set(cgroups_named(PARENT))
        self.network = namespace("net", "ip link set lo up")

    def files(self) -> dict[str, str]:
        """What it finds in /etc, by name: the ids that podman shares out with --userns auto."""
        return dict.fromkeys(("subuid", "subgid"), "containers:200000:1000000\n")

    def beside(self, runtime: str) -> Podman:
        """The same podman with another runtime."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, runtime=runtime)
        return other

    @contextlib.contextmanager
    def beside_its_own(self, rootfs: str) -> Iterator[Both]:
        """podman with the peer's runtime and with this one, with an image of busybox."""
        self.start()
        try:
            self.cli("import", "--change", f"ENV {docker_archive.PATH}", rootfs, self.image)
            yield Both(self.beside(PEER), self)
        finally:
            self.stop()

    def inside(self, *words: str) -> list[str]:
        """A command line in the namespaces, in the directory: conmon leaves a file where it is started."""
        own = f"/proc/{os.getpid()}/fd"
        enter = ["nsenter", f"--mount={own}/{self.mounts}", f"--net={own}/{self.network}"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', self.directory, *words]

    def command(self, *words: str) -> list[str]:
        where = ["--root", f"{self.directory}/root", "--runroot", "/run/containers", "--tmpdir", "/run/libpod"]  # no long paths
        more = ["--network-config-dir", f"{self.directory}/networks", "--cgroup-manager", self.manager, "--events-backend", "file"]
        return self.inside("podman", *where, *more, "--storage-driver", "overlay", "--runtime", self.runtime, *words)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": self.configuration}

    def check_health(self, name: str, wanted: str) -> None:
        """Run the check (which a systemd timer would do) until its result is this."""
        until(lambda: self.cli("healthcheck", "run", name, check=False).returncode == (wanted != "healthy"), wanted)
        until(lambda: self.state(name)["Health"]["Status"] == wanted, f"the state {wanted}")

    def clean(self) -> None:
        self.cli("pod", "rm", "--all", "--force", "--time", "0")
        # A container that has just ended may be being cleaned up by conmon's own podman: then it is busy.
        remove = ("rm", "--all", "--force", "--time", "0")
        until(lambda: self.cli(*remove, check=False).returncode == 0, "the containers to be removed")

    def stop(self) -> None:
        """Remove what is there, and give the namespaces up."""
        try:
            self.clean()
        finally:
            self._leave()

    def _leave(self) -> None:
        os.close(self.mounts)
        os.close(self.network)
        for cgroup in set(cgroups_named(PARENT)) - self.cgroups:
            remove_cgroup(cgroup)


class Rootless(Podman):
    """podman of an ordinary user, who exists in the mount namespace only, with ids of its own to share out."""

    USER = 4321  # its uid and gid
    FIRST = 500000  # of the ids that it shares out
    RUN = f"/run/user/{USER}"
    SOCKETS = (*Podman.SOCKETS, "user")

    def __init__(self, directory: str, settings: str, runtime: str, manager: str = "cgroupfs") -> None:
        super().__init__(directory, settings, runtime, manager)
        os.mkdir(f"{directory}/home")
        os.chown(f"{directory}/home", self.USER, self.USER)

    def files(self) -> dict[str, str]:
        shared = dict.fromkeys(("subuid", "subgid"), f"rootless:{self.FIRST}:65536\n")
        with open("/etc/passwd") as users, open("/etc/group") as groups:
            passwd = f"{users.read()}rootless:x:{self.USER}:{self.USER}::{self.directory}/home:/bin/sh\n"
            group = f"{groups.read()}rootless:x:{self.USER}:\n"
        return {"passwd": passwd, "group": group, **shared}

    def command(self, *words: str) -> list[str]:
        user = ["setpriv", "--reuid", str(self.USER), "--regid", str(self.USER), "--clear-groups"]
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": f"{self.directory}/home",
            "XDG_RUNTIME_DIR": self.RUN,
            "CONTAINERS_CONF": self.configuration,
        }
        environment = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
        how = ["--cgroup-manager", self.manager, "--events-backend", "file", "--storage-driver", "vfs", "--runtime", self.runtime]
        return self.inside(*user, *environment, "sh", "-c", 'cd && exec "$@"', "sh", "podman", *how, *words)

    def stop(self) -> None:
        """As for root; and podman's process that keeps the user namespace is told to end."""
        try:
            self.clean()
            self.cli("system", "migrate")
        finally:
            self._leave()
