"""podman of an ordinary user with `minicontainer-oci`, and with its own runtime before it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.clients import engine_scripts, podman, readme
from tests.clients.peer_first import OURS, Both, peer_first
from tests.clients.podman import Rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine

SCRIPTS = (engine_scripts.exit_status, engine_scripts.terminal, engine_scripts.life, engine_scripts.confinement)


@pytest.fixture(scope="module")
def both(passable: str, busybox_tarball: str) -> Iterator[Both]:
    """An ordinary user's podman with its own runtime, and with ours."""
    missing = podman.missing()
    if not missing and not (shutil.which("newuidmap") and shutil.which("slirp4netns")):
        missing = "a user's podman needs newuidmap and slirp4netns (apt-get install uidmap slirp4netns)"
    if missing:
        pytest.skip(missing)
    user = ["setpriv", "--reuid", str(Rootless.USER), "--regid", str(Rootless.USER), "--clear-groups"]
    if subprocess.run([*user, OURS, "--version"], capture_output=True).returncode:
        pytest.skip(f"{OURS} is out of reach for an ordinary user")
    os.chmod(busybox_tarball, 0o644)
    with Rootless(passable, readme.block("toml", "[engine.runtimes]", OURS), "minicontainer").beside_its_own(
        busybox_tarball
    ) as both:
        yield both


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do, without root."""
    both.run(script)


@peer_first
def test_ids(engine: Rootless) -> None:
    """Root of the container is the user, others are the user's shared-out ids; --userns keep-id keeps the user."""
    engine.detached("one", engine_scripts.IDLE)
    pid = engine.state("one")["Pid"]
    engine.cli("exec", "-u", "33", "one", "touch", "/tmp/mark")
    assert (os.stat(f"/proc/{pid}").st_uid, os.stat(f"/proc/{pid}/root/tmp/mark").st_uid) == (engine.USER, engine.FIRST + 32)
    assert engine.prints("id -u", "--userns", "keep-id") == str(engine.USER)
    assert "trap 'exit 9'" in engine.prints("ps", "--pid", "container:one")


@peer_first
def test_network(engine: Rootless) -> None:
    """slirp4netns' interface."""
    assert "tap0" in engine.prints("ls /sys/class/net", "--network", "slirp4netns")
