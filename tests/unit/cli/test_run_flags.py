"""The flags of run: what each takes, and what a bad value is answered."""

from __future__ import annotations

import pytest

from minicontainer.cli.flags import help_text, parse
from minicontainer.cli.run_flags import CREATE_FLAGS, RUN_FLAGS, RUN_SUMMARY, RUN_USAGE
from minicontainer.errors import UsageError


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["-m", "1x"], 'invalid argument "1x" for "-m, --memory" flag: invalid suffix: \'x\''),
        (["--cpus", "lots"], 'invalid argument "lots" for "--cpus" flag: failed to parse lots as a rational number'),
        (["--ulimit", "x"], 'invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x'),
        (["-e", "=a"], 'invalid argument "=a" for "-e, --env" flag: invalid environment variable: =a'),
        (
            ["--env-file", "/no/such"],
            'invalid argument "/no/such" for "--env-file" flag: cannot read /no/such: No such',
        ),
        (["--blkio-weight", "9"], 'for "--blkio-weight" flag: Range of blkio weight is from 10 to 1000'),
        (["--device-read-bps", "sda:1"], 'for "--device-read-bps" flag: bad format for device path: sda:1'),
        (["--restart", "often"], "for \"--restart\" flag: unknown policy 'often'; use one of 'no', 'always'"),
        (["--stop-signal", "SIGNOPE"], 'for "--stop-signal" flag: invalid signal: SIGNOPE'),
        (["--sysctl", "kernel.panic=1"], "for \"--sysctl\" flag: sysctl 'kernel.panic=1' is not allowed"),
        (["--ip", "1.2.3"], 'for "--ip" flag: IP address is not correctly formatted: 1.2.3'),
        (["-v", "a/b:/c"], 'for "-v, --volume" flag: "a/b" includes invalid characters for a local volume name'),
        (["--mount", "type=bind,src=/x"], 'for "--mount" flag: invalid mount config for type "bind": field Target'),
        (["--tmpfs", "x"], "for \"--tmpfs\" flag: invalid mount path: 'x' mount path must be absolute"),
        (["--pull", "always"], 'for "--pull" flag: minicontainer cannot pull from a registry yet'),
        (["--userns", "auto"], 'for "--userns" flag: invalid USER mode (only host'),
        (["--log-driver", "syslog"], "for \"--log-driver\" flag: logger: no log driver named 'syslog' is registered"),
        (["--platform", "linux/mips"], 'for "--platform" flag: this machine is linux/'),
        (["--explain=loud"], 'for "--explain" flag: must be text or json'),
        (["--security-opt", "apparmor=strict"], 'for "--security-opt" flag: minicontainer applies no AppArmor'),
        (["--security-opt", "what=ever"], 'for "--security-opt" flag: invalid --security-opt: "what=ever"'),
    ],
)
def test_bad_values(argv: list[str], message: str) -> None:
    """A bad value is a one-line error with the flag, the value and the reason, in docker's words where it has some."""
    with pytest.raises(UsageError) as caught:
        parse(RUN_FLAGS, argv, False)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--gpus=all", "give the device nodes with --device"),
        ("--health-cmd=true", "health checks are not run yet"),
        ("--link=a", "use --add-host"),
        ("--runtime=runc", "minicontainer-oci"),
        ("--volumes-from=a", "name the volumes with -v"),
        ("--cpu-count=1", "Windows"),
    ],
)
def test_refused_flags_say_why(flag: str, reason: str) -> None:
    """What docker has and minicontainer has not is refused with its reason, never ignored."""
    with pytest.raises(UsageError) as caught:
        parse(RUN_FLAGS, [flag, "image"], False)
    assert caught.value.message == "unknown flag: " + flag.partition("=")[0]
    assert caught.value.hint.startswith("docker has it; minicontainer does not: ") and reason in caught.value.hint


def test_explain_takes_a_value_only_with_equals() -> None:
    """`run --explain busybox` explains the start of busybox."""
    values, args = parse(RUN_FLAGS, ["--explain", "busybox"], False)
    assert (values["explain"], args) == ("text", ["busybox"])
    assert parse(RUN_FLAGS, ["--explain=json", "busybox"], False)[0]["explain"] == "json"


def test_create_has_no_attachment() -> None:
    """`create` starts nothing, so it has no --detach and its kin; the rest is the same."""
    missing = {flag.name for flag in RUN_FLAGS} - {flag.name for flag in CREATE_FLAGS}
    assert missing == {"detach", "sig-proxy"}


def test_no_name_or_letter_twice() -> None:
    """A flag that is in the table twice would hide the first."""
    names = [flag.name for flag in RUN_FLAGS]
    letters = [flag.short for flag in RUN_FLAGS if flag.short]
    assert len(names) == len(set(names)) and len(letters) == len(set(letters))


def test_help_fits_the_terminal() -> None:
    """--help has no line wider than it was asked for."""
    text = help_text(RUN_USAGE, RUN_SUMMARY, RUN_FLAGS, width=80)
    assert max(len(line) for line in text.partition("Options:")[2].splitlines()) <= 80
    assert "-m, --memory bytes" in text and "gpus" not in text
