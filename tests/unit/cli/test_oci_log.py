"""Log lines as logrus writes them, byte for byte."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from minicontainer.cli.oci.log import Log

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"


def written(tmp_path: Path, message: str, *, as_json: bool) -> str:
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        Log(fd, json=as_json).error(message)
    finally:
        os.close(fd)
    return (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a/b-c.d_e@f^g+h", "a/b-c.d_e@f^g+h"),
        ('exec: "x"', r'"exec: \"x\""'),
        ("a\nb\tc\\", r'"a\nb\tc\\"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("größer", '"größer"'),
        ("a=b", '"a=b"'),
    ],
)
def test_text(tmp_path: Path, capfd: pytest.CaptureFixture[str], message: str, shown: str) -> None:
    line = written(tmp_path, message, as_json=False)
    assert re.fullmatch(rf'time="{TIME}" level=error msg={re.escape(shown)}\n', line)
    assert capfd.readouterr().err == f"{message}\n", "and plain on stderr"


@pytest.mark.parametrize("message", ["plain", 'a "b" \\ <c> & \x1b\n', "größer 🐳", "half \udcff"])
def test_json(tmp_path: Path, message: str) -> None:
    line = written(tmp_path, message, as_json=True)
    assert re.fullmatch(rf'{{"level":"error","msg":".*","time":"{TIME}"}}\n', line)
    assert json.loads(line)["msg"] == message.encode("utf-8", "replace").decode()
    assert not set("<>&\x1b") & set(line), "Go escapes what HTML could take for its own"


def test_without_a_file_the_line_itself_is_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    Log(json=True).error("gone")
    Log().warn("hm")
    Log().debug("unheard")
    Log(debug=True).debug("heard")
    lines = capfd.readouterr().err.splitlines()
    assert json.loads(lines[0])["msg"] == "gone"
    assert lines[1].endswith(" level=warning msg=hm") and lines[2].endswith(" level=debug msg=heard") and len(lines) == 3


def test_a_log_that_cant_be_written_ends_nothing() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        Log(fd).warn("lost")
    finally:
        os.close(fd)
