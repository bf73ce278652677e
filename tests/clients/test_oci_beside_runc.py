"""minicontainer-oci beside runc: the same command lines on the same bundle give the same exit codes, output and messages."""

from __future__ import annotations

import copy
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.clients.oci_beside import Bundle, Runtime, same
from tests.clients.oci_beside_cases import CONFIGS, REFUSED, SCRIPTS
from tests.clients.oci_beside_differences import DIFFERENCES
from tests.clients.peer_first import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNC = shutil.which("runc", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes containers: needs root"),
    pytest.mark.skipif(RUNC is None, reason="runc is not installed: make peers"),
]


class Beside:
    """runc and ours on one bundle; default: `runc spec` with a cgroup of the test's own and no terminal."""

    def __init__(self, folder: str, bundle: Bundle) -> None:
        assert RUNC
        self.bundle = bundle
        self.theirs = Runtime(RUNC, folder, bundle.folder)
        self.ours = Runtime(OURS, folder, bundle.folder)
        self.theirs.run("spec")
        with open(f"{bundle.folder}/config.json") as file:
            self.default = json.load(file)
        self.default["process"]["terminal"] = False
        self.default["linux"]["cgroupsPath"] = f"/{bundle.cgroup}/one"

    def compare(self, subject: str, steps: list[str], *, words: bool = True) -> None:
        """Plays a script to both. What differs must be in the table, and what is in the table must differ.

        words: whether messages say the same; else it is enough that both or none end with an error.
        """
        theirs, ours = self.theirs.play(steps), self.ours.play(steps)
        differ = []
        for step, theirs_answer in theirs.items():
            known = DIFFERENCES.get((subject, step), ("", {}))
            for part, their in theirs_answer.parts().items():
                our = ours[step].parts()[part]
                if not words and part == "stderr":
                    our, their = ([level for level, _ in said[-1:]] for said in (ours[step].said, theirs_answer.said))
                if part in known[1]:
                    wanted = known[1][part]
                    if not same(our, wanted):
                        differ.append(f"{step}: {part} is not as in the table of differences\nours   {our}\ntable  {wanted}")
                    elif same(our, their):
                        differ.append(f"{step}: {part} is the same: take it out of the table of differences")
                elif not same(our, their):
                    differ.append(f"{step}: {part}\nours   {our}\ntheirs {their}")
        assert not differ, f"{len(differ)} differences\n" + "\n".join(differ)


@pytest.fixture(scope="module")
def beside(scratch: str, busybox_tarball: str) -> Iterator[Beside]:
    folder = f"{scratch}/beside-runc"
    os.mkdir(folder)
    bundle = Bundle(folder, busybox_tarball)
    yield Beside(folder, bundle)
    bundle.remove()


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_line_without_a_container(beside: Beside, line: str) -> None:
    beside.bundle.write(beside.default)
    beside.compare("", [line])


@pytest.mark.parametrize("subject", SCRIPTS)
def test_a_script(beside: Beside, subject: str) -> None:
    args, steps = SCRIPTS[subject]
    config = copy.deepcopy(beside.default)
    config["process"]["args"] = list(args)
    beside.bundle.write(config)
    beside.compare(subject, steps)


@pytest.mark.parametrize("subject", CONFIGS)
def test_a_config_is_run_or_refused_as_by_runc(beside: Beside, subject: str) -> None:
    keys, value = CONFIGS[subject]
    config = copy.deepcopy(beside.default)
    config["process"]["args"] = ["true"]
    parent = config
    for key in keys[:-1]:
        parent = parent[key]  # type: ignore[index,assignment]
    if value is None:
        del parent[keys[-1]]  # type: ignore[arg-type]
    else:
        parent[keys[-1]] = value  # type: ignore[index]
    beside.bundle.write(config)
    beside.compare(subject, ["run one", "create one", "state one"], words=False)


@pytest.mark.parametrize("flags", [[], ["--rootless"]])
def test_spec_writes_the_same_config(beside: Beside, flags: list[str]) -> None:
    """But for the version of the specification, and ambient capabilities, which can't be without inheritable ones (runc 1.2 said so)."""
    configs = []
    for runtime in (beside.theirs, beside.ours):
        assert runtime.run("spec", "--bundle", runtime.tmp, *flags) == (0, "", "")
        with open(f"{runtime.tmp}/config.json") as file:
            configs.append(json.load(file))
        code, out, err = runtime.run("spec", "-b", runtime.tmp)
        assert (code, out) == (1, "") and "File config.json exists. Remove it first" in err
        runtime.clean()
    assert configs[1].pop("ociVersion") > configs[0].pop("ociVersion")
    assert configs[0]["process"]["capabilities"].pop("ambient")
    assert configs[1] == configs[0]


def test_features_are_those_of_runc_and_more(beside: Beside) -> None:
    theirs, ours = (json.loads(runtime.run("features")[1]) for runtime in (beside.theirs, beside.ours))
    assert ours["ociVersionMin"] == theirs["ociVersionMin"] and ours["ociVersionMax"] > theirs["ociVersionMax"]
    assert ours["hooks"] == theirs["hooks"]
    assert set(theirs["mountOptions"]) <= set(ours["mountOptions"])
    for name in ("namespaces", "capabilities"):
        assert set(theirs["linux"][name]) <= set(ours["linux"][name])
    for name in ("actions", "operators", "archs"):
        assert set(theirs["linux"]["seccomp"][name]) <= set(ours["linux"]["seccomp"][name])


def test_version_has_the_lines_that_clients_read(beside: Beside) -> None:
    for runtime in (beside.theirs, beside.ours):
        lines = [line.split(" ", 1) for line in runtime.run("--version")[1].splitlines()]
        assert lines[0][0] == runtime.name and lines[0][1].startswith("version ")
        assert {"commit:", "spec:", "libseccomp:"} <= {first for first, _ in lines[1:]}
        assert runtime.run("-v") == runtime.run("--version")
