"""Reading a container's log: rotated files, tail, times, and following a writer that rotates."""

from __future__ import annotations

import json
import os
import time

import pytest

from minicontainer.engine import logs
from minicontainer.errors import UsageError
from tests.unit.stub.conftest import program  # noqa: F401  # a fixture
from tests.unit.stub.monitored import Detached, python

START = 1_700_000_000  # seconds; entry i is i seconds later


def line(i: int, text: str = "", stream: str = "stdout") -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + i)) + (f".{i:09d}".rstrip("0") if i else "") + "Z"
    return json.dumps({"log": text or f"{i}\n", "stream": stream, "time": stamp}) + "\n"


@pytest.fixture
def rotated(tmp_path) -> str:
    """Entries 0–29: ten in .2, ten in .1, ten in the live file."""
    path = str(tmp_path / "c-json.log")
    for index, name in enumerate((f"{path}.2", f"{path}.1", path)):
        with open(name, "w") as f:
            f.writelines(line(i) for i in range(index * 10, index * 10 + 10))
    return path


def numbers(entries) -> list[int]:
    return [int(e.log) for e in entries]


def test_all_files_are_read_oldest_first(rotated):
    """Everything that rotation has kept comes, in order."""
    assert numbers(logs.read(rotated)) == list(range(30))


def test_more_than_ten_rotated_files_are_in_order_of_their_numbers(tmp_path):
    """.10 is older than .9, also if .11 is missing and other files lie about."""
    path = str(tmp_path / "log")
    for i, index in enumerate((12, 10, 9, 2, 1)):
        (tmp_path / f"log.{index}").write_text(line(i))
    (tmp_path / "log").write_text(line(5))
    (tmp_path / "log.new").write_text(line(99))
    (tmp_path / "logs.1").write_text(line(98))
    assert numbers(logs.read(path)) == [0, 1, 2, 3, 4, 5]


def test_a_file_with_two_names_is_read_once(rotated):
    """A monitor killed between link and rename leaves the live file also as .1."""
    os.unlink(f"{rotated}.1")
    os.link(rotated, f"{rotated}.1")
    assert numbers(logs.read(rotated)) == [*range(10), *range(20, 30)]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 30, 1000])
def test_tail_counts_over_all_files(rotated, count):
    """--tail N are the N newest of all files."""
    assert numbers(logs.read(rotated, tail=count)) == list(range(30))[max(0, 30 - count):]


def test_tail_of_lines_larger_than_a_read(tmp_path):
    """Counting from the end finds lines that span several reads."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.writelines(line(i, f"{i}" + "x" * 100_000 + "\n") for i in range(20))
    assert [int(e.log.split(b"x")[0]) for e in logs.read(path, tail=7)] == list(range(13, 20))


def test_tail_of_a_big_log_reads_the_end_only(tmp_path, monkeypatch):
    """The last ten lines of 100 MB are read from the end."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.write(line(0))
        f.seek(100_000_000)
        f.write("\n")
        f.writelines(line(i) for i in range(1, 21))
    real, seen = os.pread, []

    def pread(fd: int, length: int, offset: int) -> bytes:
        seen.append(length)
        return real(fd, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert numbers(logs.read(path, tail=10)) == list(range(11, 21))
    assert sum(seen) < 1_000_000


def test_since_and_until_include_their_bounds(rotated):
    """Entries of exactly these nanoseconds count, the next do not."""
    at = (START + 5) * 10**9 + 5
    assert numbers(logs.read(rotated, since=at)) == list(range(5, 30))
    assert numbers(logs.read(rotated, since=at + 1)) == list(range(6, 30))
    assert numbers(logs.read(rotated, until=at)) == list(range(6))
    assert numbers(logs.read(rotated, until=at - 1)) == list(range(5))
    assert numbers(logs.read(rotated, since=START * 10**9, until=START * 10**9)) == [0]


def test_tail_is_taken_before_since_and_until(rotated):
    """As docker: of the newest ten those that lie in the time."""
    assert numbers(logs.read(rotated, tail=10, until=(START + 22) * 10**9)) == [20, 21]


def test_rotated_files_that_ended_before_since_are_not_read(rotated, monkeypatch):
    """--since on a long log costs what it shows."""
    for name, index in ((f"{rotated}.2", 9), (f"{rotated}.1", 19)):
        os.utime(name, (START + index, START + index))
    opened: list[int] = []
    real = logs._File.lines
    monkeypatch.setattr(logs._File, "lines", lambda self, end: (opened.append(self.inode), real(self, end))[1])
    assert numbers(logs.read(rotated, since=(START + 25) * 10**9)) == list(range(25, 30))
    assert opened == [os.stat(rotated).st_ino]


def test_streams_times_and_bytes_come_as_logged(tmp_path):
    """Streams are told apart, times have nine digits, a part of a line has no newline, text is UTF-8."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.write(line(0, "part", "stderr") + line(120_000_000, "\u20ac\u0000\n"))
    first, second = logs.read(path)
    assert (first.stream, first.log, first.time[19:]) == ("stderr", b"part", ".000000000Z")
    assert (second.stream, second.log, second.time[19:]) == ("stdout", "\u20ac\0\n".encode(), ".120000000Z")


def test_torn_lines_are_left_out(tmp_path):
    """What a crash of the machine tore, at the end or in the middle, hides nothing else."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.write(line(0) + '{"log":"torn\n' + line(1) + "\n\0\0\0\n[]\n" + line(2) + line(3)[:-5])
    assert numbers(logs.read(path)) == [0, 1, 2]


def test_no_log_yet_is_no_entry(tmp_path):
    """A container that never ran has an empty log, also when followed."""
    assert list(logs.read(str(tmp_path / "none" / "log"))) == []
    assert list(logs.read(str(tmp_path / "log"), follow=True)) == []


# -- follow --------------------------------------------------------------------------------------------------------


def test_follow_goes_over_rotations_without_loss_or_doubling(program, tmp_path):  # noqa: F811  # the fixture
    """A reader that follows a container rotating all the time sees every line of both streams once, in order, and ends."""
    code = ("import os,time\nfor i in range(20000):\n  os.write(1 + i % 2, b'%d %s\\n' % (i, b'y' * (i % 97)))\n"
            "  if i % 500 == 0: time.sleep(0.01)")
    c = Detached(program, tmp_path, python(code), options=("log-max-size=50000", "log-max-files=40"))
    got: dict[str, list[int]] = {"stdout": [], "stderr": []}
    for entry in logs.read(c.log, follow=True, alive=lambda: not os.path.exists(c.exit)):
        got[entry.stream].append(int(entry.log.split()[0]))
    assert c.wait() == 0
    assert got == {"stdout": list(range(0, 20000, 2)), "stderr": list(range(1, 20000, 2))}
    assert len(list(tmp_path.glob("c-json.log.*"))) > 20


def test_a_slow_follower_loses_only_what_rotation_dropped(tmp_path):
    """Behind by several rotations it goes on with its own file's successor, and reads none twice."""
    path = str(tmp_path / "log")

    def write(name: str, *values: int) -> None:
        with open(name, "a") as f:
            f.writelines(line(i) for i in values)

    write(path, 0, 1)
    state = {"alive": True}
    entries = logs.read(path, follow=True, alive=lambda: state["alive"])
    assert [int(next(entries).log), int(next(entries).log)] == [0, 1]
    write(path, 2)
    for values in ((3, 4), (5,), (6, 7)):  # three rotations while it does not look
        for index in (3, 2, 1):
            if os.path.exists(f"{path}.{index}"):
                os.rename(f"{path}.{index}", f"{path}.{index + 1}")
        os.rename(path, f"{path}.1")
        write(path, *values)
    state["alive"] = False
    assert numbers(entries) == [2, 3, 4, 5, 6, 7]


def test_follow_after_tail_zero_shows_only_what_is_new(rotated):
    """`logs -f --tail 0` starts with the next line."""
    pid = os.fork()
    if pid == 0:
        time.sleep(0.3)
        with open(rotated, "a") as f:
            f.write(line(30))
        os._exit(0)
    entries = logs.read(rotated, follow=True, tail=0, alive=lambda: True)
    assert int(next(entries).log) == 30
    entries.close()
    os.waitpid(pid, 0)


def test_follow_waits_for_the_rest_of_a_line(tmp_path):
    """A line that is only half there is shown once it is whole."""
    path = str(tmp_path / "log")
    half = line(1)
    with open(path, "w") as f:
        f.write(line(0) + half[:20])
    entries = logs.read(path, follow=True, alive=lambda: True)
    assert int(next(entries).log) == 0
    with open(path, "a") as f:
        f.write(half[20:])
    assert int(next(entries).log) == 1
    entries.close()


def test_follow_forgets_half_a_line_that_was_taken_back(tmp_path):
    """A full disk: the monitor cuts the torn line off and writes other ones in its place."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.write(line(0) + line(9)[:30])
    calls = []

    def alive() -> bool:
        calls.append(1)
        if len(calls) == 2:
            os.truncate(path, len(line(0)))
        if len(calls) == 4:
            with open(path, "a") as f:
                f.write(line(1))
        return len(calls) < 6

    assert numbers(logs.read(path, follow=True, alive=alive)) == [0, 1]


def test_follow_ends_when_until_is_over(tmp_path):
    """`logs -f --until 0.3s from now` returns though the container lives on."""
    path = str(tmp_path / "log")
    with open(path, "w") as f:
        f.write(line(0))
    before = time.monotonic()
    list(logs.read(path, follow=True, until=time.time_ns() + 300_000_000, alive=lambda: True))
    assert 0.2 < time.monotonic() - before < 10


def test_descriptors_are_closed(rotated):
    """Neither an end nor a caller that stops early leaves a file open."""
    before = sorted(os.listdir("/proc/self/fd"))
    list(logs.read(rotated))
    list(logs.read(rotated, tail=3))
    list(logs.read(rotated, follow=True))
    entries = logs.read(rotated)
    next(entries)
    entries.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


# -- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "nanoseconds"), [
    ("1136073600", 1136073600 * 10**9), ("1136073600.25", 1136073600_250000000), ("1136073600.000000001", 1136073600_000000001),
    ("2026-11-20T23:52:07.123456789Z", 1795218727_123456789), ("2026-11-20T23:52:07Z", 1795218727 * 10**9),
    ("2026-11-21T01:52:07+02:00", 1795218727 * 10**9), ("2026-11-20T23:52Z", 1795218720 * 10**9),
    ("2026-11-20Z", 1795132800 * 10**9)])
def test_absolute_times(text, nanoseconds):
    """Seconds of the epoch and dates with a zone."""
    assert logs.parse_time(text) == nanoseconds


def test_dates_without_a_zone_are_local(monkeypatch):
    """As in docker."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert logs.parse_time("2026-11-21T08:52:07") == 1795218727 * 10**9
        assert logs.parse_time("2026-11-21") == (1795132800 + 86400 - 9 * 3600) * 10**9
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("text", "seconds"), [("42m", 2520), ("1h30m", 5400), ("1.5h", 5400), ("10s", 10), ("500ms", 0.5),
                                               ("-10s", -10)])
def test_times_ago(text, seconds):
    """Go's durations, before now."""
    given = logs.parse_time(text)
    assert given is not None
    assert abs(time.time() - seconds - given / 1e9) < 5


@pytest.mark.parametrize("text", ["yesterday", "5x", "2026-13-40T00:00:00Z", "2026-11-20T25:00:00", "m", "1h2", "0x10", "1.2.3"])
def test_what_is_no_time_is_named(text):
    """The error repeats it and says what is."""
    with pytest.raises(UsageError, match="invalid time"):
        logs.parse_time(text)


def test_no_time_is_none():
    """An absent flag."""
    assert logs.parse_time("") is None
