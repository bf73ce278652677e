"""Fixtures of the client tests: a dockerd and a minicontainer of their own, both with the same rootfs imported."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.clients import containerd, docker_archive, dockerd, ours, readme
from tests.clients.beside_cases import IMAGE
from tests.clients.docker import Docker
from tests.clients.peer_first import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite("tests.clients.engine_scripts")  # scripts assert, too

CHANGES = ('CMD ["echo", "the image\'s own command"]', "ENV FROM_IMAGE=yes", "LABEL kept=1")


@pytest.fixture(scope="session")
def scratch() -> Iterator[str]:
    """A directory on a disk: /tmp may be a tmpfs, on which overlayfs and quotas differ."""
    directory = tempfile.mkdtemp(prefix="minicontainer-clients.", dir="/var/tmp")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def passable(scratch: str) -> Iterator[str]:
    """A directory in there that others get through, too: root of a container may be nobody here."""
    directory = tempfile.mkdtemp(prefix="passable.", dir=scratch)
    for path in (scratch, directory):
        os.chmod(path, 0o711)
    yield directory
    os.chmod(scratch, 0o700)


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


class Pods(NamedTuple):
    """A containerd whose handlers are runc and the README's, and the name of its image with busybox."""

    daemon: containerd.Containerd
    image: str


@contextlib.contextmanager
def containerd_with(runtimes: str, directory: str, rootfs: str) -> Iterator[Pods]:
    """A private containerd with these runtimes, and images in the namespaces of the kubelet and of ctr."""
    missing = containerd.missing()
    if missing:
        pytest.skip(missing)
    pause, image = "localhost/pause:test", "localhost/busybox:test"
    daemon = containerd.Containerd(directory, runtimes, pause)
    daemon.start()
    try:
        for name, entrypoint in ((pause, ("/bin/sleep", "infinity")), (image, ())):
            archive = f"{daemon.directory}/image.tar"
            docker_archive.write(archive, name, rootfs, entrypoint=entrypoint)
            for namespace in (daemon.namespace, "k8s.io"):
                daemon.ctr("images", "import", archive, namespace=namespace)
        yield Pods(daemon, image)
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def pods(scratch: str, busybox_tarball: str) -> Iterator[Pods]:
    """A containerd with runc and the README's runtime as handlers."""
    runtimes = readme.block("toml", "io.containerd.grpc.v1.cri", OURS) + containerd.RUNC
    with containerd_with(runtimes, tempfile.mkdtemp(prefix="containerd.", dir=scratch), busybox_tarball) as made:
        yield made


@pytest.fixture(scope="session")
def dockers(scratch: str, busybox_tarball: str) -> Iterator[tuple[Docker, Docker]]:
    """docker with runc, and with the runtime that the README's daemon.json names and makes the default; one daemon."""
    missing = dockerd.missing()
    if missing:
        pytest.skip(missing)
    settings = readme.block("json", "runtimes", OURS)
    daemon = dockerd.Dockerd(tempfile.mkdtemp(prefix="docker.", dir=scratch), arguments=("--live-restore",), settings=settings)
    daemon.start()
    try:
        daemon.import_rootfs(busybox_tarball, Docker.image, *CHANGES)
        yield Docker(daemon, "runc"), Docker(daemon, json.loads(settings)["default-runtime"])
    finally:
        daemon.stop()
