"""Fixtures of the integration tests: real containers on directories, cgroups and a network namespace of their own."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.ours import PROGRAM, REPOSITORY
from tests.integration.engine import IMAGE, Engine, new_engine
from tests.integration.leftovers import here, left
from tests.integration.network_lab import Lab, missing
from tests.integration.oci import Oci


def _missing() -> str:
    """Why there can be no container here, or an empty string."""
    if os.geteuid() != 0:
        return "containers need root"
    for tool in ("nsenter", "unshare", "ip", "nft"):
        if shutil.which(tool) is None:
            return f"the tests need {tool}"
    if not os.path.exists(PROGRAM) or not glob.glob(f"{REPOSITORY}/minicontainer/kernel/_kernel.*.so"):
        return "not compiled yet: make ext"
    return ""


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> str:
    """busybox' root file system as a tarball."""
    path = str(tmp_path_factory.mktemp("images") / "busybox.tar")
    subprocess.run(
        [sys.executable, f"{REPOSITORY}/images/busybox/build.py", path],
        cwd=REPOSITORY,
        check=True,
        env={**os.environ, "PYTHONPATH": REPOSITORY},
    )
    return path


@pytest.fixture(scope="session")
def _shared_engine(tarball: str) -> Iterator[Engine]:
    missing = _missing()
    if missing:
        pytest.skip(missing)
    engine = new_engine()
    try:
        engine.import_rootfs(tarball, IMAGE)
        # What is made once and stays: the folders of the data root, the bridge, the table of the firewall.
        engine.ok("run", "--rm", "-v", "/volume", "-p", "127.0.0.1:18080:80", IMAGE, "true")
        engine.empty = here(engine)
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(engine.directory)


@pytest.fixture
def engine(_shared_engine: Engine) -> Iterator[Engine]:
    """minicontainer with the image `busybox`. Its containers are removed after each test, and nothing may be left of them."""
    yield _shared_engine
    _shared_engine.clear()
    end = time.monotonic() + 20  # what ended by itself may still be cleaning up
    while left(_shared_engine.empty, here(_shared_engine)) and time.monotonic() < end:
        time.sleep(0.05)
    after = here(_shared_engine)
    rest = left(_shared_engine.empty, after)
    _shared_engine.empty = after  # a failure is told once
    assert not rest, f"the test's containers are removed, but these are left: {rest}"


@pytest.fixture
def other_engine(_shared_engine: Engine, tarball: str) -> Iterator[Engine]:
    """An engine for one test alone, for those that break things."""
    engine = new_engine()
    try:
        engine.import_rootfs(tarball, IMAGE)
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(engine.directory)


@pytest.fixture
def rootfs(tmp_path: Path, tarball: str) -> Path:
    """A root file system as a folder that a test may spoil."""
    folder = tmp_path / "rootfs"
    folder.mkdir()
    subprocess.run(["tar", "-xf", tarball, "-C", folder], check=True)
    return folder


@pytest.fixture
def oci(tmp_path: Path, rootfs: Path) -> Iterator[Oci]:
    """minicontainer-oci with a bundle. Its containers are deleted after the test, and nothing may be left of them."""
    missing = _missing()
    if missing:
        pytest.skip(missing)
    box = Oci(tmp_path, rootfs)
    try:
        yield box
        box.clear()
        end = time.monotonic() + 5  # what was killed may still be going
        while box.left() and time.monotonic() < end:
            time.sleep(0.05)
        assert not box.left(), "the test's containers are deleted"
    finally:
        box.stop()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A network of namespaces in which this process is the host."""
    if missing():
        pytest.skip(missing())
    made = Lab(str(tmp_path))
    try:
        yield made
    finally:
        made.close()
