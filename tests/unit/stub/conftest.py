"""Fixtures of the stub's tests."""

from __future__ import annotations

import pytest

from minicontainer.kernel import build


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> str:
    """The monitor, built from the sources beside this test."""
    directory = tmp_path_factory.mktemp("monitor")
    build.build_static(str(directory))
    return str(directory / "monitor")
