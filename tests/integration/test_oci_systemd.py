"""The systemd cgroup driver with a real systemd. In the guest: tests/vm/run --systemd -- .venv/bin/python -m pytest <this file>"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine import until
from tests.integration.oci import PROGRAM, Oci

MIB = 1 << 20
BOOTED = os.path.isdir("/run/systemd/system")
needs_systemd = pytest.mark.skipif(not BOOTED, reason="systemd is not running here")


@pytest.fixture
def unit(oci: Oci) -> Iterator[str]:
    """The scope that the container of `oci` is in; nothing of it may be left in systemd."""
    oci.config["linux"]["cgroupsPath"] = f"mctest-a.slice:oci:{oci.cgroup}"
    name = f"oci-{oci.cgroup}.scope"
    yield name
    oci.clear()
    assert show(name, "LoadState") == "not-found"
    assert not Path(f"/sys/fs/cgroup/mctest.slice/mctest-a.slice/{name}").exists()


def show(unit: str, name: str) -> str:
    return subprocess.run(
        ["systemctl", "show", "--property", name, "--value", unit], check=True, capture_output=True, text=True
    ).stdout.strip()


@needs_systemd
def test_a_container_is_a_scope_with_its_limits(oci: Oci, unit: str) -> None:
    """From create to delete: the limits are systemd's and the kernel's, and stay when systemd writes them anew."""
    oci.config["linux"]["resources"].update(
        memory={"limit": 64 * MIB, "swap": 80 * MIB},
        cpu={"quota": 25000, "period": 100000, "shares": 512, "cpus": "0"},
        pids={"limit": 40},
    )
    oci.config["annotations"] = {"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}
    oci.write("sleep", "600")
    oci.ok("--systemd-cgroup", "create", "one")
    oci.ok("start", "one")
    folder = Path(f"/sys/fs/cgroup/mctest.slice/mctest-a.slice/{unit}")
    limits = {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(16 * MIB),
        "cpu.max": "25000 100000",
        "cpu.weight": "59",
        "pids.max": "40",
    }

    def held() -> dict[str, str]:
        return {file: (folder / file).read_text().strip() for file in limits}

    assert (folder / "cgroup.procs").read_text().split() and held() == limits
    shown = {
        "MemoryMax": str(64 * MIB), "MemorySwapMax": str(16 * MIB), "CPUQuotaPerSecUSec": "250ms", "CPUWeight": "59",
        "TasksMax": "40", "AllowedCPUs": "0", "Delegate": "yes", "Slice": "mctest-a.slice", "TimeoutStopUSec": "7s",
    }  # fmt: skip
    assert {name: show(unit, name) for name in shown} == shown
    assert oci.ok("exec", "one", "cat", "/proc/self/cgroup") == "0::/\n"
    refused = oci.do("exec", "one", "sh", "-c", "mknod /dev/disk b 7 0; cat /dev/disk")
    assert "Operation not permitted" in refused.err

    oci.ok("update", "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "50", "one")
    limits.update({"memory.max": str(128 * MIB), "memory.swap.max": "0", "pids.max": "50"})
    assert held() == limits
    assert show(unit, "MemoryMax") == str(128 * MIB) and show(unit, "TasksMax") == "50"
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert held() == limits
    oci.ok("delete", "--force", "one")
    assert not folder.exists() and show(unit, "ActiveState") == "inactive"


@needs_systemd
def test_a_scope_that_ended_by_itself_is_deleted_and_can_be_made_again(oci: Oci, unit: str) -> None:
    for _ in range(2):
        oci.write("true")
        oci.ok("--systemd-cgroup", "create", "one")
        oci.ok("start", "one")
        until(lambda: show(unit, "ActiveState") == "inactive", "systemd notices that it is empty")
        oci.ok("delete", "one")


@needs_systemd
def test_what_systemd_or_the_kernel_refuses_leaves_nothing(oci: Oci, unit: str) -> None:
    oci.config["annotations"] = {"org.systemd.property.MemoryMax": "'much'"}
    oci.write("true")
    done = oci.do("--systemd-cgroup", "run", "one")
    assert done.code == 1 and f"systemd refused StartTransientUnit of {unit}" in done.err
    assert not oci.left()


@needs_systemd
def test_without_a_path_it_is_in_system_slice(oci: Oci) -> None:
    del oci.config["linux"]["cgroupsPath"]
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    oci.write("cat", "/proc/self/cgroup")
    assert oci.ok("--systemd-cgroup", "run", "one") == "0::/system.slice/minicontainer-one.scope\n"


@needs_systemd
@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
def test_podman_with_its_systemd_cgroup_manager(tarball: str) -> None:
    """run, exec, update, pause and rm of a container whose scope podman looks up by its own name for it."""
    folder = tempfile.mkdtemp(dir="/var/tmp", prefix="mc")  # short: sockets lie in it
    where = [f"--{flag}={folder}/{flag}" for flag in ("root", "runroot", "tmpdir")]
    how = ["--storage-driver=vfs", "--cgroup-manager=systemd", "--events-backend=file", f"--runtime={PROGRAM}"]

    def podman(*words: str) -> str:
        done = subprocess.run(["podman", *where, *how, *words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done)
        return done.stdout.strip()

    limits = ["--ulimit=nofile=10000:10000", "--ulimit=nproc=10000:10000", "--memory=64m", "--pids-limit=30"]
    try:
        podman("import", tarball, "box")
        ident = podman("run", "--detach", "--network=none", *limits, "localhost/box", "sleep", "600")
        unit = f"libpod-{ident}.scope"
        assert show(unit, "Slice") == "machine.slice" and show(unit, "TasksMax") == "30"
        podman("update", "--memory=128m", ident)
        assert podman("exec", ident, "cat", "/sys/fs/cgroup/memory.max") == show(unit, "MemoryMax") == str(128 * MIB)
        podman("pause", ident)
        podman("unpause", ident)
        podman("rm", "--force", "--time=0", ident)
        assert show(unit, "LoadState") == "not-found"
    finally:
        podman("rm", "--all", "--force", "--time=0")
        podman("rmi", "--all", "--force")
        subprocess.run(["umount", "--recursive", "--quiet", f"{folder}/root"], check=False)
        shutil.rmtree(folder)


def test_a_path_that_is_no_unit_is_refused_in_runcs_words(oci: Oci) -> None:
    oci.write("true")
    done = oci.do("--systemd-cgroup", "run", "one")
    assert done.code == 1
    assert 'expected cgroupsPath to be of format \\"slice:prefix:name\\" for systemd cgroups' in done.err


@pytest.mark.skipif(BOOTED, reason="systemd is running here")
def test_where_there_is_no_systemd_that_is_said(oci: Oci) -> None:
    oci.config["linux"]["cgroupsPath"] = "mctest.slice:oci:x"
    oci.write("true")
    done = oci.do("--systemd-cgroup", "run", "one")
    assert done.code == 1 and "systemd is not running here" in done.err
    assert not oci.left()
