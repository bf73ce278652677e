"""The log of the detached monitor: its format, byte for byte dockerd's, and its rotation."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from tests.unit.stub.monitored import PART, Detached, go_text, limit_file_size, python, until, writes

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


def limited(tmp_path, code):
    """The command of Python code that waits until its log's size is limited."""
    return ["sh", "-c", f"until [ -e {tmp_path}/limited ]; do sleep 0.01; done; exec \"$@\"", "sh", *python(code)]


def kept_and_lost(c):
    """The lines in the log, and the numbers in its notes: where an entry has no room any more, the shorter note may have."""
    kept, lost = [], []
    for entry in c.entries():
        note = re.fullmatch(r"minicontainer: log entries lost here: (\d+), errno \d+\n", entry["log"])
        if note:
            lost.append(int(note[1]))
        else:
            kept.append(entry["log"])
    return kept, lost


def test_a_log_that_cannot_be_written_does_not_hold_up_the_container(program, tmp_path):
    """A full disk (a file size limit here) loses whole entries, counted; the container runs to its end."""
    code = "import os\nfor i in range(3000): os.write(1, b'%06d %s\\n' % (i, b'y' * 90))"
    c = Detached(program, tmp_path, limited(tmp_path, code))
    limit_file_size(c.monitor, 100_000)
    (tmp_path / "limited").touch()
    assert c.wait() == 0
    kept, _ = kept_and_lost(c)
    assert [int(text[:6]) for text in kept] == list(range(len(kept)))
    assert 300 < len(kept) < 3000


def test_the_log_says_how_many_entries_were_lost_once_it_can_be_written_again(program, tmp_path):
    """After a full disk has room again a note stands in the log, with the number that is missing."""
    code = ("import os,time\nfor i in range(3000): os.write(1, b'%06d %s\\n' % (i, b'y' * 90))\n"
            f"while not os.path.exists({str(tmp_path / 'room')!r}): time.sleep(0.01)\nos.write(1, b'after\\n')")
    c = Detached(program, tmp_path, limited(tmp_path, code))
    limit_file_size(c.monitor, 100_000)
    (tmp_path / "limited").touch()
    until(lambda: os.path.exists(c.log) and os.path.getsize(c.log) > 99_000, "the log did not fill")
    time.sleep(0.5)
    limit_file_size(c.monitor, 10_000_000)
    (tmp_path / "room").touch()
    assert c.wait() == 0
    (*kept, after), lost = kept_and_lost(c)
    assert after == "after\n"
    assert lost and sum(lost) == 3000 - len(kept)


def test_a_log_whose_directory_is_gone_does_not_hold_up_the_container(program, tmp_path):
    """`rm -f` of the folder under a running container ends in no error of the container's."""
    gone = tmp_path / "gone"
    c = Detached(program, tmp_path, ["seq", "100000"], options=(f"log={gone}/x.log",))
    assert c.wait() == 0
    with open(c.exit, encoding="ascii") as f:
        assert json.load(f)["exit_code"] == 0
