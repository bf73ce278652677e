"""Engines that leave cgroups to systemd. In the guest: tests/vm/run --systemd -- .venv/bin/python -m pytest <this file>"""

from __future__ import annotations

import os
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


def systemd_says(unit: str, what: str) -> str:
    """One property of a unit."""
    command = ["systemctl", "show", "--property", what, "--value", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
