"""sd_notify(3) from a container, as with runc: the same command lines to runc, and then to minicontainer-oci."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.oci_peer import Peer, oci_peer, rootfs, tarball  # noqa: F401  # fixtures
from tests.integration.engine import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20.0


class Systemd:
    """What a service manager does: a socket, whose messages are kept, and barriers that are closed when they come."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(SECONDS)
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(path)}

    def hears(self) -> str:
        """The next message."""
        said, control, _, _ = self.socket.recvmsg(4096, 64)
        for _, _, data in control:
            for fd in array.array("i", data):
                os.close(fd)
        return said.decode()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    server = Systemd(tmp_path / "manager")
    try:
        yield server
    finally:
        server.socket.close()


@pytest.fixture
def probe(oci_peer: Peer) -> Peer:  # noqa: F811
    """A bundle with the program that notifies."""
    source = f"{os.path.dirname(__file__)}/notify_probe.c"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", oci_peer.rootfs / "bin/notify", source], check=True)
    return oci_peer


def ready(oci: Peer, systemd: Systemd) -> list[str]:
    """What is said when it is ready; runc 1.1 knows no barrier (1.2 does)."""
    said = [systemd.hears(), systemd.hears()]
    if oci.program != "runc":
        assert systemd.hears() == "BARRIER=1"
    return said


def started(oci: Peer, systemd: Systemd, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        oci.command(*words),
        cwd=oci.bundle,
        env=systemd.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_start_tells_that_it_is_ready_and_whom_to_watch(probe: Peer, systemd: Systemd) -> None:
    probe.write("sh", "-c", "sleep 1; exec notify READY=1 600")
    probe.ok("create", "one", env=systemd.environment)
    start = started(probe, systemd, "start", "one")
    said = ready(probe, systemd)
    assert start.wait(SECONDS) == 0
    assert said == ["READY=1\n", f"MAINPID={json.loads(probe.ok('state', 'one'))['pid']}\n"]


def test_run_detached_returns_when_it_is_ready(probe: Peer, systemd: Systemd) -> None:
    probe.write("notify", "READY=1", "600")
    run = started(probe, systemd, "run", "--detach", "one")
    said = ready(probe, systemd)
    assert run.wait(SECONDS) == 0
    assert said == ["READY=1\n", f"MAINPID={json.loads(probe.ok('state', 'one'))['pid']}\n"]


def test_run_in_the_foreground_is_itself_whom_to_watch(probe: Peer, systemd: Systemd) -> None:
    probe.write("notify", "READY=1", "2")
    run = started(probe, systemd, "run", "one")
    assert ready(probe, systemd) == ["READY=1\n", f"MAINPID={run.pid}\n"]
    assert run.wait(SECONDS) == 0


def test_a_container_that_ends_before_it_is_ready_ends_start(probe: Peer, systemd: Systemd) -> None:
    probe.write("sh", "-c", "sleep 1; exec notify STATUS=thinking 0")
    probe.ok("create", "one", env=systemd.environment)
    assert started(probe, systemd, "start", "one").wait(SECONDS) == 0
    systemd.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.hears()


def test_the_folder_is_read_only_inside_and_gone_with_the_container(probe: Peer, systemd: Systemd) -> None:
    probe.write("sh", "-c", "touch /run/notify/x 2>/run/why; echo $NOTIFY_SOCKET >>/run/why; sleep 600")
    probe.ok("create", "one", env=systemd.environment)
    start = started(probe, systemd, "start", "one")
    why = probe.rootfs / "run/why"
    until(lambda: why.exists() and why.read_text().count("\n") == 2, "the container to have tried")
    assert "Read-only file system" in why.read_text()
    assert why.read_text().splitlines()[1] == "/run/notify/notify.sock"
    probe.ok("delete", "--force", "one")
    assert start.wait(SECONDS) == 0
    assert "state" not in probe.left()
