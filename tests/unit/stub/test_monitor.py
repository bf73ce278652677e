"""The monitor: the real binary and the same loop through cffi, with real pipes, ptys and children."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

import pytest

from minicontainer.kernel import build

PART = 16384
TIMEOUT = 20.0

# What dockerd 20.10.24 wrote for each line of bytes: (bytes, the text between the quotes of "log").
DOCKERD = [
    (b"plain\n", r"plain\n"),
    (b"tab\tbell\x07esc\x1bnul\x00del\x7f\n", r"tab\u0009bell\u0007esc\u001bnul\u0000del" "\x7f" r"\n"),
    (b'quote"back\\slash/<b>&amp;\n', r"quote\"back\\slash/\u003cb\u003e\u0026amp;\n"),
    (b"cr\r\n", r"cr\r\n"),
    (b"\n", r"\n"),
    (b"bad \xff\xfe \xc3\x28 \xe2\x82 x \xed\xa0\x80 \xf0\x82\x82\xac \xf4\x90\x80\x80 \xc0\xaf\n",
     r"bad \ufffd\ufffd \ufffd( \ufffd\ufffd x \ufffd\ufffd\ufffd \ufffd\ufffd\ufffd\ufffd \ufffd\ufffd\ufffd\ufffd"
     r" \ufffd\ufffd\n"),
    ("u \u00e9 \u20ac \U0001f600 \u2028 \u2029 \ufeff \ufffd\n".encode(),
     "u \u00e9 \u20ac \U0001f600 \\u2028 \\u2029 \ufeff \ufffd\\n"),
    (b"\x01\x08\x0c\x0b\n", r"\u0001\u0008\u000c\u000b\n"),
    (b"no newline \xe2\x82", r"no newline \ufffd\ufffd"),
]


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> str:
    """The monitor, built from the sources beside this test."""
    directory = tmp_path_factory.mktemp("monitor")
    build.build_static(str(directory))
    return str(directory / "monitor")


class Detached:
    """A monitor beside a `container` (any program), which is its child as in `run -d`."""

    def __init__(self, program: str, directory, argv: list[str], *, tty: bool = False, options: tuple[str, ...] = (),
                 cleanup: tuple[str, ...] = (), stdin: bool = False) -> None:
        self.log, self.exit = str(directory / "c-json.log"), str(directory / "exit")
        self.stdin, master = None, -1
        ready, told = os.pipe()
        self.monitor = os.fork()
        if self.monitor == 0:
            try:
                fds = {}
                if tty:
                    master, slave = pty.openpty()
                    fds["tty"], inside = master, [slave] * 3
                else:
                    out, err = os.pipe(), os.pipe()
                    fds["out"], fds["err"], inside = out[0], err[0], [os.open("/dev/null", os.O_RDONLY), out[1], err[1]]
                child = os.fork()
                if child == 0:
                    os.setsid()
                    for to, fd in enumerate(inside):
                        os.dup2(fd, to)
                    os.execvp(argv[0], argv)
                for fd in set(inside):
                    os.close(fd)
                fds["pidfd"] = os.pidfd_open(child)
                for fd in fds.values():
                    os.set_inheritable(fd, True)
                os.write(told, str(child).encode())
                words = [f"{k}={v}" for k, v in fds.items()] + [f"pid={child}", f"log={self.log}", f"exit-file={self.exit}"]
                os.execv(program, ["monitor", *words, *options, *(("--", *cleanup) if cleanup else ())])
            finally:
                os._exit(99)
        os.close(told)
        self.container = int(os.read(ready, 20))
        os.close(ready)

    def wait(self) -> int:
        """The monitor's exit code."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            pid, status = os.waitpid(self.monitor, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.monitor, signal.SIGKILL)
        os.waitpid(self.monitor, 0)
        raise AssertionError("the monitor did not end")

    def entries(self, index: str = "") -> list[dict]:
        with open(self.log + index, encoding="utf-8") as f:
            return [json.loads(line) for line in f.read().split("\n")[:-1]]


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def writes(path, data: bytes) -> list[str]:
    """A container that writes these bytes to its stdout."""
    (path / "data").write_bytes(data)
    return ["cat", str(path / "data")]


def go_text(data: bytes) -> str:
    """Bytes as Go ranges over them: each byte that is not part of a character is one U+FFFD."""
    codecs.register_error("go", lambda error: ("\ufffd", error.start + 1))
    return data.decode("utf-8", "go")


def shell_code(status: int) -> int:
    """A wait status as the shell and docker tell it: 128 + n for a signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def until(what, message: str) -> None:
    end = time.monotonic() + TIMEOUT
    while not what():
        assert time.monotonic() < end, message
        time.sleep(0.01)


# -- the log's format ----------------------------------------------------------------------------------------------


def test_log_lines_are_byte_for_byte_what_dockerd_writes(program, tmp_path):
    """Escapes, invalid UTF-8, control characters and an unfinished last line come out as dockerd's."""
    c = Detached(program, tmp_path, writes(tmp_path, b"".join(data for data, _ in DOCKERD)))
    assert c.wait() == 0
    with open(c.log, encoding="utf-8", newline="") as f:
        lines = f.read().split("\n")
    assert lines.pop() == ""
    for line, (_, text) in zip(lines, DOCKERD, strict=True):
        assert re.fullmatch(re.escape('{"log":"' + text + '","stream":"stdout","time":"')
                            + r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z"\}', line), line


@pytest.mark.parametrize("length", [PART - 1, PART, PART + 1, 40000, 3 * PART])
def test_a_line_longer_than_16_kib_is_logged_in_parts_as_dockerd_does(program, tmp_path, length):
    """Only the last part ends in a newline, and all have the time of the first."""
    c = Detached(program, tmp_path, writes(tmp_path, b"x" * length + b"\nnext\n"))
    assert c.wait() == 0
    *parts, following = c.entries()
    assert [len(p["log"]) for p in parts] == [PART] * (length // PART) + [length % PART + 1]
    assert "".join(p["log"] for p in parts) == "x" * length + "\n"
    assert [p["log"].endswith("\n") for p in parts] == [False] * (len(parts) - 1) + [True]
    assert len({p["time"] for p in parts}) == 1
    assert following["log"] == "next\n"


def test_a_long_line_is_never_split_inside_a_character(program, tmp_path):
    """Parts end between characters, so that nothing of a long line in any script is lost."""
    for shift in range(4):
        directory = tmp_path / str(shift)
        directory.mkdir()
        text = "a" * shift + "\u20ac\U0001f600\u00e9" * 5000 + "\n"
        c = Detached(program, directory, writes(directory, text.encode()))
        assert c.wait() == 0
        assert "".join(e["log"] for e in c.entries()) == text


def test_random_bytes_come_back_by_gos_rule(program, tmp_path):
    """Whatever bytes come, every line of the log is JSON and holds what Go would have decoded."""
    data = os.urandom(300_000)
    c = Detached(program, tmp_path, writes(tmp_path, data))
    assert c.wait() == 0
    entries = c.entries()
    whole = "".join(e["log"] for e in entries)
    lines = data.split(b"\n")
    assert whole == "\n".join(go_text(line) for line in lines)


def test_stdout_and_stderr_are_told_apart(program, tmp_path):
    """Each entry names its stream."""
    c = Detached(program, tmp_path, ["sh", "-c", "echo one; echo two >&2; printf three"])
    assert c.wait() == 0
    got = {(e["stream"], e["log"]) for e in c.entries()}
    assert got == {("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three")}


def test_a_pty_is_logged_as_stdout_with_its_carriage_returns(program, tmp_path):
    """With -t the log has what the terminal would show."""
    c = Detached(program, tmp_path, ["sh", "-c", "echo one; echo two >&2"], tty=True)
    assert c.wait() == 0
    assert "".join(e["log"] for e in c.entries()) == "one\r\ntwo\r\n"
    assert {e["stream"] for e in c.entries()} == {"stdout"}


def test_a_pty_that_nobody_has_open_for_a_while_is_read_again(program, tmp_path):
    """An init that closes and reopens its terminal (systemd does) is still heard."""
    code = ("import os,time\nname=os.ttyname(1)\nfor i in range(3): os.close(i)\ntime.sleep(0.3)\n"
            "os.open(name, os.O_RDWR); os.write(0, b'again\\n')")
    c = Detached(program, tmp_path, python(code), tty=True)
    assert c.wait() == 0
    assert "".join(e["log"] for e in c.entries()) == "again\r\n"


def test_a_line_torn_by_a_killed_monitor_does_not_swallow_the_next(program, tmp_path):
    """Appending to a log that ends in half a line starts on a line of its own."""
    (tmp_path / "c-json.log").write_text('{"log":"torn')
    c = Detached(program, tmp_path, ["echo", "whole"])
    assert c.wait() == 0
    with open(c.log, encoding="utf-8") as f:
        torn, whole = f.read().splitlines()
    assert torn == '{"log":"torn'
    assert json.loads(whole)["log"] == "whole\n"


# -- rotation ------------------------------------------------------------------------------------------------------


def test_rotation_under_load_neither_loses_nor_doubles_a_line(program, tmp_path):
    """All numbered lines of both streams are found once, in order, over the rotated files; none is over the size."""
    code = "import os\nfor i in range(20000): os.write(1 + i % 2, b'%d %s\\n' % (i, b'y' * (i % 97)))"
    limit = 100_000
    c = Detached(program, tmp_path, python(code), options=(f"log-max-size={limit}", "log-max-files=100"))
    assert c.wait() == 0
    rotated = sorted((int(p.name.rsplit(".", 1)[1]) for p in tmp_path.glob("c-json.log.*")), reverse=True)
    assert len(rotated) > 10
    files = [c.entries(f".{i}") for i in rotated] + [c.entries()]
    for stream, parity in (("stdout", 0), ("stderr", 1)):
        numbers = [int(e["log"].split()[0]) for file in files for e in file if e["stream"] == stream]
        assert numbers == list(range(parity, 20000, 2))
    assert all(os.path.getsize(p) <= limit for p in tmp_path.glob("c-json.log*"))


def test_rotation_keeps_as_many_files_as_asked(program, tmp_path):
    """With max-files 3 there are the live file, .1 and .2, and they hold the newest lines without a gap."""
    c = Detached(program, tmp_path, ["seq", "5000"], options=("log-max-size=20000", "log-max-files=3"))
    assert c.wait() == 0
    assert sorted(p.name for p in tmp_path.glob("c-json*")) == ["c-json.log", "c-json.log.1", "c-json.log.2"]
    numbers = [int(e["log"]) for index in (".2", ".1", "") for e in c.entries(index)]
    assert numbers == list(range(numbers[0], 5001))


def test_rotation_to_one_file_only_starts_it_anew(program, tmp_path):
    """max-files 1 keeps the disk bounded by max-size, with the newest lines."""
    c = Detached(program, tmp_path, ["seq", "5000"], options=("log-max-size=20000", "log-max-files=1"))
    assert c.wait() == 0
    assert [p.name for p in tmp_path.glob("c-json*")] == ["c-json.log"]
    assert c.entries()[-1]["log"] == "5000\n"
    assert os.path.getsize(c.log) <= 20000


def test_an_entry_larger_than_the_maximum_size_is_still_logged(program, tmp_path):
    """A file holds at least one entry, however small the limit is."""
    c = Detached(program, tmp_path, writes(tmp_path, b"x" * 5000 + b"\n" + b"z" * 5000 + b"\n"),
                 options=("log-max-size=1000", "log-max-files=9"))
    assert c.wait() == 0
    assert [e["log"][0] for index in (".1", "") for e in c.entries(index)] == ["x", "z"]


def test_a_log_that_cannot_be_written_does_not_hold_up_the_container(program, tmp_path):
    """A full disk (a file size limit here) loses whole entries, counted; the container runs to its end."""
    code = "import os\nfor i in range(3000): os.write(1, b'%06d %s\\n' % (i, b'y' * 90))"
    c = Detached(program, tmp_path, ["sh", "-c", "sleep 0.3; exec \"$@\"", "sh", *python(code)])
    limit_file_size(c.monitor, 100_000)
    assert c.wait() == 0
    entries = c.entries()
    assert [int(e["log"][:6]) for e in entries] == list(range(len(entries)))
    assert 300 < len(entries) < 3000


def test_the_log_says_how_many_entries_were_lost_once_it_can_be_written_again(program, tmp_path):
    """After a full disk has room again a note stands in the log, with the number that is missing."""
    code = ("import os,time\nfor i in range(3000): os.write(1, b'%06d %s\\n' % (i, b'y' * 90))\n"
            f"while not os.path.exists({str(tmp_path / 'room')!r}): time.sleep(0.01)\nos.write(1, b'after\\n')")
    c = Detached(program, tmp_path, ["sh", "-c", "sleep 0.3; exec \"$@\"", "sh", *python(code)])
    limit_file_size(c.monitor, 100_000)
    until(lambda: os.path.exists(c.log) and os.path.getsize(c.log) > 99_000, "the log did not fill")
    time.sleep(0.5)
    limit_file_size(c.monitor, 10_000_000)
    (tmp_path / "room").touch()
    assert c.wait() == 0
    *kept, note, after = c.entries()
    assert after["log"] == "after\n"
    lost = re.fullmatch(r"minicontainer: log entries lost here: (\d+), errno \d+\n", note["log"])
    assert lost and int(lost[1]) == 3000 - len(kept)


def limit_file_size(pid: int, size: int) -> None:
    """EFBIG instead of ENOSPC: a short write, then an error, as on a full disk.  SIGXFSZ is blocked by the monitor."""
    import resource

    def is_monitor() -> bool:
        with open(f"/proc/{pid}/comm") as f:
            return f.read() == "monitor\n"

    until(is_monitor, "the monitor was not executed")
    time.sleep(0.1)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_log_whose_directory_is_gone_does_not_hold_up_the_container(program, tmp_path):
    """`rm -f` of the folder under a running container ends in no error of the container's."""
    gone = tmp_path / "gone"
    c = Detached(program, tmp_path, ["seq", "100000"], options=(f"log={gone}/x.log",))
    assert c.wait() == 0
    with open(c.exit, encoding="ascii") as f:
        assert json.load(f)["exit_code"] == 0


# -- the end -------------------------------------------------------------------------------------------------------


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


# -- the foreground: the same loop through cffi --------------------------------------------------------------------

DETACHED_CODE, FAILED_CODE = 200, 201


class Foreground:
    """monitor_run() in a process of its own, between a `container` and this test as its user."""

    def __init__(self, argv: list[str], *, tty: bool = False, user_tty: bool = False,
                 user_out: int | None = None, log: str = "", forward: int = 1, exit_file: str = "") -> None:
        """user_out: a descriptor for the user's stdout; without it a pipe, whose end is .out, or with user_tty a pty."""
        if user_tty:
            self.user, theirs = pty.openpty()
            self.into, self.out, users = self.user, self.user, (theirs, theirs, theirs)
        else:
            inp, out, err = os.pipe(), os.pipe(), os.pipe()
            self.into, self.out, self.err = inp[1], out[0], err[0]
            users = (inp[0], out[1] if user_out is None else user_out, err[1])
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for fd in {self.into, self.out}:
                    os.close(fd)
                os._exit(self._command(argv, tty, users, log, forward, told, exit_file))
            finally:
                os._exit(FAILED_CODE)
        for fd in {*users, told} - {user_out}:
            os.close(fd)
        self.container = int(os.read(ready, 20))
        os.close(ready)
        time.sleep(0.05)  # from the pid to monitor_run(): signals before it are not what is tested here

    @staticmethod
    def _command(argv, tty, users, log, forward, told, exit_file="") -> int:
        from minicontainer.kernel._kernel import ffi, lib

        os.setsid()
        if tty:
            master, slave = pty.openpty()
            inside = (slave, slave, slave)
        else:
            inp, out, err = os.pipe(), os.pipe(), os.pipe()
            inside = (inp[0], out[1], err[1])
        child = os.fork()
        if child == 0:
            os.setsid()
            for to, fd in enumerate(inside):
                os.dup2(fd, to)
            if tty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.closerange(3, 100)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvp(argv[0], argv)
        for fd in set(inside):
            os.close(fd)
        m = ffi.new("struct monitor *")
        m.pid, m.pidfd = child, os.pidfd_open(child)
        m.tty, m.out, m.err = (master, -1, -1) if tty else (-1, out[0], err[0])
        m.user_in, m.user_out, m.user_err = users[0], users[1], users[2]
        m.forward, m.log_max_files = forward, 1
        keys, path = ffi.new("char[]", b"\x10\x11"), ffi.new("char[]", log.encode())
        m.detach_keys, m.log = keys, path if log else ffi.NULL
        exit_path = ffi.new("char[]", exit_file.encode())
        m.exit_file = exit_path if exit_file else ffi.NULL
        setattr(m, "in", -1 if tty else inp[1])  # a keyword of Python's
        os.write(told, str(child).encode())
        os.close(told)
        status = lib.monitor_run(m)
        if status == lib.MONITOR_DETACHED:
            os.kill(child, signal.SIGKILL)
            return DETACHED_CODE
        return shell_code(status) if status >= 0 else FAILED_CODE

    def read(self, want: bytes) -> bytes:
        """Reads the user's stdout until `want` has come."""
        data, end = b"", time.monotonic() + TIMEOUT
        while want not in data:
            if not select.select([self.out], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{want!r} did not come: {data!r}")
            data += os.read(self.out, 65536)
        return data

    def all(self) -> bytes:
        """Reads the user's stdout to its end."""
        data = b""
        while chunk := os.read(self.out, 65536):
            data += chunk
        return data

    def wait(self) -> int:
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("monitor_run() did not return")


def test_stdin_goes_in_and_stdout_comes_out_whole():
    """Ten megabytes through `cat` come back unchanged, and the end of file ends it."""
    data = os.urandom(10_000_000)
    f = Foreground(["cat"])
    if os.fork() == 0:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(f.into, view):]
        finally:
            os._exit(0)
    os.close(f.into)
    assert f.all() == data
    assert f.wait() == 0
    os.wait()


def test_stderr_is_relayed_apart_and_logged_too(tmp_path):
    """The user gets both streams on their own descriptors while the log has both."""
    f = Foreground(["sh", "-c", "echo out; echo err >&2"], log=str(tmp_path / "log"))
    assert f.wait() == 0
    assert (f.all(), os.read(f.err, 100)) == (b"out\n", b"err\n")
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {(e["stream"], e["log"]) for e in entries} == {("stdout", "out\n"), ("stderr", "err\n")}


def test_a_user_who_does_not_read_holds_up_the_container_but_not_the_loop():
    """With a full pipe to the user signals still get through, and he later gets every byte."""
    code = ("import os,signal\nsignal.signal(signal.SIGUSR1, lambda *a: os.write(2, b'got it\\n'))\n"
            "os.write(2, b'ready\\n')\nfor i in range(3000): os.write(1, b'%099d\\n' % i)")
    f = Foreground(python(code))
    assert os.read(f.err, 100) == b"ready\n"
    time.sleep(0.3)
    os.kill(f.pid, signal.SIGUSR1)
    assert os.read(f.err, 100) == b"got it\n"
    assert f.all() == b"".join(b"%099d\n" % i for i in range(3000))
    assert f.wait() == 0


def test_a_container_that_does_not_read_holds_up_only_its_input():
    """With its stdin pipe full its output still comes."""
    f = Foreground(["sh", "-c", "sleep 0.3; echo here; exec sleep 60"])
    os.set_blocking(f.into, False)
    sent, end = 0, time.monotonic() + 0.5
    while time.monotonic() < end:
        try:
            sent += os.write(f.into, b"z" * 65536)
        except BlockingIOError:
            time.sleep(0.01)
    assert sent < 400_000
    f.read(b"here\n")
    os.kill(f.pid, signal.SIGTERM)
    assert f.wait() == 128 + signal.SIGTERM


def test_a_user_who_left_ends_the_containers_output_as_in_a_pipeline():
    """`run … | head`: the container gets EPIPE instead of running on unheard."""
    f = Foreground(["yes"])
    f.read(b"y\n")
    os.close(f.out)
    assert f.wait() == 128 + signal.SIGPIPE


def test_a_container_that_closes_its_stdin_is_not_waited_for():
    """Input for a container that no longer reads is dropped, without a busy loop."""
    f = Foreground(["sh", "-c", "exec <&-; sleep 0.5; echo end"])
    time.sleep(0.2)
    os.write(f.into, b"nobody reads this\n")
    assert f.all() == b"end\n"
    assert f.wait() == 0


def test_a_stuck_user_can_be_left_by_a_signal_after_the_end(tmp_path):
    """Once the container is dead its exit is on file, and Ctrl-C ends the wait for a pager that is not read."""
    f = Foreground(["head", "-c", "100000", "/dev/zero"], exit_file=str(tmp_path / "exit"))  # the pipe takes 65536
    until(lambda: (tmp_path / "exit").exists(), "no exit file")
    assert os.waitpid(f.pid, os.WNOHANG) == (0, 0)
    os.kill(f.pid, signal.SIGINT)
    assert f.wait() == 0


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGTSTP,
                                   signal.SIGCONT, signal.SIGRTMIN + 3])
def test_signals_are_forwarded(signo):
    """What is sent to the foreground command arrives in the container, and only there."""
    code = ("import signal,os\nfor s in set(signal.Signals) | set(range(34, 65)):\n"
            "  if s not in (9, 19, 17): signal.signal(s, lambda n, f: os.write(1, b'%d\\n' % n))\n"
            "os.write(1, b'ready\\n')\nwhile True: signal.pause()")
    f = Foreground(python(code))
    f.read(b"ready\n")
    os.kill(f.pid, signo)
    assert f.read(b"\n") == b"%d\n" % signo
    os.kill(f.container, signal.SIGKILL)
    assert f.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize("signo", [signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD])
def test_signals_that_mean_nothing_to_the_container_stay_outside(signo):
    """As docker does, and SIGWINCH without a terminal, which httpd takes for an order to stop."""
    code = ("import signal,os\nfor s in (13, 23, 28, 17, 10): signal.signal(s, lambda n, f: os.write(1, b'%d\\n' % n))\n"
            "os.write(1, b'ready\\n')\nwhile True: signal.pause()")
    f = Foreground(python(code))
    f.read(b"ready\n")
    os.kill(f.pid, signo)
    os.kill(f.pid, signal.SIGUSR1)
    assert f.read(b"\n") == b"%d\n" % signal.SIGUSR1
    os.kill(f.container, signal.SIGKILL)
    assert f.wait() == 128 + signal.SIGKILL


def test_without_forwarding_signals_end_neither_side():
    """--sig-proxy=false: the command ignores what it would have sent on."""
    f = Foreground(["sh", "-c", "sleep 0.5; echo end"], forward=0)
    os.kill(f.pid, signal.SIGTERM)
    assert f.all() == b"end\n"
    assert f.wait() == 0


def raw(fd: int) -> None:
    import tty

    tty.setraw(fd)


def test_a_terminal_echoes_resizes_and_ends():
    """-it: typed lines arrive, the window size is the user's at the start and after SIGWINCH."""
    user, theirs = pty.openpty()
    fcntl.ioctl(user, termios.TIOCSWINSZ, struct.pack("4H", 33, 99, 0, 0))
    raw(theirs)
    f = Foreground.__new__(Foreground)
    f.into = f.out = user
    ready, told = os.pipe()
    f.pid = os.fork()
    if f.pid == 0:
        try:
            os._exit(Foreground._command(["sh", "-c", "stty size; read x; stty size; read y; echo \"<$x$y>\"; exit 5"],
                                         True, (theirs,) * 3, "", 1, told))
        finally:
            os._exit(FAILED_CODE)
    os.read(ready, 20)
    f.read(b"33 99\r\n")
    fcntl.ioctl(user, termios.TIOCSWINSZ, struct.pack("4H", 44, 111, 0, 0))
    os.kill(f.pid, signal.SIGWINCH)
    time.sleep(0.1)
    os.write(user, b"ab\r")
    f.read(b"44 111\r\n")
    os.write(user, b"cd\r")
    f.read(b"<abcd>\r\n")
    assert f.wait() == 5
    for fd in (user, theirs, ready, told):
        os.close(fd)


def test_the_detach_keys_detach_and_half_of_them_reach_the_container():
    """Ctrl-P alone is the container's (held until the next key), Ctrl-P Ctrl-Q leaves it."""
    f = Foreground(["sh", "-c", "stty raw -echo; echo go; exec od -An -tx1 -v -w1"], tty=True)
    f.read(b"go")
    os.write(f.into, b"a\x10b\x10\x10c")
    assert f.read(b"63").split() == [b"61", b"10", b"62", b"10", b"10", b"63"]
    os.write(f.into, b"\x10")
    os.write(f.into, b"\x11")
    assert f.wait() == DETACHED_CODE


def test_a_terminal_that_hangs_up_takes_the_container_with_it():
    """When the user's terminal is gone the container's session gets SIGHUP, as from any terminal."""
    f = Foreground(["sh", "-c", "echo go; exec sleep 60"], tty=True, user_tty=True)
    f.read(b"go")
    os.close(f.user)
    assert f.wait() == 128 + signal.SIGHUP


def test_output_to_a_file_a_socket_and_dev_null_is_whole(tmp_path):
    """Whatever the user's stdout is, all of the output arrives."""
    import socket

    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"before\n")
    assert Foreground(["seq", "100000"], user_out=fd).wait() == 0
    assert (tmp_path / "file").read_bytes() == b"before\n" + b"".join(b"%d\n" % i for i in range(1, 100001))
    os.close(fd)
    assert Foreground(["seq", "100000"], user_out=os.open("/dev/null", os.O_WRONLY)).wait() == 0
    ours, theirs = socket.socketpair()
    f = Foreground(["seq", "100000"], user_out=theirs.fileno())
    theirs.close()
    data = b""
    while chunk := ours.recv(65536):
        data += chunk
    assert f.wait() == 0
    assert data == b"".join(b"%d\n" % i for i in range(1, 100001))


def test_the_users_descriptors_stay_blocking():
    """The flags of a descriptor shared with the user's shell are not touched."""
    inp, out = os.pipe()
    f = Foreground(["echo", "x"], user_out=out)
    assert f.wait() == 0
    assert os.get_blocking(out)
    assert os.read(inp, 10) == b"x\n"
