"""Fixtures of the client tests: a dockerd and a minicontainer of their own, both with the same rootfs imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients import dockerd, ours
from tests.clients.beside_cases import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGES = ('CMD ["echo", "the image\'s own command"]', "ENV FROM_IMAGE=yes", "LABEL kept=1")


@pytest.fixture(scope="session")
def scratch() -> Iterator[str]:
    """A directory on a disk: /tmp may be a tmpfs, on which overlayfs and quotas differ."""
    directory = tempfile.mkdtemp(prefix="minicontainer-clients.", dir="/var/tmp")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def busybox_tarball(scratch: str) -> str:
    """The rootfs tarball that `make images` builds."""
    tarball = f"{scratch}/busybox.tar"
    subprocess.run([sys.executable, "-m", "images.busybox.build", tarball], cwd=ours.REPOSITORY, check=True)
    return tarball


@pytest.fixture(scope="session")
def docker(scratch: str, busybox_tarball: str) -> Iterator[dockerd.Dockerd]:
    """A private dockerd with the rootfs imported as IMAGE."""
    missing = dockerd.missing()
    if missing:
        pytest.skip(missing)
    daemon = dockerd.Dockerd(tempfile.mkdtemp(prefix="docker.", dir=scratch))
    daemon.start()
    try:
        daemon.import_rootfs(busybox_tarball, IMAGE, *CHANGES)
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def minicontainer(scratch: str, busybox_tarball: str) -> Iterator[ours.Ours]:
    """minicontainer on directories of its own with the rootfs imported as IMAGE."""
    side = ours.Ours(tempfile.mkdtemp(prefix="ours.", dir=scratch))
    side.start()
    try:
        side.import_rootfs(busybox_tarball, IMAGE, *CHANGES)
        yield side
    finally:
        side.stop()
