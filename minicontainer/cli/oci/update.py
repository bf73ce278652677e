"""update: limits of a container, from a file or from flags with runc's units."""

from __future__ import annotations

import sys

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.cli.oci.log import quoted
from minicontainer.errors import UsageError

_FLAGS = (
    Flag("resources", "r", help="path to the file containing the resources to update or '-' to read from the standard input"),
    Flag("blkio-weight", kind="int", help="Specifies per cgroup weight, range is from 10 to 1000"),
    Flag("cpu-period", help="CPU CFS period to be used for hardcapping (in usecs). 0 to use system default"),
    Flag("cpu-quota", help="CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"),
    Flag("cpu-burst", help="CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst"),
    Flag("cpu-share", help="CPU shares (relative weight vs. other containers)"),
    Flag("cpu-rt-period", help="CPU realtime period to be used for hardcapping (in usecs). 0 to use system default"),
    Flag("cpu-rt-runtime", help="CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period"),
    Flag("cpu-idle", help="set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
    Flag("cpuset-cpus", help="CPU(s) to use"),
    Flag("cpuset-mems", help="Memory node(s) to use"),
    Flag("kernel-memory"),
    Flag("kernel-memory-tcp"),
    Flag("memory", help="Memory limit (in bytes)"),
    Flag("memory-reservation", help="Memory reservation or soft_limit (in bytes)"),
    Flag("memory-swap", help="Total memory usage (memory + swap); set '-1' to enable unlimited swap"),
    Flag("pids-limit", kind="int", help="Maximum number of pids allowed in the container"),
    Flag("l3-cache-schema", help="The string of Intel RDT/CAT L3 cache schema"),
    Flag("mem-bw-schema", help="The string of Intel RDT/MBA memory bandwidth schema"),
)
# flag: (where it goes in linux.resources, how it is read, its least value)
_UNSIGNED, _SIGNED, _BYTES = "ParseUint", "ParseInt", "bytes"
_NUMBERS = {
    "cpu-period": ("cpu", "period", _UNSIGNED),
    "cpu-quota": ("cpu", "quota", _SIGNED),
    "cpu-burst": ("cpu", "burst", _UNSIGNED),
    "cpu-share": ("cpu", "shares", _UNSIGNED),
    "cpu-rt-period": ("cpu", "realtimePeriod", _UNSIGNED),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", _SIGNED),
    "cpu-idle": ("cpu", "idle", _SIGNED),
    "memory": ("memory", "limit", _BYTES),
    "memory-reservation": ("memory", "reservation", _BYTES),
    "memory-swap": ("memory", "swap", _BYTES),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_RDT = {"l3-cache-schema": "l3CacheSchema", "mem-bw-schema": "memBwSchema"}
_UNITS = "bkmgtp"


def update_(call: Call) -> int:
    """update [OPTIONS] CONTAINER"""
    from minicontainer.runtime.update import update

    container, values = container_of(call), call.values
    if values["kernel-memory"] or values["kernel-memory-tcp"]:
        call.log.warn("Kernel memory settings are ignored and will be removed")
    asked = _from_file(values["resources"]) if values["resources"] else resources_of(values)
    rdt = {field: values[flag] for flag, field in _RDT.items() if values[flag]}
    for words in update(container, asked, rdt):
        call.log.warn(words)
    return 0


def _from_file(path: str) -> dict:
    from minicontainer.runtime.bundle import read_json

    try:
        found = fastjson.loads(sys.stdin.buffer.read()) if path == "-" else read_json(path)
    except OSError as e:
        from minicontainer.cli.oci import reason

        raise UsageError(f"open {path}: {reason(e)}") from None
    except ValueError as e:
        raise UsageError(f"standard input is not JSON: {e}") from None
    if not isinstance(found, dict):
        raise UsageError("the resources are not an object", "see linux.resources in config-linux.md of the OCI runtime spec")
    return found


def resources_of(values: dict) -> dict:
    """linux.resources with what the flags name, and nothing else."""
    found: dict = {}
    for flag, (group, field, kind) in _NUMBERS.items():
        if values[flag]:
            found.setdefault(group, {})[field] = _number(flag, values[flag], kind)
    for flag, (group, field) in _TEXTS.items():
        if values[flag]:
            found.setdefault(group, {})[field] = values[flag]
    if values["blkio-weight"]:
        found["blockIO"] = {"weight": values["blkio-weight"]}
    if "pids-limit" in values:
        found["pids"] = {"limit": values["pids-limit"]}
    return found


def _number(flag: str, text: str, kind: str) -> int:
    try:
        return ram_in_bytes(text) if kind == _BYTES else _decimal(text, kind)
    except (ValueError, OverflowError) as e:  # OverflowError: a fraction with more digits than a float has room for
        raise UsageError(f"invalid value for {flag}: {e}") from None


def _decimal(text: str, kind: str) -> int:
    digits = text.removeprefix("-").removeprefix("+") if kind == _SIGNED else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"strconv.{kind}: parsing {quoted(text)}: invalid syntax")
    value, most = int(text), 1 << (63 if kind == _SIGNED else 64)
    if not -most <= value < most:
        raise ValueError(f"strconv.{kind}: parsing {quoted(text)}: value out of range")
    return value


def ram_in_bytes(text: str) -> int:
    """Bytes of "512", "64m", "1.5GiB" (binary units, github.com/docker/go-units); -1 is no limit. ValueError."""
    if text == "-1":
        return -1
    rest = text.lower()
    digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
    unit = rest[len(digits) :].removeprefix(" ").removesuffix("b").removesuffix("i")
    if not digits or not digits[0].isdigit() or digits.count(".") > 1 or len(unit) > 1 or unit not in _UNITS:
        raise ValueError(f"invalid size: '{text}'")
    scale: int = 1024 ** (_UNITS.index(unit) if unit else 0)
    return int(float(digits) * scale) if "." in digits else int(digits) * scale


VERBS = {"update": Verb(update_, _FLAGS)}
