"""The flag parser has pflag's rules and says what is wrong in docker's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.cli.flags import Flag, help_text, parse
from minicontainer.errors import UsageError

FLAGS = (
    Flag("detach", "d", "bool", "Run in background"),
    Flag("interactive", "i", "bool", "Keep STDIN open"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("memory", "m", "bytes", "Memory limit", parse=int),
    Flag("publish", "p", "list", "Publish a port"),
    Flag("net", kind="network", same_as="network"),
    Flag("network", kind="network", help="Connect to a network"),
    Flag("name", help="A name of its own", default="some"),
    Flag("shares", kind="int", help="A number"),
    Flag("explain", help="Explain", implied="text"),
    Flag("gpus", refused="there is no hook"),
)


@pytest.mark.parametrize(
    ("argv", "values", "args"),
    [
        ([], {}, []),
        (["--name", "x", "a"], {"name": "x"}, ["a"]),
        (["--name=x=y"], {"name": "x=y"}, []),
        (["--name="], {"name": ""}, []),
        (["-it"], {"interactive": True, "tty": True}, []),
        (["-itd=false"], {"interactive": True, "tty": True, "detach": False}, []),
        (["-p80:80"], {"publish": ["80:80"]}, []),
        (["-p=80:80"], {"publish": ["80:80"]}, []),
        (["-dp", "80:80", "-p", "81"], {"detach": True, "publish": ["80:80", "81"]}, []),
        (["--detach=false", "--tty=T"], {"detach": False, "tty": True}, []),
        (["--tty", "false"], {"tty": True}, ["false"]),
        (["--net", "host"], {"network": ["host"]}, []),
        (["--net=a", "--network=b"], {"network": ["a", "b"]}, []),
        (["--explain", "json"], {"explain": "text"}, ["json"]),
        (["--explain=json"], {"explain": "json"}, []),
        (["--shares", "0x10"], {"shares": 16}, []),
        (["--shares", "-017"], {"shares": -15}, []),
        (["--name", "--tty"], {"name": "--tty"}, []),
        (["a", "-", "b"], {}, ["a", "-", "b"]),
        (["--", "--tty", "-x"], {}, ["--tty", "-x"]),
    ],
)  # fmt: skip
def test_forms(argv: list[str], values: dict, args: list[str]) -> None:
    """Each way to write a flag gives its value, and what is left is positional."""
    assert parse(FLAGS, argv) == (values, args)


def test_interspersed() -> None:
    """Flags after the first positional are the verb's, or with interspersed=False the container's."""
    argv = ["--tty", "image", "--detach", "--", "--name"]
    assert parse(FLAGS, argv) == ({"tty": True, "detach": True}, ["image", "--name"])
    assert parse(FLAGS, argv, False) == ({"tty": True}, ["image", "--detach", "--", "--name"])


def test_defaults_are_not_given() -> None:
    """A flag that is not given answers its default, and one can tell."""
    values, _ = parse(FLAGS, ["--shares=1"])
    assert (values["name"], values["publish"], values["tty"], values["shares"]) == ("some", (), False, 1)
    assert "name" not in values and "shares" in values
    with pytest.raises(KeyError):
        values["nmae"]


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["-th"], ["--tty", "--help", "--nonsense"], ["x", "--help"]])
def test_help_ends_the_parsing(argv: list[str]) -> None:
    """--help is heard before anything after it is wrong."""
    assert parse(FLAGS, argv)[0]["help"] is True


def test_help_after_the_command_is_the_programs() -> None:
    """`run image ls --help` asks ls."""
    values, args = parse(FLAGS, ["image", "ls", "--help"], False)
    assert "help" not in values and args == ["image", "ls", "--help"]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--foo"], "unknown flag: --foo", "See 'box run --help'."),
        (["--foo=1"], "unknown flag: --foo", "See 'box run --help'."),
        (["--memroy", "1"], "unknown flag: --memroy", "did you mean --memory? See 'box run --help'."),
        (["-name", "x"], "unknown shorthand flag: 'n' in -name", "did you mean --name? See 'box run --help'."),
        (["-z"], "unknown shorthand flag: 'z' in -z", "See 'box run --help'."),
        (["-tz"], "unknown shorthand flag: 'z' in -z", "See 'box run --help'."),
        (["--name"], "flag needs an argument: --name", "See 'box run --help'."),
        (["-tm"], "flag needs an argument: 'm' in -m", "See 'box run --help'."),
        (["---x"], "bad flag syntax: ---x", "See 'box run --help'."),
        (["--=x"], "bad flag syntax: --=x", "See 'box run --help'."),
        (["--tty=maybe"], 'invalid argument "maybe" for "-t, --tty" flag: must be true or false', ""),
        (["--shares=many"], 'invalid argument "many" for "--shares" flag: must be a whole number', ""),
        (["--gpus", "all"], "unknown flag: --gpus", "docker has it; minicontainer does not: there is no hook"),
        (["--gpus"], "unknown flag: --gpus", "docker has it; minicontainer does not: there is no hook"),
    ],
)
def test_errors(argv: list[str], message: str, hint: str) -> None:
    """A wrong flag is named, with the way out, and the exit code is docker's."""
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, argv, False, "box run")
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (message, hint, 125)


def test_single_dash_before_a_long_name() -> None:
    """`-memory 5` is -m with the value "emory": the error says what was meant."""
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, ["-memory", "5"])
    assert 'invalid argument "emory" for "-m, --memory" flag' in caught.value.message
    assert caught.value.hint == "did you mean --memory?"


def test_help_text() -> None:
    """--help lists the table, sorted, wrapped, with defaults, without other spellings and refused flags."""
    text = help_text("box run [OPTIONS] IMAGE", "Run it", FLAGS, width=58)
    assert text == (
        "Usage:  box run [OPTIONS] IMAGE\n\nRun it\n\nOptions:\n"
        "  -d, --detach                    Run in background\n"
        '      --explain string[="text"]   Explain\n'
        "  -i, --interactive               Keep STDIN open\n"
        "  -m, --memory bytes              Memory limit\n"
        "      --name string               A name of its own\n"
        '                                  (default "some")\n'
        "      --network network           Connect to a network\n"
        "  -p, --publish list              Publish a port\n"
        "      --shares int                A number\n"
        "  -t, --tty                       Allocate a pseudo-TTY\n"
    )


def test_imports_nothing_slow() -> None:
    """The modules on the way of every `run` load nothing that costs milliseconds."""
    slow = "json re enum typing dataclasses functools collections pathlib subprocess tempfile shutil hashlib argparse "
    slow += "logging contextlib socket datetime ipaddress csv signal difflib _cffi_backend"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r}); before = set(sys.modules)\n"
        "import minicontainer.cli.run_flags, minicontainer.engine.options_check, minicontainer.engine.spec\n"
        "from minicontainer.cli import flags, run_flags\n"
        "from minicontainer.engine import options, options_check\n"
        "argv = ['--rm', '-it', '--network', 'none', '-m', '64m', '--cpus', '0.5', 'busybox', 'true']\n"
        "asked = options.from_flags(*flags.parse(run_flags.RUN_FLAGS, argv, False))\n"
        "options_check.check(asked)\n"
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & set(slow.split())
