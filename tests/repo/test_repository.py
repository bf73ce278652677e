"""What is committed: no place of anyone's machine, no module that has two subjects, no heavy import at start-up."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.test_lint import ROOT, tracked

PACKAGE = ROOT / "minicontainer"
LONGEST_MODULE = 450  # lines

# What costs milliseconds to import. `run`, `create`, `start` and `exec` import none of it; other verbs do so when they run.
HEAVY = {"json", "re", "enum", "typing", "dataclasses", "functools", "collections", "pathlib", "subprocess", "tempfile",
         "shutil", "hashlib", "argparse", "logging", "contextlib", "socket", "datetime",
         "cffi", "pyroute2", "prometheus_client", "prctl", "rich", "zstandard"}

ORDINARY_FOLDERS = {"/", "/tmp", "/var/tmp", "/srv", "/opt", "/root", "/usr/src", "/usr/local/src", "/mnt", "/home"}

# Where `run`, `create`, `start`, `exec` and the OCI verbs pass through.
HOT_MODULES = ("cli.main", "cli.oci", "cli.oci.create", "cli.oci.exec", "cli.oci.foreground", "cli.oci.life", "cli.run", "cli.life", "engine.run", "engine.create", "engine.start", "engine.exec",
               "runtime.launch", "image.store")


def modules(pattern: str = "*.py") -> list[Path]:
    """The package's Python files that are, or would be, committed."""
    return [ROOT / name for name in tracked(f"minicontainer/**/{pattern}", f"minicontainer/{pattern}")]


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    """The paths of this checkout and of the folder it lies in, where that is not one that every machine has."""
    folders = [ROOT] if str(ROOT.parent) in ORDINARY_FOLDERS else [ROOT, ROOT.parent]
    place = re.compile(rb"(?<![\w.})])(" + b"|".join(re.escape(os.fsencode(p)) for p in folders) + rb")/")
    assert [name for name in tracked() if place.search((ROOT / name).read_bytes())] == []


def test_every_module_says_what_it_is_and_stays_readable() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
        assert text.count("\n") <= LONGEST_MODULE, f"{path} has more than {LONGEST_MODULE} lines: one subject?"


def test_no_error_is_swallowed() -> None:
    """`except …: pass` and `contextlib.suppress(Exception)` hide what a user needs to know."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(n, ast.Pass) for n in node.body):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert _is_narrow(node.type), f"{path}:{node.lineno} forgets {caught}"


def _is_narrow(caught: ast.expr | None) -> bool:
    """One errno that is no failure (FileNotFoundError, ProcessLookupError …), not a whole class of them."""
    if caught is None:
        return False
    names = [ast.unparse(n) for n in (caught.elts if isinstance(caught, ast.Tuple) else [caught])]
    return not {"Exception", "BaseException", "OSError", "MinicontainerError"} & set(names)


@pytest.mark.parametrize("module", HOT_MODULES)
def test_what_every_start_imports_is_light(module: str) -> None:
    """Importing the module as a launcher does it brings in none of the heavy modules."""
    assert imported_by(f"import minicontainer.{module}") & HEAVY == set()


def test_what_an_engine_calls_most_does_without_os_and_the_compiled_part() -> None:
    """`start`, `state`, `kill` and `delete` of the OCI face: os takes 0.8 ms to import, cffi 1 ms, of 7 in all."""
    statement = "import minicontainer.cli.oci.life, minicontainer.runtime.starting, minicontainer.runtime.ending"
    assert imported_by(statement) & {"os", "_cffi_backend", "struct"} == set()


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a statement loads in a launcher's interpreter (-IS, package and site-packages)."""
    site = os.path.dirname(os.path.dirname(pytest.__file__))
    program = f"import sys; sys.path += [{str(ROOT)!r}, {site!r}]; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_licence_is_the_gpl_3_or_later_everywhere_it_is_named() -> None:
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (ROOT / "LICENSE").read_text()
    assert 'license = "GPL-3.0-or-later"' in (ROOT / "pyproject.toml").read_text()


def test_the_changelog_has_an_entry_for_this_version() -> None:
    import minicontainer

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(minicontainer.__version__)}|Unreleased)\]", text, re.M)
