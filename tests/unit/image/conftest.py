"""A store of its own for each test, and a directory outside it that no import may touch."""

from __future__ import annotations

import os

import pytest

from minicontainer.image.store import Store
from tests.unit.image import archives


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def outside(tmp_path):
    """A directory with a file `secret`; the test fails if anything about it changes."""
    top = tmp_path / "outside"
    top.mkdir()
    (top / "secret").write_text("untouched\n")
    (top / "secret").chmod(0o600)
    before = archives.snapshot(str(top))
    yield top
    assert archives.snapshot(str(top)) == before, "something outside the layer was touched"


def leftovers(store: Store) -> list[str]:
    """What is in the store that looks like an image, or a part of one."""
    layout = store.layout
    found = [str(d) for d in layout.read_index()]
    for directory in (layout.blobs, layout.layers, layout.tmp):
        found += os.listdir(directory) if os.path.isdir(directory) else []
    return found
