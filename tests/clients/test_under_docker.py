"""docker with `minicontainer-oci` as a runtime (by the README's daemon.json), and with runc before it."""

from __future__ import annotations

import json
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from tests.clients import dockerd, readme
from tests.clients.docker import Docker
from tests.clients.engine_scripts import IDLE, SCRIPTS
from tests.clients.peer_first import OURS, Both, cgroup_value, peer_first, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine


@pytest.fixture(scope="module")
def both(scratch: str, busybox_tarball: str) -> Iterator[Both]:
    """docker with runc, and with the runtime that the README's daemon.json names and makes the default."""
    if missing := dockerd.missing():
        pytest.skip(missing)
    settings = readme.block("json", "runtimes", OURS)
    daemon = dockerd.Dockerd(tempfile.mkdtemp(prefix="docker.", dir=scratch), settings=settings)
    daemon.start()
    try:
        daemon.import_rootfs(busybox_tarball, Docker.image)
        yield Both(Docker(daemon, "runc"), Docker(daemon, json.loads(settings)["default-runtime"]))
    finally:
        daemon.stop()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do."""
    both.run(script)
