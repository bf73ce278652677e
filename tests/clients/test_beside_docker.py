"""minicontainer run beside docker run: the same commands on the same rootfs have the same result.

Whatever differs is on the list in beside_differences.py, with its reason; that list and the README's are one.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.clients.beside import differences, namespace_words, transcript
from tests.clients.beside_cases import CASES, IMAGE
from tests.clients.beside_differences import DIFFERENCES
from tests.clients.ours import REPOSITORY

if TYPE_CHECKING:
    from tests.clients.beside import Difference, Transcript
    from tests.clients.beside_cases import Case
    from tests.clients.dockerd import Dockerd
    from tests.clients.ours import Ours

SECTION = "### Differences from docker run"
EVERY_CAPABILITY_CASES = sum(case.every_capability for case in CASES)
KINDS = ("cgroup", "ipc", "pid", "user", "uts", "time")

with open(f"{os.path.dirname(__file__)}/probe.sh") as file:
    PROBE = file.read()


class Seen:
    """What the tests met with: the differences, and which cases were run (for the test that looks for stale ones)."""

    def __init__(self) -> None:
        self.differences: set[Difference] = set()
        self.cases: set[str] = set()


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


def shared_directory(parent: str) -> str:
    """A fresh directory for {shared}."""
    path = f"{parent}/shared"
    subprocess.run(["rm", "-rf", path], check=True)
    os.mkdir(path)
    for name, text in (("file", "content\n"), ("env", "# a comment\nONE=1\nTWO=two words\n\nHOME\n")):
        with open(f"{path}/{name}", "w") as file:
            file.write(text)
    return path


def words(case: Case, shared: str) -> list[str]:
    return [word.format(probe=PROBE, shared=shared, name=f"beside-{os.getpid()}") if "{" in word else word for word in case.words]


def docker_transcript(docker: Dockerd, done: subprocess.CompletedProcess[bytes]) -> Transcript:
    alike = [(docker.directory, "<directory>"), (docker.cgroup, "<cgroup>")]
    own_network = namespace_words(str(docker.pid), ["net"])
    return transcript(done, [*alike, *own_network, *namespace_words("self", KINDS)])


def our_transcript(minicontainer: Ours, done: subprocess.CompletedProcess[bytes]) -> Transcript:
    alike = [(minicontainer.directory, "<directory>"), (minicontainer.cgroup, "<cgroup>")]
    own_network = [(os.readlink(f"/proc/self/fd/{minicontainer.network_namespace}"), "host's net namespace")]
    return transcript(done, [*alike, *own_network, *namespace_words("self", KINDS)])


def root_has_every_capability() -> bool:
    """Whether the bounding set has all that this kernel knows (capabilities(7))."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    with open("/proc/self/status") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return bounding == (2 << last) - 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_docker(case: Case, docker: Dockerd, minicontainer: Ours, seen: Seen) -> None:
    """Exit status, output, and everything that the probe sees are docker's, but for the listed differences."""
    if case.every_capability and not root_has_every_capability():
        pytest.skip("docker asks for capabilities that root lacks on this machine, and fails")
    seen.cases.add(case.name)
    stdin, unexplained = case.stdin.encode(), []
    theirs = docker.docker("run", *words(case, shared_directory(docker.directory)), check=False, stdin=stdin)
    mine = minicontainer.run("run", *words(case, shared_directory(minicontainer.directory)), check=False, stdin=stdin)
    sides = docker_transcript(docker, theirs), our_transcript(minicontainer, mine)
    if case.is_probe:  # two that both failed would be alike, and say nothing
        assert "abilities" in sides[0], f"docker: {theirs.stderr.decode()}"
        assert "abilities" in sides[1], f"minicontainer: {mine.stderr.decode()}"
    for section, side, line in differences(*sides):
        reasons = [each for each in DIFFERENCES if each.explains(case.name, section, side, line)]
        seen.differences.update(reasons)
        if not reasons:
            unexplained.append(f"{section}: only {side}: {line}")
    assert not unexplained, "\n".join(["not on the list of differences:", *unexplained])


Step = tuple[str, ...]

LIVES: dict[str, tuple[Step, ...]] = {
    "detached and stopped": (
        (
            "run",
            "-d",
            "--network",
            "none",
            "--name",
            "{name}",
            IMAGE,
            "sh",
            "-c",
            "trap 'exit 9' TERM; while :; do sleep 0.1; done",
        ),
        ("exec", "{name}", "sh", "-c", "echo inside; exit 4"),
        ("stop", "{name}"),
        ("wait", "{name}"),
        ("inspect", "--format", "{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.State.OOMKilled}}}}", "{name}"),
        ("exec", "{name}", "true"),
        ("rm", "{name}"),
        ("rm", "{name}"),
    ),
    "exec with flags": (
        ("run", "-d", "--network", "none", "--name", "{name}", "-e", "ONE=1", "-w", "/tmp", IMAGE, "sleep", "1000"),
        ("exec", "{name}", "sh", "-c", "{probe}"),
        ("exec", "-e", "TWO=2", "-w", "/etc", "-u", "www-data", "{name}", "sh", "-c", "{probe}"),
        ("exec", "-u", "0:5", "{name}", "id"),
        ("exec", "{name}", "no-such-program"),
        ("exec", "{name}", "/etc/passwd"),
        ("exec", "-u", "no-such-user", "{name}", "true"),
        ("exec", "-d", "{name}", "touch", "/mark"),
        ("rm", "--force", "{name}"),
        ("exec", "{name}", "true"),
    ),
    "logs": (
        (
            "run",
            "--network",
            "none",
            "--name",
            "{name}",
            IMAGE,
            "sh",
            "-c",
            "echo out; sleep 0.2; echo err >&2; sleep 0.2; echo end; exit 5",
        ),
        ("logs", "{name}"),
        ("logs", "--tail", "1", "{name}"),
        ("start", "--attach", "{name}"),
        ("logs", "{name}"),
        ("rm", "{name}"),
        ("logs", "{name}"),
    ),
    "killed": (
        ("run", "-d", "--network", "none", "--name", "{name}", IMAGE, "sleep", "1000"),
        ("kill", "--signal", "STOP", "{name}"),
        ("kill", "{name}"),
        ("wait", "{name}"),
        ("kill", "{name}"),
        ("start", "{name}"),
        ("rm", "{name}"),
        ("stop", "--time", "0", "{name}"),
        ("inspect", "--format", "{{{{.State.ExitCode}}}}", "{name}"),
        ("rm", "{name}"),
    ),
    "name taken": (
        ("create", "--network", "none", "--name", "{name}", IMAGE, "echo", "started"),
        ("create", "--network", "none", "--name", "{name}", IMAGE, "true"),
        ("start", "-a", "{name}"),
        ("ps", "--all", "--quiet", "--filter", "name={name}"),
        ("rm", "{name}"),
        ("ps", "--all", "--quiet", "--filter", "name={name}"),
    ),
    "paused": (
        ("run", "-d", "--network", "none", "--name", "{name}", IMAGE, "sleep", "1000"),
        ("pause", "{name}"),
        ("inspect", "--format", "{{{{.State.Status}}}}", "{name}"),
        ("exec", "{name}", "true"),
        ("unpause", "{name}"),
        ("unpause", "{name}"),
        ("exec", "{name}", "true"),
        ("rm", "-f", "{name}"),
    ),
}


@pytest.mark.parametrize("life", LIVES)
def test_same_life(life: str, docker: Dockerd, minicontainer: Ours, seen: Seen) -> None:
    """What follows a run (exec, stop, kill, wait, logs, rm) prints the same and ends with the same status."""
    seen.cases.add(life)
    name = f"beside-{os.getpid()}"
    unexplained = []
    for number, step in enumerate(LIVES[life], 1):
        arguments = [word.format(name=name, probe=PROBE) for word in step]
        theirs = docker_transcript(docker, docker.docker(*arguments, check=False))
        mine = our_transcript(minicontainer, minicontainer.run(*arguments, check=False))
        for section, side, line in differences(theirs, mine):
            reasons = [each for each in DIFFERENCES if each.explains(f"{life} {number}", section, side, line)]
            seen.differences.update(reasons)
            if not reasons:
                unexplained.append(f"{number} {step[0]}: {section}: only {side}: {line}")
    assert not unexplained, "\n".join(["not on the list of differences:", *unexplained])


def test_no_listed_difference_is_stale(seen: Seen) -> None:
    """Each difference on the list was met with: what is docker's again must leave the list (and the README)."""
    if not os.path.exists("/sys/fs/cgroup/unified") or len(seen.cases) + EVERY_CAPABILITY_CASES < len(CASES) + len(LIVES):
        pytest.skip("says something only after all cases, on a host with hybrid cgroups")
    stale = [each.title for each in DIFFERENCES if each.everywhere and each not in seen.differences]
    assert not stale, "\n".join(["no longer a difference:", *stale])


def test_readme_lists_the_same_differences() -> None:
    """The README's section has exactly the listed differences, in their order and words."""
    with open(f"{REPOSITORY}/README.md") as file:
        readme = file.read()
    assert f"{SECTION}\n" in readme, f"the README lacks a section {SECTION!r}"
    section = readme.split(f"{SECTION}\n")[1].split("\n## ")[0]
    bullets = [" ".join(bullet.split()) for bullet in section.split("\n- ")[1:]]
    listed = [each.title for each in DIFFERENCES]
    assert bullets == listed, "the README's section should be:\n" + "\n".join(f"- {title}" for title in listed)
