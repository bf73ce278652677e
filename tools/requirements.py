"""requirements.py PYPROJECT [dependencies]: prints what pyproject.toml asks for, one a line, for `pip install -r`.

All of it (to build, run, test and lint), or with `dependencies` only what an installed minicontainer needs.
"""

from __future__ import annotations

import sys
import tomllib


def requirements(pyproject: str, *, only_dependencies: bool = False) -> list[str]:
    """The requirements of a pyproject.toml: build-system, dependencies and every optional group, or fewer."""
    with open(pyproject, "rb") as f:
        data = tomllib.load(f)
    project = data["project"]
    if only_dependencies:
        return project["dependencies"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    return [*data["build-system"]["requires"], *project["dependencies"], *extras]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], only_dependencies="dependencies" in sys.argv[2:])))
