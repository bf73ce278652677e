"""podman, through conmon, with `minicontainer-oci` as its runtime (by the README's containers.conf), and with its own before it."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients import podman, readme
from tests.clients.engine_scripts import IDLE, SCRIPTS
from tests.clients.peer_first import OURS, Both, peer_first, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine
    from tests.clients.podman import Podman


@pytest.fixture(scope="module")
def both(scratch: str, busybox_tarball: str) -> Iterator[Both]:
    """podman with its own runtime, and with the one that the README's containers.conf makes the default."""
    if missing := podman.missing():
        pytest.skip(missing)
    settings = readme.block("toml", "[engine.runtimes]", OURS)
    ours = podman.Podman(tempfile.mkdtemp(prefix="podman.", dir=scratch), settings, "minicontainer")
    with ours.beside_its_own(busybox_tarball) as both:
        yield both


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do."""
    both.run(script)


@peer_first
def test_the_readmes_settings(engine: Podman) -> None:
    """podman finds the runtime by its name and asks its version."""
    told = json.loads(engine.out("info", "--format", "{{json .Host.OCIRuntime}}"))
    assert told["name"] == engine.runtime
    assert " version " in told["version"].split("\n")[0]


@peer_first
def test_pod(engine: Podman) -> None:
    """Containers of a pod share the network and the host name; the pod is stopped, started and removed as a whole."""
    engine.cli("pod", "create", "--name", "pod", "--hostname", "pod-host", "--network", "bridge")
    serve = "mkdir -p /www; echo page >/www/index.html; exec httpd -f -p 8080 -h /www"
    for name, script in (("one", serve), ("two", IDLE)):
        engine.cli("run", "--detach", "--pod", "pod", "--name", name, engine.image, "sh", "-c", script)
    fetch = "for i in $(seq 50); do wget -qO- http://127.0.0.1:8080/ && exit; sleep 0.1; done; exit 1"
    assert engine.out("exec", "two", "sh", "-c", fetch) == "page"
    assert engine.out("exec", "two", "hostname") == engine.out("exec", "one", "hostname") == "pod-host"
    assert engine.out("exec", "one", "cat", "/proc/1/comm") == "httpd"
    engine.cli("pod", "pause", "pod")
    assert engine.out("pod", "inspect", "--format", "{{.State}}", "pod") == "Paused"
    engine.cli("pod", "unpause", "pod")
    engine.cli("pod", "stop", "--time", "1", "pod")
    assert engine.state("two")["ExitCode"] == 9
    engine.cli("pod", "start", "pod")
    assert engine.out("exec", "two", "sh", "-c", fetch) == "page"
    engine.cli("pod", "rm", "--force", "--time", "0", "pod")
    assert engine.out("ps", "--all", "--quiet") == ""


@peer_first
def test_kube_play(engine: Podman) -> None:
    """The README's pod, as Kubernetes would run it, and taken down again."""
    pod = readme.block("yaml", "kind: Pod", "").replace("docker.io/library/busybox:latest", engine.image)
    played = engine.cli("kube", "play", "-", stdin=pod.encode())
    assert b"Pod:" in played.stdout
    until(lambda: engine.out("logs", "hello-hello") == "hello", "the pod's output")
    until(lambda: engine.state("hello-hello")["Status"] == "exited", "the end of the container")
    assert engine.state("hello-hello")["ExitCode"] == 0
    engine.cli("kube", "down", "-", stdin=pod.encode())
    assert engine.out("ps", "--all", "--quiet") == ""


@peer_first
def test_build(engine: Podman) -> None:
    """The RUN steps of a Dockerfile."""
    file = f"FROM {engine.image}\nRUN echo built >/built && id -u >/user\nUSER 33\nRUN id -u >/tmp/user\nCMD cat /built /user /tmp/user\n"
    engine.cli(
        "build",
        "--network",
        "none",
        "--ulimit",
        "nofile=10000:10000",
        "--ulimit",
        "nproc=10000:10000",
        "--tag",
        "localhost/built",
        "-",
        stdin=file.encode(),
    )
    assert engine.cli("run", "--rm", "--network", "none", "localhost/built").stdout == b"built\n0\n33\n"
    engine.cli("rmi", "localhost/built")


@peer_first
def test_user_namespaces(engine: Podman) -> None:
    """--uidmap and --userns auto: root of the container is nobody of the host, in files too; exec joins it."""
    assert engine.prints("cat /proc/self/uid_map", "--uidmap", "0:200000:65536").split() == ["0", "200000", "65536"]
    engine.detached("one", IDLE, "--userns", "auto")
    pid = engine.state("one")["Pid"]
    engine.cli("exec", "one", "touch", "/mark")
    inside = os.stat(f"/proc/{pid}/root/mark").st_uid
    assert inside >= 200000 and os.stat(f"/proc/{pid}").st_uid == inside
    assert engine.out("exec", "-u", "33", "one", "id", "-u") == "33"
    assert engine.out("exec", "one", "sh", "-c", "id -u; grep CapEff /proc/self/status | cut -f 2").split("\n")[0] == "0"


@peer_first
def test_hooks(engine: Podman) -> None:
    """podman's OCI hooks: createRuntime finds a created container in the host's namespaces, poststop runs when it is gone."""
    folder = f"{engine.directory}/hooks-{engine.runtime}"
    os.makedirs(folder, exist_ok=True)
    for stage in ("createRuntime", "poststart", "poststop"):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{folder}/{stage}.state"]}
        with open(f"{folder}/{stage}.json", "w") as file:
            json.dump({"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [stage]}, file)
    assert engine.cli("--hooks-dir", folder, "run", "--rm", "--network", "none", engine.image, "echo", "out").stdout == b"out\n"
    status = {}
    for stage in ("createRuntime", "poststart", "poststop"):
        with open(f"{folder}/{stage}.state") as file:
            status[stage] = json.load(file)["status"]
    assert status["createRuntime"] in ("creating", "created")  # runc's and crun's word
    assert status["poststart"] in ("created", "running")  # runc 1.1's and the spec's
    assert status["poststop"] == "stopped"


@peer_first
def test_for_an_init_system(engine: Podman) -> None:
    """--systemd always: a writable group of its own below /sys/fs/cgroup, and tmpfs where systemd wants them."""
    group = "/sys/fs/cgroup/systemd" if os.path.exists("/sys/fs/cgroup/systemd") else "/sys/fs/cgroup"
    script = f"mkdir {group}/x && rmdir {group}/x && touch /run/x /run/lock/x /tmp/x && echo ok"
    assert engine.prints(script, "--systemd", "always") == "ok"
