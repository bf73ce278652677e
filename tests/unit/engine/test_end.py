"""What a container may leave on disk can be removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.engine.end import remove_tree


@pytest.mark.parametrize(("name", "levels"), [("d", 1500), ("d" * 200, 30)], ids=["many levels", "longer than a path"])
def test_folders_however_deep_go_and_what_links_lead_to_stays(tmp_path: Path, name: str, levels: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "top").mkdir()
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "top")
        for _ in range(levels):
            os.symlink(tmp_path / "kept", "link")
            os.mkdir(name)
            os.chdir(name)
    finally:
        os.chdir(here)
    remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path) == ["kept"] and os.listdir(tmp_path / "kept") == ["file"]
    remove_tree(str(tmp_path / "top"))  # one that is gone is no error
