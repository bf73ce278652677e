"""runc's command line rules: what Go's package flag takes, and the words it refuses the rest in."""

from __future__ import annotations

import pytest

from minicontainer.cli.oci import VERBS, verb_of
from minicontainer.cli.oci.flags import Flag, FlagError, parse
from minicontainer.cli.oci.help import app_help, verb_help

FLAGS = (
    Flag("root", default="/r"),
    Flag("debug", kind="bool"),
    Flag("force", "f", "bool"),
    Flag("number", "n", "int"),
    Flag("env", "e", "list"),
    Flag("gids", "g", "ints"),
    Flag("interval", kind="duration", default=5.0),
)


def given(*argv: str, interspersed: bool = True) -> tuple[dict, list[str]]:
    values, args = parse(FLAGS, list(argv), interspersed=interspersed)
    return dict(values), args


@pytest.mark.parametrize(
    ("argv", "values", "args"),
    [
        (["--root", "/x", "a"], {"root": "/x"}, ["a"]),
        (["-root", "/x", "a"], {"root": "/x"}, ["a"]),
        (["--root=/x", "-root=/y"], {"root": "/y"}, []),
        (["--root="], {"root": ""}, []),
        (["--debug", "a"], {"debug": True}, ["a"]),
        (["--debug=false", "-f=T"], {"debug": False, "force": True}, []),
        (["a", "-f", "b", "--debug"], {"force": True, "debug": True}, ["a", "b"]),
        (["-f", "--", "--debug", "-x"], {"force": True}, ["--debug", "-x"]),
        (["a", "-9", "--bogus", "-f"], {"force": True}, ["a", "-9", "--bogus"]),
        (["-", "-f"], {"force": True}, ["-"]),
        (["-e", "A=1", "--env", "B=-2", "-e=C"], {"env": ["A=1", "B=-2", "C"]}, []),
        (["-n", "-5"], {"number": -5}, []),
        (["-n=0x1f", "-g", "017", "-g", "0b11"], {"number": 31, "gids": [15, 3]}, []),
        (["--interval", "1m30.5s"], {"interval": 90.5}, []),
        (["--interval=250ms"], {"interval": 0.25}, []),
        (["--interval=-1h"], {"interval": -3600.0}, []),
        (["--interval", "0"], {"interval": 0.0}, []),
        (["-h"], {"help": True}, []),
        (["--help"], {"help": True}, []),
    ],
)
def test_flags_are_read_as_by_go(argv: list[str], values: dict, args: list[str]) -> None:
    assert given(*argv) == (values, args)


def test_flags_behind_the_first_argument_are_anothers_where_that_is_a_command() -> None:
    assert given("-f", "id", "ps", "-f", "--debug", interspersed=False) == ({"force": True}, ["id", "ps", "-f", "--debug"])


def test_what_is_not_given_answers_its_default() -> None:
    values, _ = parse(FLAGS, [], interspersed=True)
    assert (values["root"], values["debug"], values["number"], values["env"], values["interval"]) == ("/r", False, 0, (), 5.0)
    assert "root" not in values


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bogus"], "flag provided but not defined: -bogus"),
        (["-bogus=1"], "flag provided but not defined: -bogus"),
        (["-9"], "flag provided but not defined: -9"),
        (["--root"], "flag needs an argument: -root"),
        (["-e"], "flag needs an argument: -e"),
        (["--debug=maybe"], 'invalid boolean value "maybe" for -debug: parse error'),
        (["-n", "x"], 'invalid value "x" for flag -n: parse error'),
        (["-n", "08"], 'invalid value "08" for flag -n: parse error'),
        (["-n", " 8"], 'invalid value " 8" for flag -n: parse error'),
        (["-n", str(1 << 63)], f'invalid value "{1 << 63}" for flag -n: value out of range'),
        (["-g", "x"], 'invalid value "x" for flag -g: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--interval", "5"], 'invalid value "5" for flag -interval: parse error'),
        (["--interval", ""], 'invalid value "" for flag -interval: parse error'),
        (["--interval", "s"], 'invalid value "s" for flag -interval: parse error'),
        (["--interval", "+-5s"], 'invalid value "+-5s" for flag -interval: parse error'),
        (["--interval", "2562048h"], 'invalid value "2562048h" for flag -interval: parse error'),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_errors_are_in_gos_words(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as error:
        given(*argv)
    assert error.value.message == message and error.value.heading == f"Incorrect Usage: {message}"


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_function_and_a_help_that_lists_its_flags(name: str) -> None:
    text = verb_help(name)
    assert text.startswith(f"NAME:\n   minicontainer-oci {name} - {VERBS[name][1]}\n")
    verb = verb_of(name)
    assert callable(verb.function)
    for flag in verb.flags:
        assert (f"--{flag.name}" in text) == bool(flag.help)


def test_the_help_lists_every_verb() -> None:
    assert all(f"\n   {name} " in app_help() for name in VERBS)
