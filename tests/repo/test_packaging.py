"""`make install` in small: the wheel has the compiled parts, the launchers start without a scan of site-packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import minicontainer
from tests.repo.test_lint import ROOT, tracked

BUILD_SECONDS = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tracked files alone, in a folder of its own: nothing compiled here before can slip in."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked("minicontainer", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", "wheels", "."],
                   cwd=source, check=True, timeout=BUILD_SECONDS)
    return next((source / "wheels").glob("*.whl"))


def test_the_wheel_has_every_module_and_the_compiled_parts(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {n for n in tracked("minicontainer") if n.endswith((".py", ".json"))} <= names
    assert {"minicontainer/stub/stub", "minicontainer/stub/monitor"} <= names
    assert [n for n in names if n.startswith("minicontainer/kernel/_kernel.") and n.endswith(".so")]
    assert not [n for n in names if n.endswith((".c", ".h", ".o")) or n.startswith(("tests/", "images/", "examples/"))]


def test_an_installed_command_starts_isolated_from_a_folder_that_is_not_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked like pip does it; the compiled parts load, the stub and the monitor are programs."""
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps", "--no-index",
                    "--target", site, wheel], check=True, timeout=BUILD_SECONDS)
    for program in ("stub", "monitor"):
        assert os.access(site / "minicontainer" / "stub" / program, os.X_OK)
    dependencies = os.path.dirname(os.path.dirname(pytest.__file__))
    write_launchers(tmp_path / "bin", str(site), dependencies)
    done = subprocess.run([tmp_path / "bin" / "minicontainer", "--version"], cwd="/", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"minicontainer version {minicontainer.__version__}\n", "")
    loaded = f"import sys; sys.path += [{str(site)!r}, {dependencies!r}]; import minicontainer.kernel.calls as c; print(c.__file__)"
    done = subprocess.run([sys.executable, "-IS", "-c", loaded], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(site))


def test_an_installed_command_imports_its_modules_from_one_file(wheel: Path, tmp_path: Path) -> None:
    """With a bundle the modules' own files may be gone; another interpreter than the one that made it reads those."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    subprocess.run([sys.executable, "-IS", ROOT / "tools" / "bundle.py", site / "minicontainer"], check=True)
    write_launchers(tmp_path / "bin", str(site), os.path.dirname(os.path.dirname(pytest.__file__)))
    other = tmp_path / "bin" / "other"
    shutil.copy2(tmp_path / "bin" / "minicontainer-oci", other)
    other.write_text(other.read_text().replace(f"== {sys.hexversion}:", "== 1:"))
    assert subprocess.run([other, "--version"], cwd="/", capture_output=True, check=False).returncode == 0
    for path in (site / "minicontainer").rglob("*.py"):
        path.unlink()
    assert subprocess.run([other, "--version"], cwd="/", capture_output=True, check=False).returncode == 1
    subprocess.run([tmp_path / "bin" / "minicontainer-oci", "spec", "--bundle", tmp_path], cwd="/", check=True)
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["sh"]


def write_launchers(folder: Path, *paths: str) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "launchers.py", sys.executable, folder, *paths], check=True)


def test_both_launchers_are_written_whole_and_executable(tmp_path: Path) -> None:
    write_launchers(tmp_path, "/some/where")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["minicontainer", "minicontainer-oci"]
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o755
        assert path.read_text().startswith(f"#!{sys.executable} -IS\nimport sys\nsys.path += ['/some/where']\n")


def test_a_launcher_that_the_kernel_could_not_start_is_refused(tmp_path: Path) -> None:
    """execve(2) reads 255 bytes of a script's first line; the rest would be cut off silently."""
    python = "/" + "x" * 250 + "/python"
    done = subprocess.run([sys.executable, ROOT / "tools" / "launchers.py", python, tmp_path, "/p"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "too long for the first line of a script" in done.stderr
    assert list(tmp_path.iterdir()) == []
