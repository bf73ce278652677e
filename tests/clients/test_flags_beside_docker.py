"""Our `run` knows every flag of docker's, and answers a wrong one as docker's client does."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from minicontainer.cli.flags import parse
from minicontainer.cli.run_flags import CREATE_FLAGS, RUN_FLAGS
from minicontainer.errors import UsageError

pytestmark = pytest.mark.skipif(not shutil.which("docker"), reason="docker's client is not installed")


def _docker(*args: str) -> subprocess.CompletedProcess:
    """docker's client; no daemon answers at that socket, so nothing ever runs."""
    return subprocess.run(["docker", "-H", "unix:///nonexistent.sock", *args], capture_output=True, text=True)


@pytest.mark.parametrize(("verb", "table"), [("run", RUN_FLAGS), ("create", CREATE_FLAGS)])
def test_every_flag_of_docker_is_known(verb: str, table: tuple) -> None:
    """Each flag of `docker run --help` is ours too, with the same letter, or is refused with a reason."""
    ours = {flag.name: flag for flag in table}
    theirs = {}
    for line in _docker(verb, "--help").stdout.splitlines():
        words = line.replace(",", " ").split()
        names = [word[2:] for word in words[:2] if word.startswith("--")]
        if names:
            theirs[names[0]] = words[0][1:] if words[0][1] != "-" else ""
    assert len(theirs) > 90
    assert not theirs.keys() - ours.keys()
    wrong = {name for name, letter in theirs.items() if not ours[name].refused and ours[name].short != letter}
    assert not wrong


@pytest.mark.parametrize(
    "args",
    [
        ["--foo"], ["-z"], ["-itz"], ["--memory"], ["-itm"], ["---x"], ["--=x"],
        ["-m", "x"], ["-m", "1x"], ["-m", "1kk"], ["-m", "-1"], ["-memory", "5"],
        ["--cpus", "0.1234567891"], ["--ulimit", "x"], ["--ulimit", "x=1"], ["--ulimit", "nofile=2:1"],
        ["-e", "=a"], ["-l", "=a"], ["-l", "a b=c"], ["--device-read-bps", "x"], ["--device-read-bps", "x:1"],
        ["--blkio-weight-device", "/dev/sda"], ["--sysctl", "kernel.panic=1"], ["--dns", "x"], ["--dns-search", "a..b"],
        ["--add-host", "x"], ["--add-host", "x:y"], ["--device-cgroup-rule", "x"], ["-a", "stdfoo"],
        ["--mount", "x"], ["--mount", "type=tmpfs,tmpfs-size=x"],
        ["--mount", "type=volume,dst=/x,bind-propagation=rslave"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_errors_begin_as_dockers(args: list[str]) -> None:
    """The message is docker's, perhaps with more behind it: the form that would be right."""
    ran = _docker("run", *args, "image")
    theirs = ran.stderr.splitlines()[0]
    assert ran.returncode == 125 and "Cannot connect" not in theirs
    with pytest.raises(UsageError) as caught:
        parse(RUN_FLAGS, [*args, "image"], False)
    ours = str(caught.value)
    assert ours.startswith(theirs), f"{ours!r}\n{theirs!r}"
