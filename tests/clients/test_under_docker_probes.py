"""What a process sees of its container is the same whether dockerd has it run by runc or by `minicontainer-oci`.

The probe of the comparison with docker looks round containers of every kind of flag; what differs is on the list below.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.clients.beside import differences, namespace_words, transcript
from tests.clients.beside_cases import IMAGE, PROBES
from tests.clients.docker import Docker
from tests.clients.test_beside_docker import KINDS, root_has_every_capability, shared_directory, words

if TYPE_CHECKING:
    from tests.clients.beside import Transcript
    from tests.clients.beside_cases import Case

# What these change is the daemon's work and not the runtime's, or like another case.
LEFT_OUT = {
    "environment", "environment file", "entry point", "the image's command", "resolver", "more hosts", "domain name",
    "file as a volume", "bind mount", "anonymous volume", "memory reservation", "memory without swap limit", "cpu shares",
    "cpu quota", "user by number", "capability added", "many capabilities", "no network", "private ipc namespace",
    "new working directory", "privileged and read-only", "all capabilities", "host network",
}  # fmt: skip
CASES = [case for case in PROBES if case.name not in LEFT_OUT]

MASK = r"(/proc/\S+ root=/null|(/proc/\w+|/sys/firmware|/sys/devices/virtual/powercap) root=/) .*"
# section: (pattern of a line that one of them has and the other has not, reason); all are in the README's list, too
DIFFERENCES = {
    "mounts": (
        (r"/(vol|data|srv/file)? ?root=.* (private|master) \w+ .*", "propagation is private, not slave"),
        (MASK, "files are masked by the host's /dev/null, folders by a tmpfs that is nosuid, nodev, noexec"),
        (r"/sys root=/ ro,.* sysfs r[ow]", "read-only by its mount and not by its superblock"),
        (r"/sys/fs/cgroup root=/ r[ow],.* tmpfs .*", "the directory of the v1 hierarchies is read-only"),
        (r"/sys/fs/cgroup/unified root=\S+ ro,.* cgroup2 rw", "on hybrid hosts the cgroup v2 is there, too"),
    ),
    "directories": (
        (r"(/proc/\w+|/sys/firmware|/sys/devices/virtual/powercap) d.*", "masked folders are 0755"),
        (r"/sys/fs/cgroup d.*", "0755, and read-only by its mount"),
    ),
}


def seen(engine: Docker, case: Case) -> Transcript:
    """What the probe prints in a container of this case, made alike."""
    arguments = [Docker.image if word == IMAGE else word for word in words(case, shared_directory(engine.daemon.directory))]
    done = engine.cli(*engine.run_words(*arguments), check=False, stdin=case.stdin.encode())
    alike = [(engine.daemon.directory, "<directory>"), (engine.daemon.cgroup, "<cgroup>")]
    return transcript(done, [*alike, *namespace_words(str(engine.daemon.pid), ["net"]), *namespace_words("self", KINDS)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_container(case: Case, dockers: tuple[Docker, Docker]) -> None:
    """Exit status and every line of the probe, but for the listed differences."""
    if case.every_capability and not root_has_every_capability():
        pytest.skip("docker asks for capabilities that root lacks on this machine, and fails")
    theirs, ours = (seen(engine, case) for engine in dockers)
    if case.is_probe:
        assert "abilities" in theirs, theirs
    unexplained = [
        f"{section}: only {'runc' if side == 'docker' else 'minicontainer-oci'}: {line}"
        for section, side, line in differences(theirs, ours)
        if not any(re.fullmatch(pattern, line) for pattern, _ in DIFFERENCES.get(section, ()))
    ]
    assert not unexplained, "\n".join(["different:", *unexplained])
