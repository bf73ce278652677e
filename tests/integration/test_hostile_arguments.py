"""Hostile names, labels, variables and paths: they are data, and end where they were meant to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.engine import IMAGE, Engine

# -- names, labels, environment --------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/x",
    "a/b",
    "..",
    ".hidden",
    "-x",
    "a\nb",
    "a b",
    "$(touch /tmp/mc-pwned)",
    "`id`",
    "a;b",
    "é",
    "a\x7fb",
    "x" * 300,
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(engine: Engine, name: str) -> None:
    """A name is letters, digits and _.- alone: nothing that could be a path, a flag or a command."""
    if name:
        assert engine.box(f"--name={name}", IMAGE, "true").code == 125
    for verb in ("rm", "inspect", "logs", "start", "exec"):
        done = engine.do(verb, *(("-f",) if verb == "rm" else ()), "--", name, *(("true",) if verb == "exec" else ()))
        assert done.code != 0
        assert "Traceback" not in done.err, (verb, done)
    assert not os.path.exists("/tmp/mc-pwned")


@pytest.mark.parametrize("text", ["$(touch /tmp/mc-pwned)", "a\nb=c", '"}],"x":[{"', "\x1b[31mred", "../../x", "é\udcff"])
def test_hostile_labels_and_environment(engine: Engine, text: str) -> None:
    """Labels and variables are data: they come back as they were, and touch no file, command or JSON around them."""
    if "\udcff" in text:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    done = engine.do(
        "create",
        "--name",
        "hostile",
        "--label",
        f"l={text}",
        "-e",
        f"V={text}",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        'echo "$V"',
    )
    if done.code:  # what is no text may be refused, with a message
        assert "Traceback" not in done.err
        return
    assert engine.do("start", "-a", "hostile").out == text + "\n"
    assert "Traceback" not in engine.do("ps", "-a", "--filter", f"label=l={text}").err
    inspected = engine.do("inspect", "hostile")
    assert inspected.code == 0
    assert not os.path.exists("/tmp/mc-pwned")


@pytest.mark.parametrize("flag", ["--hostname", "--domainname"])
def test_hostile_host_names(engine: Engine, flag: str) -> None:
    """A host name can't add lines to /etc/hosts."""
    done = engine.box(flag, "a\n1.2.3.4 bank.example", IMAGE, "cat", "/etc/hosts")
    assert done.code == 125
    done = engine.box("--add-host", "a\nb:1.2.3.4", IMAGE, "true")
    assert done.code == 125


def test_hostile_volumes(engine: Engine) -> None:
    """A volume name is no path."""
    for volume in ("a/b:/x", "a..b/c:/x", "-x:/x", "é:/x", "/etc/../../x/..:/"):
        done = engine.box("-v", volume, IMAGE, "true")
        assert done.code == 125, volume
        assert "Traceback" not in done.err
    assert not os.path.exists(f"{engine.directory}/root/volumes/..data")


def test_hostile_image_names(engine: Engine) -> None:
    """Nor is an image's."""
    for name in ("../../x", "/etc/passwd", "a b", "A" * 300, "-x", "a@sha256:xyz", "..", "a:../b"):
        done = engine.do("run", "--rm", "--network", "none", "--", name, "true")
        assert done.code == 125, name
        assert "Traceback" not in done.err


def test_escape_sequences_do_not_reach_the_terminal(engine: Engine, tmp_path: Path) -> None:
    """What an image or a container is called, or was started with, can't control the terminal of who lists it."""
    engine.ok("create", "--name", "colourful", "--label", "a=\x1b[31m", IMAGE, "sh", "-c", "\x1b]0;title\x07\x1b[2J")
    assert "\x1b" not in engine.ok("ps", "-a", "--no-trunc")
