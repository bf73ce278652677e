"""docker with `minicontainer-oci` as a runtime (by the README's daemon.json), and with runc before it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.clients import dockerd
from tests.clients.docker import Docker
from tests.clients.engine_scripts import IDLE, SCRIPTS
from tests.clients.peer_first import OURS, Both, cgroup_value, peer_first, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine


@pytest.fixture(scope="module")
def both(dockers: tuple[Docker, Docker]) -> Both:
    """docker with runc, and with the runtime that the README's daemon.json names and makes the default."""
    return Both(*dockers)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do."""
    both.run(script)


@peer_first
def test_the_daemon_sees_who_was_killed_for_memory(engine: Docker) -> None:
    """State.OOMKilled, which the daemon has from containerd's events."""
    limit = ["--memory", "16m", "--memory-swap", "16m"]
    engine.detached("one", "sleep 0.3; tail /dev/zero", *limit)
    until(lambda: engine.state("one")["Status"] == "exited", "the end of the container")
    assert (engine.state("one")["OOMKilled"], engine.state("one")["ExitCode"]) == (True, 137)


@peer_first
def test_update_of_processes(engine: Docker) -> None:
    """update --pids-limit changes this limit and leaves the others."""
    engine.detached("one", IDLE, "--memory", "64m", "--pids-limit", "20")
    engine.cli("update", "--pids-limit", "30", "one")
    pid = engine.state("one")["Pid"]
    assert cgroup_value(pid, "pids", "pids.max", "pids.max") == "30"
    assert cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)


def test_the_daemon_knows_our_version(both: Both) -> None:
    """dockerd parses `--version`, and the default runtime is the README's."""
    told = json.loads(both.ours.out("info", "--format", "{{json .}}"))
    assert told["DefaultRuntime"] == both.ours.runtime
    version = subprocess.run([OURS, "--version"], capture_output=True, text=True, check=True).stdout
    assert f"commit: {told['RuncCommit']['ID']}\n" in version


@peer_first
def test_exec_in_turn_and_at_once(engine: Docker) -> None:
    """Many execs, one after the other and together, each with its own output and status."""
    engine.detached("one", IDLE)
    calls = [
        subprocess.Popen(engine.command("exec", "one", "sh", "-c", f"echo {n}; exit {n}"), stdout=subprocess.PIPE) for n in range(8)
    ]
    assert [(call.communicate()[0], call.returncode) for call in calls] == [(f"{n}\n".encode(), n) for n in range(8)]
    assert engine.out("exec", "one", "sh", "-c", "ls /proc | grep -c '^[0-9]'") in "345"  # and none of them is left


@peer_first
def test_many_at_once(engine: Docker) -> None:
    """Ten containers start together; each has its own output."""
    words = [*engine.run_words("--rm", "--network", "none"), engine.image, "echo"]
    calls = [subprocess.Popen([*engine.command(*words), str(n)], stdout=subprocess.PIPE) for n in range(10)]
    assert [call.communicate()[0] for call in calls] == [f"{n}\n".encode() for n in range(10)]


def test_build(both: Both) -> None:
    """The RUN steps of a Dockerfile run with the daemon's default runtime."""
    file = f"FROM {Docker.image}\nRUN echo built >/built && id -u >/user\nUSER 33\nWORKDIR /srv/app\nRUN id -u >/tmp/user; pwd >/tmp/pwd\nCMD cat /built /user /tmp/user /tmp/pwd\n"

    def build(engine: Docker) -> None:
        with default_runtime(engine.daemon, engine.runtime):
            engine.cli(
                "build", "--network", "none", "--rm=false", "--no-cache", "--tag", "localhost/built", "-", stdin=file.encode()
            )
        used = [engine.out("inspect", "--format", "{{.HostConfig.Runtime}}", each) for each in engine.out("ps", "-aq").split()]
        assert set(used) == {engine.runtime}
        assert engine.cli(*engine.run_words("--rm", "--network", "none"), "localhost/built").stdout == b"built\n0\n33\n/srv/app\n"

    both.run(build)


@contextlib.contextmanager
def default_runtime(daemon: dockerd.Dockerd, runtime: str) -> Iterator[None]:
    """The daemon with this default runtime, which it reads again at SIGHUP."""
    settings = json.loads(daemon.settings)
    try:
        daemon.reload(json.dumps({**settings, "default-runtime": runtime}))
        until(
            lambda: json.loads(daemon.docker("info", "--format", "{{json .DefaultRuntime}}").stdout) == runtime,
            "the default runtime",
        )
        yield
    finally:
        daemon.reload(daemon.settings)


@peer_first
def test_containers_outlive_the_daemon(engine: Docker) -> None:
    """With live-restore a container runs on while the daemon is away, and the next one can do with it whatever it wants."""
    engine.detached("one", IDLE)
    pid = engine.state("one")["Pid"]
    engine.daemon.restart()
    assert (engine.state("one")["Status"], engine.state("one")["Pid"]) == ("running", pid)
    assert engine.out("exec", "one", "echo", "inside") == "inside"
    engine.cli("stop", "one")
    assert engine.state("one")["ExitCode"] == 9
