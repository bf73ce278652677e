"""minicontainer-oci: the lifecycle of the OCI runtime spec from a bundle, beside runc's own words and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.ours import REPOSITORY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes containers: needs root")

PROGRAM = f"{os.path.dirname(sys.executable)}/minicontainer-oci"
BUSYBOX = Path(REPOSITORY) / "images" / "busybox.tar"
SECONDS = 60
SPEC = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "hostname": "oci",
    "process": {"args": ["sh"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    ],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts")]},
}


class Runtime:
    """The command with a root, a bundle and a cgroup of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "state"
        self.bundle = folder / "bundle"
        self.cgroup = f"/minicontainer-oci-test-{os.getpid()}"

    def spec(self, *args: str, **process: object) -> None:
        """Writes config.json for a command."""
        spec = json.loads(json.dumps(SPEC))
        spec["process"].update(args=list(args), **process)
        spec["linux"]["cgroupsPath"] = f"{self.cgroup}/one"
        (self.bundle / "config.json").write_text(json.dumps(spec))

    def __call__(self, *argv: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "--root", str(self.root), *argv],
            cwd=self.bundle,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE if stdout == subprocess.PIPE else stdout,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[Runtime]:
    if not os.path.exists(PROGRAM):
        pytest.skip(f"{PROGRAM} is not there: make ext")
    if not BUSYBOX.exists():
        pytest.skip("images/busybox.tar is not there: make images")
    runtime = Runtime(tmp_path)
    (runtime.bundle / "rootfs").mkdir(parents=True)
    with tarfile.open(BUSYBOX) as tar:
        tar.extractall(runtime.bundle / "rootfs")
    yield runtime
    if runtime.root.exists():
        for ident in os.listdir(runtime.root):
            runtime("delete", "--force", ident)
    for folder in Path("/sys/fs/cgroup").glob(f"**{runtime.cgroup}"):
        folder.rmdir()
    shutil.rmtree(tmp_path, ignore_errors=False)


def test_run_gives_the_programs_output_and_exit_code_and_leaves_nothing(oci: Runtime) -> None:
    oci.spec("sh", "-c", "hostname; echo $$; exit 7")
    done = oci("run", "one")
    assert (done.returncode, done.stdout) == (7, "oci\n1\n"), done.stderr
    assert os.listdir(oci.root) == []
    assert not list(Path("/sys/fs/cgroup").glob(f"**{oci.cgroup}/one"))


def test_a_created_container_waits_for_start_and_goes_through_the_states_of_the_spec(oci: Runtime) -> None:
    oci.spec("sleep", "600")
    created = oci("create", "--bundle", str(oci.bundle), "--pid-file", str(oci.bundle / "pid"), "one", stdout=subprocess.DEVNULL)
    assert created.returncode == 0
    state = json.loads(oci("state", "one").stdout)
    assert state["status"] == "created" and state["pid"] == int((oci.bundle / "pid").read_text())
    assert Path(f"/proc/{state['pid']}/comm").read_text() == "minicontainer\n"
    assert oci("start", "one").returncode == 0
    assert json.loads(oci("state", "one").stdout)["status"] == "running"
    assert oci("exec", "one", "sh", "-c", "exit 4").returncode == 4
    assert oci("pause", "one").returncode == 0 and json.loads(oci("state", "one").stdout)["status"] == "paused"
    assert oci("resume", "one").returncode == 0
    assert "not stopped" in oci("delete", "one").stderr
    assert oci("kill", "one", "KILL").returncode == 0
    for _ in range(200):
        if json.loads(oci("state", "one").stdout)["status"] == "stopped":
            break
    assert "container not running" in oci("kill", "one", "TERM").stderr
    assert oci("delete", "one").returncode == 0
    assert "container does not exist" in oci("state", "one").stderr
    assert oci("delete", "--force", "one").returncode == 0, "silent for one that is gone, as runc"


def test_a_program_that_is_not_there_is_told_by_create_and_by_run(oci: Runtime) -> None:
    oci.spec("no-such-program")
    for verb in ("create", "run"):
        done = oci(verb, "one")
        assert done.returncode == 1 and "executable file not found in $PATH" in done.stderr
    assert os.listdir(oci.root) == []


def test_an_execve_that_fails_is_told_by_start(oci: Runtime) -> None:
    oci.spec("/broken")
    (oci.bundle / "rootfs" / "broken").write_bytes(b"\x7fELF is what it begins with, and all there is")
    (oci.bundle / "rootfs" / "broken").chmod(0o755)
    assert oci("create", "one", stdout=subprocess.DEVNULL).returncode == 0
    done = oci("start", "one")
    assert done.returncode == 1 and "exec format error" in done.stderr
    assert json.loads(oci("state", "one").stdout)["status"] == "stopped"
    assert oci("delete", "one").returncode == 0


def test_errors_are_the_last_json_line_of_the_log_and_exit_codes_are_runcs(oci: Runtime) -> None:
    oci.spec("sleep", "600")
    log = oci.bundle / "log.json"
    oci("create", "one", stdout=subprocess.DEVNULL)
    again = oci("--log", str(log), "--log-format", "json", "create", "one")
    last = json.loads(log.read_text().splitlines()[-1])
    assert again.returncode == 1 and last["level"] == "error" and "container with given ID already exists" in last["msg"]
    assert oci("exec", "one", "no-such-program").returncode == 255


def test_an_id_that_leads_elsewhere_is_refused(oci: Runtime) -> None:
    oci.spec("true")
    done = oci("run", "../x")
    assert done.returncode == 1 and "invalid container id" in done.stderr and "Traceback" not in done.stderr
    assert not oci.root.exists() or os.listdir(oci.root) == []
