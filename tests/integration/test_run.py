"""`run` in the foreground: exit codes, streams, and what each flag does, read from inside the container."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.engine import IMAGE, Engine, until

# -- exit codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "code"), [
    (("true",), 0), (("sh", "-c", "exit 42"), 42), (("false",), 1),
    (("no-such-program",), 127), (("/no/such/program",), 127), (("/etc/passwd",), 126), (("/tmp",), 126),
])  # fmt: skip
def test_exit_code_is_dockers(engine: Engine, words: tuple[str, ...], code: int) -> None:
    """The program's own exit code; 127 for one that is not there, 126 for what can't be executed."""
    assert engine.box(IMAGE, *words).code == code


def test_a_bad_flag_is_125(engine: Engine) -> None:
    """125 says that minicontainer itself failed, not the program."""
    assert engine.box("--no-such-flag", IMAGE, "true").code == 125


def test_a_program_killed_by_the_host_is_137(engine: Engine) -> None:
    """128 + the signal that ended it."""
    with engine.spawn("run", "--rm", "--network", "none", "--name", "victim", IMAGE, "sleep", "600") as running:
        until(lambda: engine.do("inspect", "--format", "{{.State.Status}}", "victim").out == "running\n", "it runs")
        os.kill(engine.pid("victim"), signal.SIGKILL)
        assert running.wait(60) == 137


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "TERM"), (signal.SIGUSR1, "USR1"), (signal.SIGHUP, "HUP"), (signal.SIGINT, "INT")]
)
def test_signals_are_forwarded(engine: Engine, number: int, name: str) -> None:
    """A signal to the command reaches the program, which decides what it means."""
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
    with engine.spawn("run", "--rm", "--network", "none", IMAGE, "sh", "-c", script, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(number)
        assert running.stdout.read() == f"got {name}\n".encode()
        assert running.wait(60) == 9


def test_a_program_that_a_signal_ends_is_143(engine: Engine) -> None:
    """SIGTERM forwarded through --init ends the program: 128 + 15."""
    if not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("--init needs a static tini: apt-get install tini")
    with engine.spawn(
        "run", "--rm", "--init", "--network", "none", IMAGE, "sh", "-c", "echo ready; exec sleep 600", stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.terminate()
        assert running.wait(60) == 143


def test_without_sig_proxy_signals_end_only_the_command(engine: Engine) -> None:
    """--sig-proxy=false: the program does not get the signal."""
    script = "trap 'echo got it' USR1; echo ready; sleep 1; echo end"
    with engine.spawn(
        "run", "--rm", "--sig-proxy=false", "--network", "none", IMAGE, "sh", "-c", script, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGUSR1)
        assert running.stdout.read() == b"end\n"


# -- streams ---------------------------------------------------------------------------------------------------------------


def test_much_output_arrives_whole_and_apart(engine: Engine) -> None:
    """Megabytes on both outputs come through unchanged, each on its own stream."""
    script = "dd if=/dev/zero bs=64k count=100 2>/dev/null | tr '\\0' o & dd if=/dev/zero bs=64k count=50 2>/dev/null | tr '\\0' e >&2; wait"
    done = engine.box(IMAGE, "sh", "-c", script)
    assert done.code == 0
    assert done.out == "o" * 6553600
    assert done.err == "e" * 3276800


def test_bytes_are_not_touched(engine: Engine) -> None:
    """Every byte value goes in by -i and comes out as it was."""
    data = bytes(range(256)) * 5000
    out = engine.sh("md5sum", "-i", stdin=data)
    assert out.split()[0] == hashlib.md5(data).hexdigest()


def test_input_ends(engine: Engine) -> None:
    """With -i the end of the user's input is the end of the program's."""
    assert engine.sh("cat; echo end", "-i", stdin=b"one\ntwo\n") == "one\ntwo\nend\n"


def test_without_interactive_input_is_empty(engine: Engine) -> None:
    """Without -i the program reads /dev/null, whatever the user's input is."""
    assert engine.sh("cat; readlink /proc/self/fd/0", stdin=b"secret\n") == "/dev/null\n"


def test_a_reader_that_goes_away_does_not_hang(engine: Engine) -> None:
    """`run … | head` ends."""
    with engine.spawn(
        "run", "--rm", "--network", "none", IMAGE, "yes", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        assert running.stdout is not None
        assert running.stdout.read(2) == b"y\n"
        running.stdout.close()
        assert running.wait(60) != 0


def test_closed_streams(engine: Engine) -> None:
    """A caller without streams (`<&- >&- 2>&-`): what the container prints goes nowhere, and into no file of ours."""
    words = " ".join(engine.enter("run", "--name", "mute", "--network", "none", IMAGE, "sh", "-c", "'echo out; echo err >&2; cat'"))
    done = subprocess.run(["sh", "-c", f"{words} <&- >&- 2>&-"], check=False)
    assert done.returncode == 0
    logs = engine.do("logs", "mute")
    assert (logs.out, logs.err) == ("out\n", "err\n")
    assert engine.field("mute", "{{.State.Status}}") == "exited"


def test_few_descriptors(engine: Engine) -> None:
    """A limit of open files that is too small is named."""
    done = engine.do("run", "--rm", "--network", "none", IMAGE, "true", prefix=("prlimit", "--nofile=64:64"))
    assert done.code == 125
    assert "ulimit -n" in done.err


# -- what runs -------------------------------------------------------------------------------------------------------------


def test_environment(engine: Engine, tmp_path: Path) -> None:
    """-e sets, -e NAME takes the caller's, --env-file reads; docker's own variables are there, the caller's are not."""
    (tmp_path / "env").write_text("# comment\nFILE=from a file\nBOTH=file\n")
    done = engine.do(
        "run",
        "--rm",
        "--network",
        "none",
        "-h",
        "box",
        "-e",
        "A=b c",
        "-e",
        "TAKEN",
        "-e",
        "NOT_SET",
        "--env-file",
        str(tmp_path / "env"),
        "-e",
        "BOTH=flag",
        IMAGE,
        "env",
        env={"TAKEN": "from the caller", "HIDDEN": "x"},
    )
    assert sorted(done.out.splitlines()) == sorted([
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=box", "HOME=/root",
        "A=b c", "TAKEN=from the caller", "FILE=from a file", "BOTH=flag"])  # fmt: skip


def test_working_directory(engine: Engine) -> None:
    """-w is where the program stands, made where the image lacks it."""
    assert engine.sh("pwd; stat -c '%U %a' .", "-w", "/srv/deep/er") == "/srv/deep/er\nroot 755\n"


@pytest.mark.parametrize(("user", "ids"), [
    ("nobody", "uid=65534 gid=65534 groups=65534"), ("1234", "uid=1234 gid=0 groups=0"), ("1234:55", "uid=1234 gid=55 groups=55"),
    ("0:99", "uid=0 gid=99 groups=99"), ("root", "uid=0 gid=0 groups=0"), ("nobody:root", "uid=65534 gid=0 groups=0"),
])  # fmt: skip
def test_user(engine: Engine, user: str, ids: str) -> None:
    """-u takes names and numbers, resolved by the image's own files."""
    out = engine.sh("echo uid=$(id -u) gid=$(id -g) groups=$(id -G)", "-u", user)
    assert out.strip() == ids


def test_unknown_user(engine: Engine) -> None:
    """A name that the image does not have is an error that says so."""
    done = engine.box("-u", "nosuchuser", IMAGE, "true")
    assert done.code == 125
    assert "nosuchuser" in done.err


def test_more_groups(engine: Engine) -> None:
    """--group-add by number joins the user's own."""
    assert set(engine.sh("id -G", "-u", "1000:1000", "--group-add", "2000", "--group-add", "3000").split()) == {
        "1000",
        "2000",
        "3000",
    }


def test_hostname(engine: Engine) -> None:
    """-h is the host name and in /etc/hosts and /etc/hostname; without it the short id is."""
    assert engine.sh("hostname; cat /etc/hostname; echo $HOSTNAME", "-h", "someone") == "someone\n" * 3
    name = engine.detached(IMAGE, "sh", "-c", "hostname; exec sleep 600")
    assert engine.ok("exec", name, "hostname") == name[:12] + "\n"


def test_domain_name(engine: Engine) -> None:
    """--domainname is the kernel's NIS domain name."""
    assert engine.sh("cat /proc/sys/kernel/domainname", "--domainname", "example.org") == "example.org\n"


def test_entrypoint(engine: Engine) -> None:
    """--entrypoint comes before the arguments."""
    assert engine.box("--entrypoint", "/bin/echo", IMAGE, "a", "b").out == "a b\n"


def test_init(engine: Engine) -> None:
    """With --init process 1 is tini, which reaps what loses its parent."""
    if not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("--init needs a static tini: apt-get install tini")
    script = "cat /proc/1/comm; (sleep 0.1 & ) ; sleep 0.5; grep -l '^State:.*zombie' /proc/[0-9]*/status | wc -l"
    assert engine.sh(script, "--init").split() == ["init", "0"]


def test_a_caller_that_ignores_the_end_of_its_children(engine: Engine) -> None:
    """SIGCHLD ignored is kept by execve; the status comes all the same, and the program does not inherit it."""
    words = ("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "grep SigIgn /proc/self/status; exit 7")
    done = engine.do(*words, prefix=("env", "--ignore-signal=CHLD"))
    assert (done.code, done.out.split()[1:]) == (7, ["0" * 16]), done


def test_umask(engine: Engine) -> None:
    """022, whatever the caller's is."""
    old = os.umask(0o077)
    try:
        assert engine.sh("umask; touch /x; stat -c %a /x") == "0022\n644\n"
    finally:
        os.umask(old)


def test_ulimit(engine: Engine) -> None:
    """--ulimit sets soft and hard limits."""
    assert engine.sh("ulimit -Sn; ulimit -Hn; ulimit -c", "--ulimit", "nofile=100:200", "--ulimit", "core=0") == "100\n200\n0\n"


def test_oom_score(engine: Engine) -> None:
    """--oom-score-adj is the program's."""
    assert engine.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "500") == "500\n"


def test_sysctl(engine: Engine) -> None:
    """--sysctl sets what belongs to the container's namespaces, and the host's value stays."""
    with open("/proc/sys/kernel/msgmax") as f:
        before = f.read()
    out = engine.sh(
        "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl",
        "--sysctl",
        "kernel.msgmax=4097",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
    )
    assert out == "4097\n77\n"
    with open("/proc/sys/kernel/msgmax") as f:
        assert f.read() == before


# -- names and files -------------------------------------------------------------------------------------------------------


def test_removed_for_good(engine: Engine) -> None:
    """After --rm neither a record, a folder, a name nor a state is there. (The fixture looks for all the rest.)"""
    engine.box("--name", "gone", IMAGE, "true")
    assert engine.ok("ps", "-aq") == ""
    assert os.listdir(f"{engine.directory}/root/containers") == os.listdir(f"{engine.directory}/state/containers") == []


def test_name_is_taken(engine: Engine) -> None:
    """A second container of the same name is refused, in docker's words, and leaves nothing."""
    ident = engine.ok("create", "--name", "twin", IMAGE, "true").strip()
    done = engine.box("--name", "twin", IMAGE, "true")
    assert done.code == 125
    assert f'The container name "/twin" is already in use by container "{ident}"' in done.err
    assert engine.ok("ps", "-aq", "--no-trunc") == f"{ident}\n"


def test_cidfile(engine: Engine, tmp_path: Path) -> None:
    """--cidfile holds the id; a second container may not overwrite it."""
    path = tmp_path / "cid"
    ident = engine.detached("--cidfile", str(path), IMAGE, "sleep", "600")
    assert path.read_text() == ident
    done = engine.box("--cidfile", str(path), IMAGE, "true")
    assert done.code == 125
    assert "container ID file found" in done.err
    assert path.read_text() == ident


def test_label(engine: Engine) -> None:
    """--label is kept and can be filtered by."""
    ident = engine.ok("create", "--label", "colour=blue", "-l", "plain", IMAGE, "true").strip()
    assert engine.field(ident, "{{json .Config.Labels}}") == '{"colour": "blue", "plain": ""}'
    assert engine.ok("ps", "-aq", "--no-trunc", "--filter", "label=colour=blue") == f"{ident}\n"
    assert engine.ok("ps", "-aq", "--filter", "label=colour=red") == ""


def test_shm_size(engine: Engine) -> None:
    """--shm-size is the size of /dev/shm."""
    assert engine.sh("df -k /dev/shm | tail -1 | awk '{print $2}'", "--shm-size", "1m") == "1024\n"


def test_namespaces_of_another_container(engine: Engine) -> None:
    """container:NAME shares the network, the processes, and IPC with its /dev/shm."""
    name = engine.detached(
        "--name", "shares", "-h", "someone", "--ipc", "shareable", IMAGE, "sh", "-c", "echo here >/dev/shm/file; exec sleep 600"
    )
    until(lambda: engine.do("exec", name, "cat", "/dev/shm/file").out == "here\n", "it has written")
    script = "cat /dev/shm/file; pidof sleep; readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/pid; cat /etc/hostname"
    done = engine.do("run", "--rm", "--network", "container:shares", "--pid", "container:shares", "--ipc", "container:shares", IMAGE, "sh", "-c",
                     script.replace("readlink", "for n in").replace("/pid;", "/pid; do readlink $n; done;"))  # fmt: skip
    pid = engine.pid(name)
    assert done.out.splitlines() == ["here", "1", *(os.readlink(f"/proc/{pid}/ns/{n}") for n in ("net", "ipc", "pid")), "someone"]


def test_namespaces_of_the_host(engine: Engine) -> None:
    """host shares what it names with the host."""
    kinds = ("net", "ipc", "pid", "uts")
    flags = ("--network", "host", "--ipc", "host", "--pid", "host", "--uts", "host")
    done = engine.do("run", "--rm", *flags, IMAGE, "sh", "-c", "for n in net ipc pid uts; do readlink /proc/self/ns/$n; done")
    host = subprocess.run(
        [*engine.enter()[:2], "readlink", *(f"/proc/self/ns/{n}" for n in kinds)], capture_output=True, text=True, check=True
    )
    assert done.out == host.stdout


def test_ten_runs_at_once(engine: Engine) -> None:
    """Concurrent foreground runs do not disturb one another."""
    running = [engine.spawn("run", "--rm", "--network", "none", IMAGE, "echo", str(i), stdout=subprocess.PIPE) for i in range(10)]
    assert [p.communicate(timeout=120)[0] for p in running] == [f"{i}\n".encode() for i in range(10)]


def test_a_start_is_quick(engine: Engine) -> None:
    """A run takes well under a second even on a busy machine (the benchmark measures it; this catches an accident)."""
    if os.path.exists("/run/guest"):
        pytest.skip("software emulation is slow")
    times = []
    for _ in range(5):
        begin = time.monotonic()
        engine.box(IMAGE, "true")
        times.append(time.monotonic() - begin)
    assert min(times) < 0.5
