"""Any config.json ends in a container or in one clear line: a valid one, changed at a few places, thousands of times.

The places are those of a config that has nearly every field of the spec; what is put there are other types, extremes, what
stands elsewhere in it, and any JSON. The same examples come each time (derandomize).
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicontainer.errors import MinicontainerError
from minicontainer.runtime.cgroups import cgroup_of
from minicontainer.runtime.joining import make_exec_plan
from minicontainer.runtime.plan import Plan, make_plan
from minicontainer.runtime.seccomp import filter_for, flags_for
from minicontainer.runtime.validate import check, check_process, check_resources, check_root
from minicontainer.stub import describe
from minicontainer.stub.ops import Slot
from minicontainer.stub.program import Program
from tests.integration.engine import SLOW, Done
from tests.integration.oci import CONFIG, Oci

_RATES = {
    f"throttle{way}{what}Device": [{"major": 7, "minor": 0, "rate": 1 << 20}]
    for way in ("Read", "Write")
    for what in ("Bps", "IOPS")
}
_MAPPINGS = [{"containerID": 0, "hostID": 100_000, "size": 65536}]

FULL: dict[str, Any] = copy.deepcopy(CONFIG)
FULL["domainname"] = "example"
FULL["annotations"] = {"a": "b"}
FULL["root"]["readonly"] = True
FULL["hooks"] = {kind: [{"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 2}] for kind in
                 ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")}  # fmt: skip
FULL["process"].update(
    terminal=False,
    consoleSize={"height": 24, "width": 80},
    user={"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
    env=["PATH=/bin", "A=1"],
    rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    oomScoreAdj=10,
    noNewPrivileges=True,
    apparmorProfile="",
    selinuxLabel="",
    scheduler={"policy": "SCHED_OTHER", "nice": 3, "flags": [], "priority": 0},
    ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 4},
    execCPUAffinity={"initial": "0", "final": "0"},
)
FULL["process"]["capabilities"].update(inheritable=["CAP_KILL"], ambient=["CAP_KILL"])
FULL["mounts"] += [
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k", "noatime", "rro", "tmpcopyup"]},
    {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "rprivate"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
    {"destination": "relative/place", "type": "tmpfs", "source": "x"},
]
FULL["linux"].update(
    cgroupsPath="/mc-fuzz/one",
    sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"},
    devices=[{"path": "/dev/random", "type": "c", "major": 1, "minor": 8, "fileMode": 438, "uid": 1, "gid": 1},
             {"path": "/dev/pipe", "type": "p"}],
    rootfsPropagation="rprivate",
    mountLabel="",
    personality={"domain": "LINUX", "flags": []},
)  # fmt: skip
FULL["linux"]["resources"].update(
    memory={"limit": 1 << 27, "reservation": 1 << 26, "swap": 1 << 27, "disableOOMKiller": False},
    cpu={"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
    pids={"limit": 50},
)
# What only a host that has it can do, or what would change this host: planned, never carried out.
EVERYTHING: dict[str, Any] = copy.deepcopy(FULL)
EVERYTHING["process"]["terminal"] = True
EVERYTHING["root"]["path"] = "usr"
EVERYTHING["linux"].update(
    uidMappings=_MAPPINGS,
    gidMappings=_MAPPINGS,
    timeOffsets={"monotonic": {"secs": 1, "nanosecs": 1}, "boottime": {"secs": -1}},
    memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
)
EVERYTHING["linux"]["namespaces"] += [{"type": "user"}, {"type": "time"}]
EVERYTHING["linux"]["namespaces"][0]["path"] = "/proc/self/ns/pid"
EVERYTHING["mounts"][-3].update(uidMappings=_MAPPINGS, gidMappings=_MAPPINGS)

del EVERYTHING["linux"]["resources"]

RESOURCES: dict[str, Any] = {
    **FULL["linux"]["resources"],
    "memory": {**FULL["linux"]["resources"]["memory"], "swappiness": 10},
    "blockIO": {"weight": 100, "weightDevice": [{"major": 7, "minor": 0, "weight": 100}], **_RATES},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 21}],
    "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
    "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 1}},
    "unified": {"pids.max": "10", "memory.high": "max"},
}

SECCOMP: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls": [
        {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
         "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
    ],
}  # fmt: skip

EXTREMES = [
    None, True, False, 0, 1, -1, 2, 7, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64,
    10**30, 0.0, 1.5, -1e308, "", "0", "-1", "x", "é", "\0", "a\0b", "\n", "\x1b[31m", "\ud800", "\udcff", "x" * 70, "x" * 300, "x" * 5000, "../../x", "a/../b", "./.",
    "//", "%s%n", "SCMP_ACT_ALLOW", "bind", "/no/such/file", [], {}, [None], [""], [0], [[]], [{}], {"": ""}, {"x": None}, {"path": ""}, ["x"] * 40,
]  # fmt: skip

Path = tuple["str | int", ...]


def places(value: object, at: Path = ()) -> list[Path]:
    """The path of every member of a JSON value, and of itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in items for path in places(item, (*at, key)))]


def found(value: Any, path: Path) -> Any:
    """The member at a path."""
    for key in path:
        value = value[key]
    return value


def changes(config: dict, most: int = 4) -> st.SearchStrategy[list[tuple[Path, str, Any]]]:
    """One change or more: a place, what is done there, and the value; often a value of the same kind."""
    paths = places(config)[1:]
    anything = st.recursive(
        st.sampled_from(EXTREMES) | st.text(max_size=8) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    elsewhere = st.sampled_from(paths).map(lambda path: copy.deepcopy(found(config, path)))
    value = st.sampled_from(EXTREMES) | elsewhere | anything
    way = st.sampled_from(["set", "set", "set", "like", "like", "drop", "null", "twice", "add"])
    return st.lists(st.tuples(st.sampled_from(paths), way, value), min_size=1, max_size=most)


def like(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return (
        value + 1
        if isinstance(value, int)
        else f"{value}x"
        if isinstance(value, str)
        else copy.deepcopy(value[1:])
        if isinstance(value, list)
        else {}
    )


def changed(config: dict, todo: list[tuple[Path, str, Any]]) -> Any:
    """The config with the changes; one whose place is gone already is left out."""
    config = copy.deepcopy(config)
    for path, way, value in todo:
        try:
            at, key = found(config, path[:-1]), path[-1]
            at[key]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(at, str):
            continue
        if way == "drop":
            del at[key]
        elif way == "twice" and isinstance(at, list):
            at.append(copy.deepcopy(at[key]))
        elif way == "add" and isinstance(at[key], dict):
            at[key][str(value)[:20]] = copy.deepcopy(value)
        elif way == "add" and isinstance(at[key], list):
            at[key].append(copy.deepcopy(value))
        elif way == "like":
            at[key] = like(at[key])
        else:
            at[key] = None if way == "null" else copy.deepcopy(value)
    return config


def fuzzed(examples: int) -> settings:
    """The same examples in every run; few where Python is slow."""
    return settings(
        max_examples=max(10, examples // 40) if SLOW else examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def carried(plan: Plan) -> None:
    """What launch.py would do with a plan, up to the first system call; and every step in words, as an error would say it."""
    slots = {plan.sync: 4}
    slots.update({slot: 5 for slot in (plan.console, plan.fifo) if isinstance(slot, Slot)})
    slots.update(dict.fromkeys(plan.inherit, 6))
    for ops in (plan.before, plan.after(os.getpid()), plan.container):
        Program(list(ops), slots if ops is plan.container else {})
        for op in ops:
            assert describe.call(op)
            describe.hint(op, 22)


def planned(config: Any) -> None:
    """What load_spec() checks, make_plan() and carried()."""
    check(config)
    check_root(os.path.join("/", config["root"]["path"]))
    group = cgroup_of(config.get("linux", {}).get("cgroupsPath") or "/mc-fuzz/one")
    carried(make_plan(config, ident="one", bundle="/", cgroup=group, waits=True))


@pytest.mark.parametrize("config", [FULL, EVERYTHING], ids=["full", "everything"])
def test_what_is_changed_is_right_before(config: dict) -> None:
    planned(copy.deepcopy({**config, "root": {"path": "usr"}}))


@given(changes(EVERYTHING))
@fuzzed(1600)
def test_any_config_is_planned_or_refused(todo: list) -> None:
    """check() and make_plan() raise nothing but what has a message; what they let pass can be encoded for the stub."""
    config = changed(EVERYTHING, todo)
    try:
        planned(config)
    except MinicontainerError as e:
        assert e.message


@given(changes(RESOURCES))
@fuzzed(800)
def test_any_limit_is_set_or_refused(todo: list) -> None:
    """The same for linux.resources, one section at a time, since what this host lacks is refused first."""
    resources = changed(RESOURCES, todo)
    section = todo[0][0][0]
    resources = {section: resources[section]} if section in resources else {}
    try:
        check_resources(resources)
        Program(list(cgroup_of("/mc-fuzz/one").create_ops(resources)), {})
    except MinicontainerError as e:
        assert e.message


@given(changes(FULL["process"]))
@fuzzed(800)
def test_any_process_is_planned_or_refused(todo: list) -> None:
    """The same for what `exec --process` is given."""
    process = changed(FULL["process"], todo)
    try:
        check_process(process)
        carried(make_exec_plan({"process": process}, ident="one", pid=os.getpid(), pidfd=7, cgroup=cgroup_of("/mc-fuzz/one")))
    except MinicontainerError as e:
        assert e.message


@given(changes(SECCOMP))
@fuzzed(150)
def test_any_seccomp_is_compiled_or_refused(todo: list) -> None:
    """The same for linux.seccomp, down to the BPF program."""
    config = {**copy.deepcopy(FULL), "linux": {"seccomp": changed(SECCOMP, todo)}}
    del config["hostname"], config["domainname"]
    try:
        check(config)
        seccomp = config["linux"].get("seccomp")
        if seccomp:
            filter_for(seccomp, [], "")
            flags_for(seccomp)
    except MinicontainerError as e:
        assert e.message


def told(done: Done) -> int:
    """The exit code of a command that did what it was asked to, or said why not in one line."""
    lines = [line for line in done.err.splitlines() if "level=warning" not in line]
    assert done.code in (0, 1) and len(lines) == done.code and "Traceback" not in done.err and "internal error" not in done.err, (
        done
    )
    return done.code


# Places whose change could reach this host when it is carried out by root, and so are only planned.
_KEPT: list[Path] = [("root", "path"), ("linux", "cgroupsPath")]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes containers: needs root")
def test_any_config_becomes_a_container_or_nothing(oci: Oci) -> None:
    """The same for real: `create` makes a container that can be started and deleted, or says one line and leaves nothing."""
    base = copy.deepcopy(FULL)
    base["linux"]["cgroupsPath"] = oci.config["linux"]["cgroupsPath"]
    oci.config = base
    oci.write()
    oci.ok("create", "one")
    oci.clear()
    outcomes = {0: 0, 1: 0}

    @given(changes(base, most=2))
    @fuzzed(60)
    def one(todo: list) -> None:
        config = changed(base, todo)
        for path in _KEPT:
            try:
                found(config, path[:-1])[path[-1]] = found(base, path)
            except (KeyError, TypeError, IndexError):
                return
        (oci.bundle / "config.json").write_text(json.dumps(config))
        created = oci.fenced("create", "one")
        outcomes[told(created)] += 1
        if created.code == 0:
            told(oci.fenced("start", "one"))
            oci.ok("delete", "--force", "one")
        assert not oci.left(), created

    one()
    assert min(outcomes.values()) > (0 if SLOW else 5), f"both outcomes are met: {outcomes}"
