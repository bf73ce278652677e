"""The public suites: which programs each has, and how one of them is run with a given runtime.

All three print TAP, take the runtime's path from the environment, and are used as they are, from a folder the caller names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Suite:
    """name: of the suite, and of its folder below the caller's; pattern: of its programs; built: what shows that it was built;
    command(folder, program): argv; variables(folder, runtime): added environment; cgroups: patterns of the names of those that it
    makes, and may leave; in_folder: run there, not in a scratch folder."""

    name: str
    pattern: str
    built: str
    command: Callable[[str, str], list[str]]
    variables: Callable[[str, str], dict[str, str]]
    seconds: int
    cgroups: tuple[str, ...]
    in_folder: bool = False

    def programs(self, folder: str) -> list[str]:
        """The programs' names: their files' without folder and ending. Raises FileNotFoundError if the suite is not built."""
        if not os.path.exists(f"{folder}/{self.built}"):
            raise FileNotFoundError(f"{folder}/{self.built} is missing: build the suite, see tests/conformance/README.md")
        return sorted(os.path.splitext(os.path.basename(path))[0] for path in glob(f"{folder}/{self.pattern}"))


SUITES = (
    Suite(
        "runtime-tools",
        "validation/*/*.t",
        "runtimetest",
        lambda folder, program: [f"{folder}/validation/{program}/{program}.t"],
        lambda folder, runtime: {"RUNTIME": runtime},
        seconds=120,
        cgroups=("testdir", "cgrouptest"),
        in_folder=True,
    ),
    Suite(
        "crun",
        "tests/test_*.py",
        "tests/init",
        lambda folder, program: ["/usr/bin/python3", f"{folder}/tests/{program}.py"],
        lambda folder, runtime: {
            "OCI_RUNTIME": runtime,
            "INIT": f"{folder}/tests/init",
            "PYTHONPATH": f"{os.path.dirname(os.path.realpath(__file__))}/stand_in",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        seconds=120,
        cgroups=("test-tmp*", "test-v1-exec-cgroup-*"),
    ),
    Suite(
        "runc",
        "tests/integration/*.bats",
        "tests/integration/testdata/busybox-amd64.tar.xz",
        lambda folder, program: ["bats", "--tap", f"{folder}/tests/integration/{program}.bats"],
        lambda folder, runtime: {"RUNC": runtime},
        seconds=240,
        cgroups=("runc-cgroups-integration-test", "test_*"),
    ),
)
