"""Engines that leave cgroups to systemd. In the guest: tests/vm/run --systemd -- .venv/bin/python -m pytest <this file>"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients import containerd, podman, readme
from tests.clients.conftest import containerd_with
from tests.clients.engine_scripts import IDLE, MIB
from tests.clients.peer_first import OURS, Both, cgroup_value, peer_first, until

cri = pytest.importorskip("tests.clients.cri", reason="grpcio is not installed", exc_type=ImportError)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.cri import Cri
    from tests.clients.podman import Podman

pytestmark = pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="systemd is not running here")


@pytest.fixture(scope="module", params=["podman", "kubelet"])
def both(request: pytest.FixtureRequest, scratch: str, busybox_tarball: str) -> Iterator[Both]:
    """podman with the systemd cgroup manager; a kubelet with the README's handler and SystemdCgroup = true."""
    directory = tempfile.mkdtemp(prefix="systemd.", dir=scratch)
    if request.param == "podman":
        if missing := podman.missing():
            pytest.skip(missing)
        ours = podman.Podman(directory, readme.block("toml", "[engine.runtimes]", OURS), "minicontainer", "systemd")
        with ours.beside_its_own(busybox_tarball) as both:
            yield both
        return
    option = "    SystemdCgroup = true\n"  # in the options, with which both blocks end
    runc = containerd.RUNC + '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n' + option
    runtimes = readme.block("toml", "io.containerd.grpc.v1.cri", OURS) + option + runc
    with containerd_with(runtimes, directory, busybox_tarball) as pods:
        yield Both(
            *(cri.Cri(pods.daemon, runtime, pods.image, "mctest-pod{number}.slice") for runtime in ("runc", "minicontainer"))
        )


@peer_first
def test_a_container_is_a_scope(client: Podman | Cri) -> None:
    """It is a unit of systemd's with the limits asked for, before and after an update, and gone with the container."""
    if isinstance(client, cri.Cri):
        limits = {"memory_limit_in_bytes": 64 * MIB, "cpu_period": 100000, "cpu_quota": 50000}
        container = client.container(client.pod(), IDLE, resources=limits)
        pid = client.pid(container)
    else:
        client.detached("one", IDLE, "--memory", "64m", "--cpus", "0.5")
        pid = client.state("one")["Pid"]
    with open(f"/proc/{pid}/cgroup") as file:
        scope = next(part for part in file.read().split(":")[-1].split("/") if ".scope" in part).strip()
    assert systemd_says(scope, "ActiveState") == "active"
    assert cgroup_value(pid, "memory", "", "memory.max") == str(64 * MIB)
    assert cgroup_value(pid, "cpu", "", "cpu.max") == "50000 100000"
    if isinstance(client, cri.Cri):
        client.call("UpdateContainerResources", container_id=container, linux={**limits, "memory_limit_in_bytes": 96 * MIB})
        assert client.execute(container, "echo inside") == (0, "inside\n", "")
    else:
        client.cli("update", "--memory", "96m", "one")
        assert client.out("exec", "one", "echo", "inside") == "inside"
    assert cgroup_value(pid, "memory", "", "memory.max") == str(96 * MIB)
    if client.runtime != "crun":  # which writes the kernel's files only
        assert systemd_says(scope, "MemoryMax") == str(96 * MIB)
    client.clean()
    until(lambda: systemd_says(scope, "LoadState") == "not-found", "the scope to be gone")


@pytest.fixture
def users(passable: str, busybox_tarball: str) -> Iterator[Both]:
    """podman of an ordinary user, with the systemd cgroup manager, which is the user's own systemd."""
    if missing := podman.missing():
        pytest.skip(missing)
    user = podman.Rootless.USER
    if subprocess.run(["getent", "passwd", str(user)], stdout=subprocess.DEVNULL).returncode == 0:
        pytest.skip(f"there is a user {user} here already")
    os.chmod(busybox_tarball, 0o644)
    subprocess.run(["useradd", "--uid", str(user), "--no-create-home", "--no-log-init", "mctest-user"], check=True)
    try:
        # Else logind ends the user's systemd 10 s after the last session, and what systemd_says() opens is one.
        subprocess.run(["loginctl", "enable-linger", "mctest-user"], check=True)
        subprocess.run(["systemctl", "start", f"user@{user}.service"], check=True)
        ours = podman.Rootless(passable, readme.block("toml", "[engine.runtimes]", OURS), "minicontainer", "systemd")
        with ours.beside_its_own(busybox_tarball) as both:
            yield both
    finally:
        subprocess.run(["loginctl", "disable-linger", "mctest-user"], check=False)
        subprocess.run(["systemctl", "stop", f"user@{user}.service"], check=True)
        until(lambda: subprocess.run(["pkill", "-KILL", "-u", str(user)], check=False).returncode == 1, "no process of the user")
        subprocess.run(["userdel", "mctest-user"], check=True)


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="a user's podman needs newuidmap (apt-get install uidmap)")
def test_a_users_container_is_a_scope_of_the_users_systemd(users: Both) -> None:
    """Its limits are those asked for, before and after an update, in the user's tree; and it is gone with the container."""

    def script(client: Podman) -> None:
        client.detached("one", IDLE, "--network", "none", "--memory", "64m", "--pids-limit", "30")
        pid = client.state("one")["Pid"]
        with open(f"/proc/{pid}/cgroup") as file:
            path = file.read().split(":")[-1].strip()
        scope = next(part for part in path.split("/") if part.endswith(".scope"))
        user = podman.Rootless.USER
        assert path.startswith(f"/user.slice/user-{user}.slice/user@{user}.service/user.slice/libpod-"), path
        of_user = ("--user", f"--machine={user}@")
        assert systemd_says(scope, "Delegate", *of_user) == "yes"
        assert cgroup_value(pid, "memory", "", "memory.max") == str(64 * MIB)
        if client.runtime != "crun":  # which writes the kernel's files only
            assert systemd_says(scope, "MemoryMax", *of_user) == str(64 * MIB)
            assert systemd_says(scope, "TasksMax", *of_user) == "30"
        assert client.out("exec", "one", "echo", "inside") == "inside"
        client.cli("pause", "one")
        client.cli("unpause", "one")
        client.cli("update", "--memory", "96m", "one")
        assert cgroup_value(pid, "memory", "", "memory.max") == str(96 * MIB)
        client.clean()
        until(lambda: systemd_says(scope, "LoadState", *of_user) == "not-found", "the scope to be gone")

    users.run(script)


def systemd_says(unit: str, what: str, *flags: str) -> str:
    """One property of a unit. flags: of systemctl, if it is not the host's systemd."""
    command = ["systemctl", *flags, "show", "--property", what, "--value", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
