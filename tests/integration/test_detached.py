"""Containers in the background: run -d and every verb that looks at them or acts on them."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from tests.integration.engine import IMAGE, Engine, until

FOREVER = "echo started; trap 'echo stopping; exit 7' TERM; while :; do sleep 0.1; done"


def status(engine: Engine, name: str) -> str:
    return engine.field(name, "{{.State.Status}}")


def test_detached_prints_the_id_and_runs(engine: Engine) -> None:
    """run -d returns at once with the id; the container runs and is not a child of the command."""
    ident = engine.detached("--name", "bg", IMAGE, "sleep", "600")
    assert len(ident) == 64
    assert status(engine, "bg") == "running"
    with open(f"/proc/{engine.pid('bg')}/cmdline") as f:
        assert f.read() == "sleep\x00600\x00"


def test_detached_start_that_fails_is_told(engine: Engine) -> None:
    """A start that fails has the same message and exit code as in the foreground, and with --rm leaves nothing."""
    done = engine.do("run", "-d", "--rm", "--network", "none", IMAGE, "no-such-program")
    assert done.code == 127
    assert 'exec: "no-such-program": executable file not found in $PATH' in done.err
    assert done.out == ""
    assert engine.ok("ps", "-aq") == ""


def test_removed_after_its_end(engine: Engine) -> None:
    """run -d --rm: once it has ended, everything is gone."""
    engine.detached("--rm", IMAGE, "true")
    until(lambda: not engine.ok("ps", "-aq") and not os.listdir(f"{engine.directory}/state/containers"), "it is removed")


def test_ps_columns(engine: Engine) -> None:
    """docker's columns, for a running and for an ended container."""
    ended = engine.detached("--name", "ended", IMAGE, "sh", "-c", "exit 3")
    engine.ok("wait", ended)
    running = engine.detached("--name", "running", IMAGE, "sleep", "600")
    lines = engine.ok("ps", "-a").splitlines()
    assert lines[0].split("  ")[0] == "CONTAINER ID"
    assert lines[0].replace("CONTAINER ID", "CONTAINER_ID").split() == [
        "CONTAINER_ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]  # fmt: skip
    assert lines[1].startswith(f"{running[:12]}   {IMAGE}   ")
    assert '"sleep 600"' in lines[1]
    assert " Up " in lines[1]
    assert " ago " in lines[1]
    assert lines[1].endswith(" running")
    assert lines[2].startswith(f"{ended[:12]}   {IMAGE}   ")
    assert " Exited (3) " in lines[2]
    assert engine.ok("ps", "-q") == running[:12] + "\n"
    assert engine.ok("ps", "-aq", "--no-trunc").split() == [running, ended]


def test_ps_filters(engine: Engine) -> None:
    """Filters by name, id, status, exit code, label and image; a filter that is none is an error."""
    ended = engine.detached("--name", "one", "--label", "a=1", IMAGE, "sh", "-c", "exit 3")
    engine.ok("wait", ended)
    running = engine.detached("--name", "two", IMAGE, "sleep", "600")
    made = engine.ok("create", "--name", "three", IMAGE, "true").strip()

    def found(*filters: str) -> set[str]:
        return set(engine.ok("ps", "-aq", "--no-trunc", *(w for f in filters for w in ("--filter", f))).split())

    assert found("name=two") == {running}
    assert found(f"id={made[:8]}") == {made}
    assert found("status=running") == {running}
    assert found("status=exited") == {ended}
    assert found("status=created") == {made}
    assert found("exited=3") == {ended}
    assert found("label=a=1") == {ended}
    assert found(f"ancestor={IMAGE}") == {ended, running, made}
    assert found("label=a", "status=running") == set()
    done = engine.do("ps", "--filter", "colour=red")
    assert done.code == 125
    assert "invalid filter 'colour'" in done.err


def test_ps_formats(engine: Engine) -> None:
    """--format with a template, with json, and -n."""
    for name in ("first", "second"):
        engine.ok("create", "--name", name, IMAGE, "true")
    assert engine.ok("ps", "-a", "--format", "{{.Names}}:{{.Image}}").split() == [f"second:{IMAGE}", f"first:{IMAGE}"]
    rows = [json.loads(line) for line in engine.ok("ps", "-a", "--format", "json").splitlines()]
    assert [row["Names"] for row in rows] == ["second", "first"]
    assert engine.ok("ps", "-n", "1", "--format", "{{.Names}}") == "second\n"
    assert engine.ok("ps", "-l", "--format", "{{.Names}}") == "second\n"


def test_logs(engine: Engine) -> None:
    """Both streams are logged and come back on their own; --tail, -t; a line without its end is kept as it is."""
    name = engine.detached(IMAGE, "sh", "-c", "for i in 1 2 3; do echo out $i; done; echo err >&2; printf end")
    engine.ok("wait", name)
    done = engine.do("logs", name)
    assert (done.out, done.err) == ("out 1\nout 2\nout 3\nend", "err\n")
    assert engine.do("logs", "--tail", "1", name).out == "end"
    assert engine.do("logs", "-n", "0", name).out == ""
    stamped = engine.ok("logs", "-t", "--tail", "1", name)
    assert stamped.endswith("Z end")
    assert stamped.startswith(time.strftime("%Y-", time.gmtime()))


def test_logs_since_and_until(engine: Engine) -> None:
    """--since and --until take a time stamp or a duration."""
    name = engine.detached(IMAGE, "sh", "-c", "echo early; while [ ! -e /go ]; do sleep 0.1; done; echo late")
    until(lambda: "early" in engine.ok("logs", name), "the first line is there")
    stamp = engine.ok("logs", "-t", name).split()[0]
    engine.ok("exec", name, "touch", "/go")
    assert engine.ok("wait", name) == "0\n"
    assert engine.ok("logs", "--since", "10m", name) == "early\nlate\n"
    assert engine.ok("logs", "--until", "10m", name) == ""
    late = engine.ok("logs", "-t", "--tail", "1", name).split()[0]
    assert engine.ok("logs", "--since", late, name) == "late\n"
    assert "late" not in engine.ok("logs", "--until", stamp, name)


def test_logs_follow(engine: Engine) -> None:
    """logs -f shows lines as they come and ends with the container."""
    name = engine.detached(IMAGE, "sh", "-c", "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second")
    with engine.spawn("logs", "-f", name, stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"first\n"
        engine.ok("exec", name, "touch", "/go")
        assert logs.stdout.readline() == b"second\n"
        assert logs.stdout.read() == b""
        assert logs.wait(60) == 0


def test_foreground_is_logged_too(engine: Engine) -> None:
    """The output of a foreground run is in its log afterwards."""
    assert engine.ok("run", "--name", "fg", "--network", "none", IMAGE, "echo", "hello") == "hello\n"
    assert engine.ok("logs", "fg") == "hello\n"


def test_no_logs(engine: Engine) -> None:
    """--log-driver none writes nothing, and `logs` says why there is nothing."""
    engine.ok("run", "--name", "silent", "--log-driver", "none", "--network", "none", IMAGE, "echo", "hello")
    done = engine.do("logs", "silent")
    assert done.code != 0
    assert "keeps no logs" in done.err


def test_log_rotation(engine: Engine) -> None:
    """Logs rotate at max-size and keep max-file files; what is kept can be read in order."""
    name = engine.detached("--log-opt", "max-size=20k", "--log-opt", "max-file=2", IMAGE, "sh", "-c", "seq 1 3000")
    engine.ok("wait", name)
    folder = f"{engine.directory}/root/containers/{name}"
    logs = sorted(f for f in os.listdir(folder) if "json.log" in f)
    assert logs == [f"{name}-json.log", f"{name}-json.log.1"]
    assert all(os.path.getsize(f"{folder}/{f}") <= 21000 for f in logs)
    numbers = [int(line) for line in engine.ok("logs", name).splitlines()]
    assert numbers == list(range(numbers[0], 3001))
    assert 1 < numbers[0] < 3000


def test_stop_lets_the_program_end(engine: Engine) -> None:
    """stop sends SIGTERM and waits: the program's own exit code is kept."""
    name = engine.detached(IMAGE, "sh", "-c", FOREVER)
    until(lambda: "started" in engine.ok("logs", name), "it is ready")
    assert engine.ok("stop", name) == name + "\n"
    assert status(engine, name) == "exited"
    assert engine.field(name, "{{.State.ExitCode}}") == "7"
    assert engine.ok("logs", name) == "started\nstopping\n"


def test_stop_kills_what_does_not_end(engine: Engine) -> None:
    """After -t seconds comes SIGKILL: 137."""
    name = engine.detached(IMAGE, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    begin = time.monotonic()
    engine.ok("stop", "-t", "1", name)
    assert time.monotonic() - begin > 0.9
    assert engine.field(name, "{{.State.ExitCode}}") == "137"


def test_stop_signal(engine: Engine) -> None:
    """--stop-signal of the container is what stop sends."""
    name = engine.detached(
        "--stop-signal", "USR1", IMAGE, "sh", "-c", "trap 'exit 8' USR1; echo ready; while :; do sleep 0.1; done"
    )
    until(lambda: "ready" in engine.ok("logs", name), "it is ready")
    engine.ok("stop", name)
    assert engine.field(name, "{{.State.ExitCode}}") == "8"


def test_kill(engine: Engine) -> None:
    """kill -s sends any signal by name or number; KILL is the default."""
    name = engine.detached(IMAGE, "sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done")
    until(lambda: "ready" in engine.ok("logs", name), "it is ready")
    engine.ok("kill", "-s", "USR1", name)
    until(lambda: "usr1" in engine.ok("logs", name), "the signal came")
    engine.ok("kill", "-s", "10", name)
    engine.ok("kill", name)
    assert engine.ok("wait", name) == "137\n"
    done = engine.do("kill", name)
    assert done.code == 1
    assert "is not running" in done.err
    done = engine.do("kill", "-s", "NOSUCH", name)
    assert done.code == 125
    assert "NOSUCH" in done.err


def test_wait(engine: Engine) -> None:
    """wait blocks until the end and prints the exit code, also of one that ended before."""
    name = engine.detached(IMAGE, "sh", "-c", "sleep 0.5; exit 6")
    assert engine.ok("wait", name) == "6\n"
    assert engine.ok("wait", name) == "6\n"


def test_remove(engine: Engine) -> None:
    """rm refuses what runs, rm -f kills it; what is not there is an error, and the others are still removed."""
    running = engine.detached("--name", "busy", IMAGE, "sleep", "600")
    pid = engine.pid(running)
    made = engine.ok("create", IMAGE, "true").strip()
    done = engine.do("rm", "busy", "nosuch", made)
    assert done.code == 1
    assert "You cannot remove a running container" in done.err
    assert "No such container: nosuch" in done.err
    assert done.out == made + "\n"
    assert engine.ok("rm", "-f", "busy") == "busy\n"
    assert not os.path.exists(f"/proc/{pid}")
    assert engine.ok("ps", "-aq") == ""


def test_pause(engine: Engine) -> None:
    """pause freezes every process, unpause lets them go on; exec into a paused one is refused."""
    name = engine.detached(IMAGE, "sh", "-c", "while :; do echo x; sleep 0.05; done")
    until(lambda: engine.ok("logs", name), "it writes")
    engine.ok("pause", name)
    assert status(engine, name) == "paused"
    assert "(Paused)" in engine.ok("ps")
    before = engine.ok("logs", name)
    time.sleep(0.3)
    assert engine.ok("logs", name) == before
    done = engine.do("exec", name, "true")
    assert done.code != 0
    assert "paused" in done.err
    again = engine.do("pause", name)
    assert again.code == 1
    assert "already paused" in again.err
    engine.ok("unpause", name)
    assert status(engine, name) == "running"
    until(lambda: engine.ok("logs", name) != before, "it goes on")


@pytest.mark.parametrize("how", [("kill",), ("stop", "-t", "1"), ("rm", "-f")])
def test_paused_containers_can_be_ended(engine: Engine, how: tuple[str, ...]) -> None:
    """A frozen container still dies when it is told to."""
    name = engine.detached(IMAGE, "sh", "-c", "while :; do sleep 0.05; done")
    pid = engine.pid(name)
    engine.ok("pause", name)
    engine.ok(*how, name)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it is dead")


def test_start_again_keeps_the_writable_layer(engine: Engine) -> None:
    """A container that is started again finds what it wrote; its log goes on."""
    name = engine.detached(IMAGE, "sh", "-c", "cat /mine 2>/dev/null; echo more >>/mine; exit $(wc -l </mine)")
    for run in (1, 2, 3):
        assert engine.ok("wait", name) == f"{run}\n"
        if run < 3:
            assert engine.ok("start", name) == name + "\n"
    assert engine.ok("logs", name) == "more\n" * 3


def test_created_then_started(engine: Engine) -> None:
    """create makes it, start -a shows its output and takes its exit code."""
    name = engine.ok("create", "--network", "none", IMAGE, "sh", "-c", "echo hello; exit 5").strip()
    assert status(engine, name) == "created"
    done = engine.do("start", "-a", name)
    assert (done.code, done.out) == (5, "hello\n")


def test_start_with_input(engine: Engine) -> None:
    """start -ai gives it the user's input."""
    name = engine.ok("create", "-i", "--network", "none", IMAGE, "cat").strip()
    done = engine.do("start", "-ai", name, stdin=b"typed\n")
    assert (done.code, done.out) == (0, "typed\n")


def test_restart(engine: Engine) -> None:
    """restart: the same container with a new process."""
    name = engine.detached(IMAGE, "sleep", "600")
    before = engine.pid(name)
    engine.ok("restart", "-t", "0", name)
    assert engine.pid(name) != before
    assert not os.path.exists(f"/proc/{before}")
    assert status(engine, name) == "running"


def test_inspect(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The fields that people and tools read, with docker's names."""
    folder = tmp_path_factory.mktemp("shared")
    name = engine.detached(
        "--name",
        "seen",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-h",
        "box",
        "-u",
        "nobody",
        "--label",
        "x=y",
        "-v",
        f"{folder}:/data:ro",
        "--cap-drop",
        "CHOWN",
        IMAGE,
        "sleep",
        "600",
    )
    (found,) = json.loads(engine.ok("inspect", "seen"))
    assert found["Id"] == name
    assert found["Name"] == "/seen"
    assert (found["Path"], found["Args"]) == ("sleep", ["600"])
    assert found["State"]["Status"] == "running"
    assert found["State"]["Running"] is True
    assert found["State"]["Pid"] == engine.pid("seen")
    assert found["State"]["StartedAt"].startswith(time.strftime("%Y-", time.gmtime()))
    assert found["Config"]["User"] == "nobody"
    assert found["Config"]["Hostname"] == "box"
    assert found["Config"]["WorkingDir"] == "/tmp"
    assert "A=1" in found["Config"]["Env"]
    assert found["Config"]["Labels"] == {"x": "y"}
    host = found["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["CHOWN"]
    assert {(m["Source"], m["Destination"], m["RW"]) for m in found["Mounts"]} == {(str(folder), "/data", False)}
    assert found["RunCommand"][:3] == ["minicontainer", "run", "-d"]
    assert engine.field("seen", "{{.State.Status}} {{.HostConfig.Memory}}") == "running 67108864"
    assert json.loads(engine.field("seen", "{{json .Config.Env}}")) == found["Config"]["Env"]


def test_inspect_what_is_not_there(engine: Engine) -> None:
    """An unknown name is an error, an unknown field too."""
    done = engine.do("inspect", "nosuch")
    assert done.code == 1
    assert "No such object: nosuch" in done.err
    engine.ok("create", "--name", "there", IMAGE, "true")
    done = engine.do("inspect", "--format", "{{.No.Field}}", "there")
    assert done.code == 125
    assert ".No.Field" in done.err


def test_an_ended_container_is_inspected(engine: Engine) -> None:
    """Exit code, times and no pid."""
    name = engine.detached(IMAGE, "sh", "-c", "exit 9")
    engine.ok("wait", name)
    (found,) = json.loads(engine.ok("inspect", name))
    state = found["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"], state["OOMKilled"]) == (
        "exited",
        False,
        0,
        9,
        False,
    )
    assert state["FinishedAt"] > state["StartedAt"] > found["Created"]


def test_found_by_part_of_its_id(engine: Engine) -> None:
    """Any prefix of an id that only one container has names it; a name wins over an id."""
    name = engine.ok("create", IMAGE, "true").strip()
    assert engine.field(name[:6], "{{.Id}}") == name
    done = engine.do("inspect", "--type", "container", "0" * 63)
    assert done.code == 1


def test_monitor_holds_nothing_of_the_caller(engine: Engine) -> None:
    """The process that stays has none of the caller's streams: a pipe of the command ends when the command does."""
    with engine.spawn(
        "run", "-d", "--network", "none", IMAGE, "sleep", "600", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        out, _ = running.communicate(timeout=60)  # would wait for the monitor if it held the pipe
    assert len(out.decode().strip()) == 64


def test_monitor_is_small(engine: Engine) -> None:
    """What stays beside a detached container is one static program of less than a mebibyte."""
    name = engine.detached(IMAGE, "sleep", "600")
    with open(f"/proc/{engine.pid(name)}/stat") as f:
        parent = int(f.read().rpartition(")")[2].split()[1])
    assert os.path.basename(os.readlink(f"/proc/{parent}/exe")) == "monitor"
    with open(f"/proc/{parent}/smaps_rollup") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    assert pss < 1024
