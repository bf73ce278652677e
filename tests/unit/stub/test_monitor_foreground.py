"""The foreground: the monitor's loop through cffi, between a container and a user."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import termios
import time

import pytest

from tests.unit.stub.monitored import DETACHED_CODE, FAILED_CODE, Foreground, python, until


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


def test_input_that_is_no_terminal_may_end_before_the_program_on_a_terminal_does():
    """As `exec -t` with /dev/null or a pipe: the end of the input is no hang-up."""
    f = Foreground(["sh", "-c", "read x; sleep 0.3; echo got $x"], tty=True)
    os.write(f.into, b"line\n")
    os.close(f.into)
    assert b"got line" in f.read(b"got line")
    assert f.wait() == 0


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
