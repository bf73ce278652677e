"""podman, through conmon, with `minicontainer-oci` as its runtime (by the README's containers.conf), and with its own before it."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients import podman, readme
from tests.clients.engine_scripts import SCRIPTS
from tests.clients.peer_first import OURS, Both, peer_first, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine
    from tests.clients.podman import Podman

PEER = "runc" if os.path.exists("/sys/fs/cgroup/memory") else "crun"  # crun 1.8 refuses hybrid hierarchies


@pytest.fixture(scope="module")
def both(scratch: str, busybox_tarball: str) -> Iterator[Both]:
    """podman with its own runtime, and with the one that the README's containers.conf makes the default."""
    if missing := podman.missing():
        pytest.skip(missing)
    settings = readme.block("toml", "[engine.runtimes]", OURS)
    ours = podman.Podman(tempfile.mkdtemp(prefix="podman.", dir=scratch), settings, "minicontainer")
    ours.start()
    try:
        ours.cli("import", busybox_tarball, "localhost/busybox:latest")
        yield Both(ours.beside(PEER), ours)
    finally:
        ours.stop()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do."""
    both.run(script)
