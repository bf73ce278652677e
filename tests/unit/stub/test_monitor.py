"""The detached monitor's end: exit file, clean-up, signals, and what it takes."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

from tests.unit.stub.monitored import Detached, limit_file_size, python, until


@pytest.mark.parametrize(("command", "code", "signo"), [("exit 0", 0, 0), ("exit 7", 7, 0), ("kill -9 $$", 137, 9),
                                                        ("kill -TERM $$", 143, 15)])
def test_the_exit_file_tells_code_and_signal(program, tmp_path, command, code, signo):
    """How init ended is in the exit file and the monitor's own exit code."""
    before = time.time_ns()
    c = Detached(program, tmp_path, ["sh", "-c", command])
    assert c.wait() == code
    with open(c.exit, encoding="ascii") as f:
        told = json.load(f)
    assert (told["exit_code"], told["signal"], told["oom"]) == (code, signo, 0)
    assert before <= told["finished_ns"] <= time.time_ns()
    assert not os.path.exists(c.exit + ".new")


@pytest.mark.parametrize(("text", "kills"), [("low 0\nhigh 0\noom 3\noom_kill 12\noom_group_kill 0\n", 12),
                                             ("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2), ("oom_kill 1", 1),
                                             ("low 0\n", 0), ("", 0)])
def test_oom_kills_are_read_from_the_cgroups_file(program, tmp_path, text, kills):
    """Both memory.events (v2) and memory.oom_control (v1) are understood, and a file that lacks the line."""
    (tmp_path / "oom").write_text(text)
    c = Detached(program, tmp_path, ["true"], options=(f"oom-file={tmp_path / 'oom'}",))
    assert c.wait() == 0
    with open(c.exit, encoding="ascii") as f:
        assert json.load(f)["oom"] == kills


def test_the_monitor_becomes_the_cleanup_command(program, tmp_path):
    """After `--` stands what it executes once the exit file is written."""
    script = f"cat {tmp_path / 'exit'} > {tmp_path / 'seen'}; exit 42"
    c = Detached(program, tmp_path, ["sh", "-c", "exit 3"], cleanup=("/bin/sh", "-c", script))
    assert c.wait() == 42
    assert json.loads((tmp_path / "seen").read_text())["exit_code"] == 3


def test_output_written_just_before_the_end_is_all_logged(program, tmp_path):
    """What is in the pipe when init dies is drained."""
    for i in range(20):
        directory = tmp_path / str(i)
        directory.mkdir()
        c = Detached(program, directory, ["sh", "-c", "seq 3000; kill -9 $$"])
        assert c.wait() == 137
        assert [int(e["log"]) for e in c.entries()] == list(range(1, 3001))


def test_a_process_that_outlives_init_and_keeps_the_pipe_holds_nobody_up(program, tmp_path):
    """With --pid host an orphan may keep stdout open: the monitor ends with init all the same."""
    c = Detached(program, tmp_path, ["sh", "-c", "sleep 60 & echo $!; echo end"])
    assert c.wait() == 0
    orphan, end = (e["log"] for e in c.entries())
    os.kill(int(orphan), signal.SIGKILL)
    assert end == "end\n"


def test_orphans_are_reaped_while_the_container_runs(program, tmp_path):
    """The monitor is a subreaper: what is reparented to it leaves no zombie."""
    c = Detached(program, tmp_path, ["sh", "-c", "(sh -c 'echo $$; exec true' &) ; sleep 0.5; exec sleep 60"])
    until(lambda: os.path.exists(c.log) and c.entries(), "no output")
    orphan = int(c.entries()[0]["log"])
    until(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan stayed a zombie")
    os.kill(c.container, signal.SIGKILL)
    assert c.wait() == 137


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM])
def test_no_signal_but_kill_ends_a_detached_monitor(program, tmp_path, signo):
    """A stray signal neither ends it nor reaches the container."""
    c = Detached(program, tmp_path, ["sleep", "60"])
    limit_file_size(c.monitor, 1_000_000)  # it runs by now
    os.kill(c.monitor, signo)
    time.sleep(0.1)
    assert os.waitpid(c.monitor, os.WNOHANG) == (0, 0)
    os.kill(c.container, signal.SIGKILL)
    assert c.wait() == 137


def test_kill_9_of_the_monitor_leaves_a_log_of_whole_lines(program, tmp_path):
    """A monitor killed at any moment leaves no half exit file and a log whose lines are whole."""
    c = Detached(program, tmp_path, python("import os\nwhile True: os.write(1, b'line\\n')"),
                 options=("log-max-size=50000", "log-max-files=2"))
    until(lambda: os.path.exists(c.log + ".1"), "no rotation")
    os.kill(c.monitor, signal.SIGKILL)
    os.waitpid(c.monitor, 0)
    until(lambda: not running(c.container), "the container did not get EPIPE")
    assert not os.path.exists(c.exit)
    assert {e["log"] for index in ("", ".1") for e in c.entries(index)} == {"line\n"}


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("words", [[], ["pid=1"], ["pid=x", "pidfd=3"], ["pid=1", "pidfd=3", "nonsense=1"]])
def test_wrong_words_are_refused(program, words):
    """A monitor that was called wrongly says so by exit code 64, and waits for nobody."""
    pid = os.posix_spawn(program, ["monitor", *words], os.environ)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 64


def test_a_monitor_takes_less_memory_than_conmon(program, tmp_path):
    """After logging huge lines its PSS is below conmon's 0.8 MiB."""
    c = Detached(program, tmp_path, python("import os,time\nfor i in range(40): os.write(1, b'\\x01' * 20000 + b'\\n')\n"
                                           "time.sleep(60)"))
    until(lambda: os.path.exists(c.log) and len(c.entries()) >= 80, "no output")
    with open(f"/proc/{c.monitor}/smaps_rollup") as f:
        pss = int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M)[1])
    os.kill(c.container, signal.SIGKILL)
    assert c.wait() == 137
    assert pss <= 800, f"{pss} KiB"
