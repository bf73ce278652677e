"""`update`: from flags to linux.resources, in runc's units and words."""

from __future__ import annotations

import pytest

from minicontainer.cli.oci.flags import parse
from minicontainer.cli.oci.update import VERBS, ram_in_bytes, resources_of
from minicontainer.errors import UsageError


def resources(*argv: str) -> dict:
    return resources_of(parse(VERBS["update"].flags, list(argv), interspersed=True)[0])


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], {}),
        (["--memory", "64m"], {"memory": {"limit": 64 << 20}}),
        (["--memory", "1g", "--memory-swap", "-1"], {"memory": {"limit": 1 << 30, "swap": -1}}),
        (["--memory", "-1"], {"memory": {"limit": -1}}),
        (["--memory-reservation=1024"], {"memory": {"reservation": 1024}}),
        (
            ["--cpu-quota", "-1", "--cpu-period", "100000", "--cpu-share", "512", "--cpu-burst", "7"],
            {"cpu": {"quota": -1, "period": 100000, "shares": 512, "burst": 7}},
        ),
        (["--cpu-rt-period", "1", "--cpu-rt-runtime", "2"], {"cpu": {"realtimePeriod": 1, "realtimeRuntime": 2}}),
        (["--cpu-idle", "1"], {"cpu": {"idle": 1}}),
        (["--cpuset-cpus", "0-1", "--cpuset-mems", "0"], {"cpu": {"cpus": "0-1", "mems": "0"}}),
        (["--pids-limit", "20", "--blkio-weight", "100"], {"pids": {"limit": 20}, "blockIO": {"weight": 100}}),
        (["--pids-limit", "-1"], {"pids": {"limit": -1}}),
        (["--pids-limit", "0"], {"pids": {"limit": 0}}),
        (["--memory", "", "--cpuset-cpus", ""], {}),
    ],
)
def test_what_is_named_is_what_is_changed(argv: list[str], found: dict) -> None:
    assert resources(*argv) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("1b", 1),
        ("32k", 32768),
        ("32 KB", 32768),
        ("32KiB", 32768),
        ("1.5m", 3 << 19),
        ("2T", 2 << 40),
        ("-1", -1),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert ram_in_bytes(text) == count


@pytest.mark.parametrize("text", ["abc", "-2", "1.2.3k", "5x", "1kk", ".5k", "1 000", "k", "1  k", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=f"invalid size: '{text}'"):
        ram_in_bytes(text)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--memory", "abc"], "invalid value for memory: invalid size: 'abc'"),
        (["--memory", "9" * 400 + ".0"], "invalid value for memory: cannot convert float infinity to integer"),
        (["--cpu-quota", "abc"], 'invalid value for cpu-quota: strconv.ParseInt: parsing "abc": invalid syntax'),
        (["--cpu-period", "-1"], 'invalid value for cpu-period: strconv.ParseUint: parsing "-1": invalid syntax'),
        (["--cpu-share", str(1 << 64)], f'invalid value for cpu-share: strconv.ParseUint: parsing "{1 << 64}": value out of range'),
    ],
)
def test_errors(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resources(*argv)
    assert error.value.message == message
