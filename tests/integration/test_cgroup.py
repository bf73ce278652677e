"""Cgroups for real, on whatever hierarchy this host has: v1 and hybrid here, v2 in the guest (make test-v2)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minicontainer.cgroup import bpf, control, tree
from minicontainer.cgroup.devices import DEFAULT_RULES
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy, detect
from minicontainer.errors import Conflict, LimitError, MinicontainerError
from minicontainer.kernel import spawn
from minicontainer.stub import describe
from minicontainer.stub.program import Program

MIB = 1 << 20
PARENT = f"minicontainer-test-{os.getpid()}"
DENY_ALL = {"allow": False, "access": "rwm"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes cgroups")


def run(ops) -> list:
    """Runs host ops; the results. Fails with the op that failed."""
    program = Program(ops, {})
    failed = spawn.run_here(program.code)
    results = program.results()
    assert failed < 0, f"{describe.call(ops[failed])}: {os.strerror(results[failed].errno)}"
    return results


@pytest.fixture(params=["this host's", "v1 alone"])
def hierarchy(request) -> Iterator[Hierarchy]:
    """This host's, and on hybrid also its v1 trees without the v2 one.

    Whatever is below our parent group is killed and removed afterwards, and so is what was handed down.
    """
    h = detect()
    if request.param == "v1 alone":
        if h.mode != "hybrid":
            pytest.skip("only a hybrid host has both")
        h = Hierarchy(h.mounts, None, frozenset())
    handed = tree.read(f"{h.unified}/cgroup.subtree_control") if h.mode == "hybrid" else ""
    yield h
    whole = Cgroup(h, f"/{PARENT}")
    assert whole.kill()
    whole.remove()
    if h.mode == "hybrid":
        for controller in set(tree.read(f"{h.unified}/cgroup.subtree_control").split()) - set(handed.split()):
            tree.write(f"{h.unified}/cgroup.subtree_control", f"-{controller}")
    assert not whole.exists()


@pytest.fixture
def group(hierarchy) -> Cgroup:
    return Cgroup(hierarchy, "c", parent=PARENT)


@contextmanager
def inside(group: Cgroup, command: str) -> Iterator[subprocess.Popen]:
    """A shell command that runs in the group, entered as the stub does."""
    entries = [f"{base}{group.path}/tasks" for base in dict.fromkeys(group.hierarchy.mounts.values())]
    if group.unified_dir():
        entries.append(f"{group.unified_dir()}/cgroup.procs")
    enter = "".join(f"echo 0 >'{file}' && " for file in entries)
    process = subprocess.Popen(["sh", "-c", f"{enter} echo in && {{ {command}; }}"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        yield process
    finally:
        group.thaw()
        process.kill()
        group.kill()
        process.wait()
        process.stdout.close()


def until(condition, seconds: float = 20) -> bool:
    return control.wait_until(condition, seconds)


LIMITS = {
    "memory": {"limit": 64 * MIB + 100, "swap": 96 * MIB, "reservation": 32 * MIB},
    "cpu": {"quota": 50000, "period": 100000, "shares": 512, "burst": 1000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 100},
    "devices": [DENY_ALL, *DEFAULT_RULES],
}


def test_every_limit_is_in_the_kernel_and_nothing_stays(group):
    run(group.create_ops(LIMITS))
    group.verify(LIMITS)
    assert all(map(os.path.isdir, group.directories()))
    group.remove()
    assert not group.exists()
    group.remove()  # and again: gone already is no error


def test_verify_sees_what_someone_else_changed(group):
    run(group.create_ops({"pids": {"limit": 100}}))
    tree.write(f"{group.directory('pids')}/pids.max", "101")
    with pytest.raises(LimitError, match='asked for "100", but the kernel has "101"'):
        group.verify({"pids": {"limit": 100}})


def test_a_process_enters_every_tree(group):
    run(group.create_ops({}))
    with inside(group, "exec sleep 1000") as process:
        with open(f"/proc/{process.pid}/cgroup", encoding="utf-8") as f:
            paths = {line.rstrip("\n").split(":", 2)[2] for line in f}
        assert paths - {"/"} == {group.path}
        assert len(paths) == 1 or group.hierarchy.mode == "v1"  # the v2 tree, which that case leaves alone
        assert group.pids() == [process.pid]
        with pytest.raises(Conflict, match="cgroup is not empty: 1 process"):
            Cgroup(group.hierarchy, group.path).create_ops({})


def test_entering_by_itself_does_not_wait_for_a_grace_period(group):
    if not group.enter_ops():
        pytest.skip("on cgroup v2 processes are born in their group")
    run(group.create_ops({}))
    best = min(_enter_seconds(group) for _ in range(3))
    assert best < 0.004, f"{best * 1e3:.1f} ms; through cgroup.procs it is 6 to 20"


def _enter_seconds(group: Cgroup) -> float:
    """How long a fresh process needs to enter, after a pause in which the kernel's fast path ends."""
    time.sleep(0.25)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        results = run(group.enter_ops())
        os.write(writer, str(sum(r.duration_ns for r in results)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    nanoseconds = int(os.read(reader, 100))
    os.close(reader), os.close(writer)
    return nanoseconds / 1e9


def test_frozen_processes_stand_still_and_go_on(group):
    run(group.create_ops({}))
    with inside(group, "while :; do :; done"):
        group.freeze()
        assert group.frozen()
        before = group.stats()["cpu_usage_seconds"]
        time.sleep(0.2)
        assert group.stats()["cpu_usage_seconds"] - before < 0.01
        group.thaw()
        assert not group.frozen()
        assert until(lambda: group.stats()["cpu_usage_seconds"] > before + 0.05)


def test_kill_ends_what_is_frozen_and_what_forks_and_what_is_below(group):
    run(group.create_ops({"pids": {"limit": 200}}))
    below = [f"{path}/below/deeper" for path in group.directories() if "/cpuset/" not in path]
    for path in below:
        os.makedirs(path)
    moves = " && ".join(f"echo 0 >{path}/cgroup.procs" for path in below)
    with inside(group, f"({moves} && exec sleep 1000) & while :; do sleep 100 & sleep 0.01; done") as process:
        assert until(lambda: tree.pids(below[-1]) and len(group.pids()) > 3)
        group.freeze()
        assert group.kill()
        assert group.pids() == []
        process.wait(timeout=10)
        group.remove()
        assert not group.exists()


def test_remove_says_who_is_still_in_it(group):
    run(group.create_ops({}))
    with inside(group, "exec sleep 1000") as process:
        with pytest.raises(MinicontainerError, match=f"processes are still in it: {process.pid}"):
            group.remove(timeout_seconds=0.05)


def test_a_group_that_a_crash_left_is_used_again(group):
    run(group.create_ops({"pids": {"limit": 7}}))
    os.makedirs(f"{group.directories()[0]}/left/behind")
    again = Cgroup(group.hierarchy, group.path)
    run(again.create_ops({"pids": {"limit": 8}}))
    again.verify({"pids": {"limit": 8}})
    assert not os.path.exists(f"{group.directories()[0]}/left")


def test_an_oom_kill_is_counted(group):
    run(group.create_ops({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}))
    with inside(group, f"exec {sys.executable} -c 'x = bytearray(64 << 20)'") as process:
        assert process.wait(timeout=60) == -9
        assert group.stats()["oom_kills"] == 1


def test_a_quota_throttles_and_the_numbers_say_so(group):
    run(group.create_ops({"cpu": {"quota": 10000, "period": 100000}}))
    with inside(group, "while :; do :; done"):
        begin, used = time.monotonic(), group.stats()["cpu_usage_seconds"]
        assert until(lambda: group.stats()["cfs_throttled_periods"] >= 10)
        stats, seconds = group.stats(), time.monotonic() - begin
        assert stats["cfs_throttled_seconds"] > 0
        assert stats["cfs_periods"] >= stats["cfs_throttled_periods"]
        assert stats["cpu_usage_seconds"] - used < 0.1 * seconds * 1.5 + 0.03
        assert stats["cpu_quota_microseconds"] == 10000


def test_stats_are_the_kernels_own_numbers(group):
    run(group.create_ops({"pids": {"limit": 5}, "memory": {"limit": 64 * MIB}}))
    with inside(group, "sleep 1000 & sleep 1000 & wait"):
        assert until(lambda: group.stats()["pids"] == 3)
        stats = group.stats()
        assert (stats["pids_limit"], stats["memory_limit_bytes"]) == (5, 64 * MIB)
        assert 0 < stats["memory_working_set_bytes"] <= stats["memory_usage_bytes"] < 64 * MIB
        assert stats["cpu_usage_seconds"] == pytest.approx(stats["cpu_user_seconds"] + stats["cpu_system_seconds"], abs=0.02)


def test_limits_change_in_any_direction_while_it_runs(group):
    first = {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 10}}
    run(group.create_ops(first))
    with inside(group, "exec sleep 1000"):
        for resources in (
            {"memory": {"limit": 128 * MIB, "swap": 256 * MIB}, "cpu": {"quota": 20000, "period": 20000}, "pids": {"limit": -1}},
            {
                "memory": {"limit": 32 * MIB, "swap": 48 * MIB},
                "pids": {"limit": 3},
                "cpu": {"quota": 1000, "period": 500000, "shares": 2},
            },
            {"memory": {"limit": -1}, "cpu": {"quota": -1}},
            {"cpu": {"cpus": "0"}},
            {"cpu": {"idle": 1}},
            {"cpu": {"idle": 0, "shares": 1024}},
            {},
        ):
            run(group.update_ops(resources))
            group.verify(resources)


def device_access(group: Cgroup) -> dict[str, bool]:
    """Which devices a process in the group can open for reading."""
    names = ("null", "zero", "full", "urandom")
    command = "; ".join(f"(: </dev/{name}) 2>&- && echo {name}" for name in names)
    with inside(group, f"{command}; echo") as process:
        assert process.stdout is not None
        opened = set(iter(lambda: process.stdout.readline().strip(), ""))
    return {name: name in opened for name in names}


def test_device_rules_decide_and_an_update_replaces_them(group):
    null, zero = ({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rw"} for minor in (3, 5))
    run(group.create_ops({"devices": [DENY_ALL, null]}))
    assert device_access(group) == {"null": True, "zero": False, "full": False, "urandom": False}
    run(group.update_ops({"pids": {"limit": 10}}))
    assert not device_access(group)["zero"], "an update that does not name devices leaves them as they are"
    for _ in range(2):
        run(group.update_ops({"devices": [DENY_ALL, null, zero]}))
    group.verify({"devices": [DENY_ALL, null, zero]})
    assert device_access(group) == {"null": True, "zero": True, "full": False, "urandom": False}


def test_the_kernel_takes_the_device_program_and_obeys_it(group):
    """On hybrid too, where v1 decides otherwise: the v2 code is the same everywhere."""
    directory = group.unified_dir()
    if directory is None:
        pytest.skip("this host has no cgroup v2 tree")
    run(group.create_ops({}))
    open_fds = len(os.listdir("/proc/self/fd"))
    for last in ([], [{"allow": False, "type": "c", "major": 1, "minor": 5, "access": "r"}]):
        run(bpf.attach_ops(directory, [DENY_ALL, *DEFAULT_RULES, *last]))
        bpf.verify(directory)
        access = device_access(group)
        assert (access["null"], access["zero"]) == (True, not last)
    assert len(os.listdir("/proc/self/fd")) == open_fds


def test_cpus_that_the_host_lacks_are_refused(group):
    with pytest.raises(LimitError, match="can be used here"):
        group.create_ops({"cpu": {"cpus": "0-4000"}})
    assert not group.exists()


def test_many_at_once_share_a_parent_that_none_of_them_has_made_yet(hierarchy):
    groups = [Cgroup(hierarchy, f"/{PARENT}/at-once/{n}") for n in range(4)]
    for ops in [g.create_ops({"pids": {"limit": 5}}) for g in groups]:  # all planned before any is made
        run(ops)
    for g in groups:
        with inside(g, "exec sleep 1000"):
            g.verify({"pids": {"limit": 5}})


def test_groups_nested_deeper_than_a_path_goes_can_be_ended(hierarchy: Hierarchy) -> None:
    """A container with a cgroup tree of its own may nest groups as it likes; what is in them is still found, killed, removed."""
    group = Cgroup(hierarchy, f"/{PARENT}/deep")
    run(group.create_ops({}))
    sleeper = subprocess.Popen(["sleep", "1000"])
    here = os.getcwd()
    try:
        for directory in group.directories():
            os.chdir(directory)
            for _ in range(25):  # of 200 characters: PATH_MAX is 4,096
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
            if not directory.startswith(hierarchy.mounts.get("cpuset", "none")):  # where each level would want CPUs
                Path("cgroup.procs").write_text(str(sleeper.pid))
        os.chdir(here)
        assert group.pids() == [sleeper.pid]
        assert group.kill()
        assert sleeper.wait() == -9
        group.remove()
        assert not group.exists()
    finally:
        os.chdir(here)
        sleeper.kill()
        sleeper.wait()
