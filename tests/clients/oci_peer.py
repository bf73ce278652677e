"""Fixtures for tests that play the same script to runc first, and then to minicontainer-oci, on a bundle of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import rootfs, tarball
from tests.integration.oci import PROGRAM, Oci

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Peer", "oci_peer", "rootfs", "tarball"]


class Peer(Oci):
    """A bundle, and a runtime that is not ours to run it with."""

    program = "runc"

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [self.program, "--root", str(self.root), *words]


@pytest.fixture(params=["runc", PROGRAM], ids=["runc", "ours"])
def oci_peer(request: pytest.FixtureRequest, tmp_path: Path, rootfs: Path) -> Iterator[Peer]:
    """runc, then ours. Nothing may be left of their containers after the test."""
    box = Peer(tmp_path, rootfs)
    box.program = request.param
    box.config["ociVersion"] = "1.0.2"

    try:
        yield box
        box.clear()
        end = time.monotonic() + 5
        while box.left() and time.monotonic() < end:
            time.sleep(0.05)
        assert not box.left(), "the test's containers are deleted"
    finally:
        box.stop()
