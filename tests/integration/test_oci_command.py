"""minicontainer-oci as a command: terminals that it relays, signals and orphans of a run, its log, events, what it passes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.engine import PATIENCE, Terminal
from tests.integration.oci import Oci

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes containers: needs root")


def started(oci: Oci, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on; its stdout is to be read."""
    return subprocess.Popen(oci.command(*words), cwd=oci.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def status(oci: Oci) -> str:
    done = oci.do("state", "one")
    return json.loads(done.out)["status"] if done.code == 0 else ""


def test_run_in_the_foreground_relays_a_terminal_with_its_size_and_gives_it_back_as_it_was(oci: Oci) -> None:
    oci.write("sh", "-c", "tty; stty size; read word; echo got $word; stty size; exit 9", terminal=True)
    terminal = Terminal([*oci.command("run", "--bundle", str(oci.bundle), "one")], rows=33, columns=44)
    try:
        terminal.expect(b"/dev/pts/0\r\n33 44\r\n")
        terminal.resize(20, 70)
        time.sleep(0.2)  # the signal has to come through before the key
        terminal.type(b"hello\n")
        terminal.expect(b"got hello\r\n20 70\r\n")
        assert terminal.wait() == 9
        assert terminal.settings() == terminal.before
    finally:
        terminal.close()


def test_ctrl_c_in_a_relayed_terminal_is_the_containers(oci: Oci) -> None:
    oci.write("sh", "-c", "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.1; done", terminal=True)
    terminal = Terminal([*oci.command("run", "--bundle", str(oci.bundle), "one")])
    try:
        terminal.expect(b"ready")
        terminal.type(b"\x03")
        terminal.expect(b"caught")
        assert terminal.wait() == 4
    finally:
        terminal.close()


def test_a_terminal_without_one_of_the_callers_is_relayed_all_the_same(oci: Oci) -> None:
    """Into a pipe or file it writes plain lines."""
    done = oci.run("sh", "-c", "tty; exit 3", terminal=True)
    assert (done.code, done.out) == (3, "/dev/pts/0\n"), done


def test_exec_with_a_terminal(oci: Oci) -> None:
    oci.running()
    terminal = Terminal(oci.command("exec", "-t", "one", "sh", "-c", "tty; stty size; exit 6"), rows=12, columns=34)
    try:
        terminal.expect(b"/dev/pts/0\r\n12 34\r\n")
        assert terminal.wait() == 6
    finally:
        terminal.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMIN + 1])
def test_run_passes_signals_on_and_ends_with_the_programs_status(oci: Oci, sig: int) -> None:
    """Also those that come before it stands by."""
    number = int(sig)
    oci.write("sh", "-c", f"trap 'exit 77' {number}; echo ready; while :; do sleep 0.05; done")
    command = started(oci, "run", "one")
    assert command.stdout
    assert command.stdout.readline() == b"ready\n"
    command.send_signal(number)
    assert command.wait(PATIENCE) == 77
    command.stdout.close()
    assert status(oci) == "", "and it is deleted"


def test_run_of_a_program_that_a_signal_ends_gives_128_and_its_number(oci: Oci) -> None:
    assert oci.run("sh", "-c", "kill -KILL -1; sleep 1").code in (0, 137)  # pid 1 is spared by kill -1
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "pid"]
    oci.config["mounts"] = [m for m in oci.config["mounts"] if m["type"] != "proc"]
    for key in ("maskedPaths", "readonlyPaths"):
        oci.config["linux"][key] = []
    assert oci.run("sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM


def test_exec_passes_signals_on(oci: Oci) -> None:
    oci.running()
    command = started(oci, "exec", "one", "sh", "-c", "trap 'exit 55' TERM; echo ready; while :; do sleep 0.05; done")
    assert command.stdout
    assert command.stdout.readline() == b"ready\n"
    command.send_signal(signal.SIGTERM)
    assert command.wait(PATIENCE) == 55
    command.stdout.close()


def test_kept_after_run_and_deleted_later(oci: Oci) -> None:
    oci.write("sh", "-c", "exit 2")
    assert oci.do("run", "--keep", "one").code == 2
    assert status(oci) == "stopped"
    oci.ok("delete", "one")


def test_detached_containers_belong_to_whoever_reaps_for_the_caller(oci: Oci) -> None:
    """After create and run -d nothing of ours is left: the first process is a child of the caller's subreaper."""
    oci.write("sleep", "600")
    for words in (("create", "one"), ("run", "--detach", "two")):
        if words[-1] == "two":
            oci.config["linux"]["cgroupsPath"] = f"/{oci.cgroup}/two"
            oci.write()
        script = "import ctypes, os, subprocess, sys, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
        script += "subprocess.run(sys.argv[1:], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        script += "print(open(f'/proc/self/task/{os.getpid()}/children').read())"
        done = subprocess.run(
            [
                "/usr/bin/python3",
                "-c",
                script,
                *oci.command(
                    *words,
                ),
            ],
            cwd=oci.bundle,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(json.loads(oci.ok("state", words[-1]))["pid"])]


def test_preserved_descriptors_and_those_of_socket_activation_arrive(oci: Oci) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through\n")
    os.close(writing)
    oci.write("sh", "-c", "cat <&3; echo $LISTEN_FDS; ls /proc/self/fd | wc -w")

    def three() -> None:
        os.dup2(reading, 3)

    try:
        done = oci.do("run", "--preserve-fds", "1", "one", preexec_fn=three, close_fds=False)
    finally:
        os.close(reading)
    assert (done.code, done.out.split()[0]) == (0, "through"), done


def test_events_are_statistics_and_out_of_memory_and_end_with_the_container(oci: Oci) -> None:
    oci.config["linux"]["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    oci.write("sleep", "600")
    oci.ok("create", "one")
    oci.ok("start", "one")
    command = started(oci, "events", "--interval", "100ms", "one")
    assert command.stdout
    first = json.loads(command.stdout.readline())
    assert first["type"] == "stats" and first["id"] == "one" and first["data"]["memory"]["usage"]["limit"] == 32 << 20
    oci.do("exec", "one", "sh", "-c", "tail /dev/zero")
    kinds = set()
    while "oom" not in kinds:
        line = json.loads(command.stdout.readline())
        kinds.add(line["type"])
        assert line["id"] == "one"
    oci.ok("kill", "one", "KILL")
    rest = command.stdout.read()
    assert command.wait(PATIENCE) == 0
    assert all(json.loads(line)["type"] in ("stats", "oom") for line in rest.splitlines())
    command.stdout.close()


def test_events_end_with_their_reader(oci: Oci) -> None:
    """Also those that the clock brings, while no memory runs out; without a word."""
    oci.running()
    command = subprocess.Popen(oci.command("events", "--interval", "50ms", "one"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout and command.stderr
    try:
        assert json.loads(command.stdout.readline())["type"] == "stats"
        command.stdout.close()
        assert (command.wait(PATIENCE), command.stderr.read()) == (141, b"")
    finally:
        command.kill()
        command.wait()
        command.stderr.close()


def test_ps_that_does_not_show_pids_where_they_can_be_read(oci: Oci) -> None:
    oci.running()
    done = oci.do("ps", "one", "-eo", "args,pid")
    assert done.code == 1 and "unable to parse pid: " in done.err, done


def test_debug_logs_every_step(oci: Oci) -> None:
    oci.write("true")
    log = oci.folder / "log"
    oci.ok("--debug", "--log", str(log), "--log-format", "json", "run", "one")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["level"] for line in lines} == {"debug"} and len(lines) > 50
    assert any(re.match(r"container: pivot_root\(", line["msg"]) for line in lines)
    oci.do("--debug=false", "--log", str(log), "state", "nosuch")
    assert log.read_text().splitlines()[-1].endswith('level=error msg="container does not exist"')


def test_pid_files_are_whole_and_say_the_hosts_pid(oci: Oci) -> None:
    oci.write("sleep", "600")
    oci.ok("create", "--pid-file", str(oci.folder / "pid"), "one")
    assert (oci.folder / "pid").read_text() == str(json.loads(oci.ok("state", "one"))["pid"])
    oci.ok("start", "one")
    oci.ok("exec", "--detach", "--pid-file", str(oci.folder / "exec.pid"), "one", "sleep", "500")
    pid = (oci.folder / "exec.pid").read_text()
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00500\x00"


def test_a_link_in_the_way_of_a_pid_file_is_not_followed(oci: Oci) -> None:
    """Whoever may write into its folder could name any file of the host, for root to overwrite."""
    victim = oci.folder / "victim"
    victim.write_text("as it was")
    (oci.folder / ".pid").symlink_to(victim)
    oci.write("true")
    oci.ok("create", "--pid-file", str(oci.folder / "pid"), "one")
    assert (victim.read_text(), (oci.folder / "pid").read_text().isdigit()) == ("as it was", True)
    assert not os.path.lexists(oci.folder / ".pid")


def test_an_exec_whose_pid_file_cant_be_written_leaves_no_process(oci: Oci) -> None:
    oci.running()
    done = oci.do("exec", "--detach", "--pid-file", "/nonexistent/pid", "one", "sleep", "500")
    assert done.code == 255 and "/nonexistent/.pid: no such file or directory" in done.err
    assert len(json.loads(oci.ok("ps", "--format", "json", "one"))) == 1


def test_closed_streams_do_no_harm(oci: Oci) -> None:
    oci.write("sh", "-c", "ls -l /proc/self/fd; exit 5")
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *oci.command("run", "one")], cwd=oci.bundle, capture_output=True, check=False
    )
    assert done.returncode == 5


def test_a_caller_that_ignores_the_end_of_its_children_gets_every_status(oci: Oci) -> None:
    """SIGCHLD ignored is kept by execve, and makes of every wait(2) an ECHILD."""
    ignoring = ("env", "--ignore-signal=CHLD")
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    oci.write("sh", "-c", "grep SigIgn /proc/self/status; exit 7")
    done = oci.do("run", "one", prefix=ignoring)
    assert (done.code, done.out.split()[1:]) == (7, ["0" * 16]), done
    oci.write("/nosuch")
    assert "no such file or directory" in oci.do("run", "one", prefix=ignoring).err


def test_output_that_nobody_reads_ends_the_command_without_a_word(oci: Oci) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(oci.command("features"), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_root_folder_may_be_relative_and_is_never_the_hosts_own(oci: Oci) -> None:
    oci.write("true")
    program = oci.command()[0]
    done = subprocess.run(
        [program, "--root", "../state/./x/..", "list", "-q"], cwd=oci.bundle, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and f"open {oci.root}: no such file or directory" in done.stderr
    done = subprocess.run([program, "--root", "/./", "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Option --root argument should not be set to /" in done.stderr
