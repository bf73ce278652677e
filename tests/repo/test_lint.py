"""The repository keeps its own rules: ruff, mypy, import-linter and shellcheck find nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent  # the venv's own; never those of another Python on PATH


def tracked(*patterns: str) -> list[str]:
    """The files that git knows or would take, and so not what a build left behind."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return sorted(name for name in set(names) if name and (ROOT / name).exists())


def finds_nothing(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{Path(command[0]).name}:\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    finds_nothing(TOOLS / "ruff", "check", "--quiet", "--output-format", "concise")


def test_mypy_finds_nothing() -> None:
    finds_nothing(TOOLS / "mypy")


def test_imports_go_down_only_and_each_dependency_has_one_owner() -> None:
    finds_nothing(TOOLS / "lint-imports", "--no-cache")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    scripts = [name for name in tracked() if name.endswith(".sh") or _is_shell(ROOT / name)]
    assert ".ci/run" in scripts
    finds_nothing("shellcheck", *scripts)


def _is_shell(path: Path) -> bool:
    with open(path, "rb") as f:
        first = f.readline(64)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash"))
