"""exec: one more program in a running container, with the container's own rights and no more."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.engine import IMAGE, Engine, until


@pytest.fixture
def box(engine: Engine) -> Iterator[str]:
    """A running container with some flags of its own."""
    yield engine.detached(
        "--name", "target", "-h", "someone", "-e", "A=1", "-w", "/tmp", "--cap-drop", "CHOWN", "-m", "64m", IMAGE, "sleep", "600"
    )


@pytest.mark.parametrize(("words", "code"), [(("true",), 0), (("sh", "-c", "exit 42"), 42), (("no-such-program",), 127), (("/etc/passwd",), 126),
                                             (("sh", "-c", "kill -KILL $$"), 137), (("sh", "-c", "kill -TERM $$"), 143)])  # fmt: skip
def test_exit_code(engine: Engine, box: str, words: tuple[str, ...], code: int) -> None:
    """docker's exit codes, 128 + signal included."""
    assert engine.do("exec", box, *words).code == code


def test_is_in_everything_of_the_container(engine: Engine, box: str) -> None:
    """Namespaces, root, cgroups, capabilities, filter, environment, directory: all as the first process has them."""
    script = (
        "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; pwd; echo $A $HOSTNAME $HOME; grep -e Cap -e Seccomp: -e SigIgn /proc/self/status; "
        "cat /proc/self/cgroup; ls /proc/self/fd"
    )
    mine = engine.ok("exec", box, "sh", "-c", script)
    pid = engine.pid(box)
    expected = [os.readlink(f"/proc/{pid}/ns/{n}") for n in ("cgroup", "ipc", "mnt", "net", "pid", "uts")]
    expected += ["/tmp", "1 someone /root"]
    with open(f"/proc/{pid}/status") as f:
        expected += [line.rstrip("\n") for line in f if line.startswith(("Cap", "Seccomp:", "SigIgn"))]
    assert mine.splitlines()[: len(expected)] == expected
    with open(f"/proc/{pid}/cgroup") as f:
        hosts = [line.rstrip("\n").rpartition(":")[0] for line in f]
    rest = mine.splitlines()[len(expected) :]
    assert [line.rpartition(":")[0] for line in rest[: len(hosts)]] == hosts
    assert rest[len(hosts) :] == ["0", "1", "2", "3"]


def test_cgroup_of_it(engine: Engine, box: str) -> None:
    """What exec starts counts towards the container's limits, in every hierarchy."""
    with engine.spawn("exec", box, "sleep", "500"):

        def found() -> list[str]:
            return [p for p in os.listdir("/proc") if p.isdecimal() and _is(p, b"sleep\x00500\x00")]

        until(found, "it runs")
        inside, first = int(found()[0]), engine.pid(box)
        with open(f"/proc/{inside}/cgroup") as a, open(f"/proc/{first}/cgroup") as b:
            assert a.read() == b.read()
        os.kill(inside, signal.SIGKILL)


def _is(pid: str, cmdline: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read() == cmdline
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_flags(engine: Engine, box: str) -> None:
    """-e adds, -w and -u change, for this program alone."""
    out = engine.ok(
        "exec",
        "-e",
        "B=2",
        "-e",
        "A=other",
        "-w",
        "/etc",
        "-u",
        "nobody",
        box,
        "sh",
        "-c",
        "echo $A $B; pwd; id -u; id -g; grep CapEff /proc/self/status",
    )
    assert out.splitlines() == ["other 2", "/etc", "65534", "65534", "CapEff:\t0000000000000000"]
    assert engine.ok("exec", box, "sh", "-c", "echo $A; pwd; id -u") == "1\n/tmp\n0\n"


def test_privileged(engine: Engine, box: str) -> None:
    """--privileged: all capabilities for this program."""
    mine = engine.ok("exec", "--privileged", box, "grep", "CapEff", "/proc/self/status")
    assert int(mine.split()[1], 16) & 1 << 21


def test_streams(engine: Engine, box: str) -> None:
    """-i gives input; without it there is none; outputs stay apart."""
    done = engine.do("exec", "-i", box, "sh", "-c", "cat; echo err >&2", stdin=b"typed\n")
    assert (done.out, done.err) == ("typed\n", "err\n")
    assert engine.do("exec", box, "cat", stdin=b"not seen").out == ""


def test_large_output(engine: Engine, box: str) -> None:
    """Megabytes come whole."""
    out = engine.ok("exec", box, "sh", "-c", "dd if=/dev/zero bs=64k count=100 2>/dev/null | tr '\\0' o")
    assert out == "o" * 6553600


def test_detached(engine: Engine, box: str) -> None:
    """-d returns at once; the program goes on."""
    assert engine.ok("exec", "-d", box, "sh", "-c", "sleep 0.3; echo done >/tmp/there") == ""
    until(lambda: engine.do("exec", box, "cat", "/tmp/there").out == "done\n", "it has done its work")


def test_ends_with_its_command(engine: Engine, box: str) -> None:
    """An exec whose command is killed does not stay in the container."""
    with engine.spawn("exec", box, "sh", "-c", "echo ready; exec sleep 501", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.kill()
    until(lambda: "sleep 501" not in engine.ok("exec", box, "ps"), "it is gone")


def test_ends_with_the_container(engine: Engine, box: str) -> None:
    """When the container is killed, what exec started ends too."""
    with engine.spawn("exec", box, "sh", "-c", "echo ready; exec sleep 502", stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        engine.ok("kill", box)
        assert running.wait(60) == 137


def test_not_running(engine: Engine) -> None:
    """In a container that does not run there is nothing to execute: docker's words."""
    name = engine.ok("create", IMAGE, "true").strip()
    done = engine.do("exec", name, "true")
    assert done.code in (1, 125)
    assert "is not running" in done.err
    done = engine.do("exec", "nosuch", "true")
    assert done.code in (1, 125)
    assert "No such container: nosuch" in done.err


def test_user_that_is_not_there(engine: Engine, box: str) -> None:
    """An unknown user is an error that says so."""
    done = engine.do("exec", "-u", "nosuchuser", box, "true")
    assert done.code != 0
    assert "nosuchuser" in done.err


def test_ten_at_once(engine: Engine, box: str) -> None:
    """Concurrent execs do not disturb one another."""
    running = [engine.spawn("exec", box, "echo", str(i), stdout=subprocess.PIPE) for i in range(10)]
    assert [p.communicate(timeout=120)[0] for p in running] == [f"{i}\n".encode() for i in range(10)]
