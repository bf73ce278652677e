"""The exporter on real cgroups: its figures are the kernel's, and a group that goes or comes back does not confuse it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from minicontainer.cgroup import tree
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import detect
from minicontainer.kernel import spawn
from minicontainer.metrics.exporter import Exporter
from minicontainer.metrics.source import Record
from minicontainer.stub.program import Program

MIB = 1 << 20
PARENT = f"minicontainer-test-{os.getpid()}-exporter"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes cgroups")


class Containers:
    """A source that a test changes as it likes."""

    phases = ""

    def __init__(self) -> None:
        self.all: list[Record] = []

    def records(self) -> list[Record]:
        return self.all


@pytest.fixture
def group() -> Iterator[Cgroup]:
    group = Cgroup(detect(), f"/{PARENT}/c")
    yield group
    whole = Cgroup(group.hierarchy, f"/{PARENT}")
    assert whole.kill()
    whole.remove()


@pytest.fixture
def containers() -> Containers:
    return Containers()


@pytest.fixture
def exporter(containers) -> Iterator[Exporter]:
    made = Exporter(containers, data_root="/")
    yield made
    made.close()


def start(group: Cgroup, command: str, **limits) -> subprocess.Popen:
    """A shell command in the group, made with these limits."""
    assert spawn.run_here(Program(group.create_ops(limits), {}).code) < 0
    entries = [f"{base}{group.path}/tasks" for base in dict.fromkeys(group.hierarchy.mounts.values())]
    if group.unified_dir():
        entries.append(f"{group.unified_dir()}/cgroup.procs")
    enter = "".join(f"echo 0 >'{file}' && " for file in entries)
    process = subprocess.Popen(["sh", "-c", f"{enter} echo in && {{ {command}; }}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def running(group: Cgroup, process: subprocess.Popen, **more) -> Record:
    return Record("c", name="web", cgroup=group.path, pid=process.pid, state="running", started=time.time(), network="host", **more)


def numbers(exporter: Exporter) -> dict[str, float]:
    (row,) = [r for r in exporter.rows(time.time()) if r.state]
    return row.numbers


def test_a_busy_container_is_billed_what_the_kernel_says(group, containers, exporter):
    process = start(
        group, "while :; do :; done", cpu={"quota": 20000, "period": 100000}, memory={"limit": 64 * MIB}, pids={"limit": 10}
    )
    containers.all = [running(group, process)]
    first = numbers(exporter)
    time.sleep(1.2)
    before = group.stats()
    found = numbers(exporter)
    after = group.stats()
    for key in ("cpu_usage_seconds", "cfs_periods", "cfs_throttled_periods", "cfs_throttled_seconds"):
        assert before[key] <= found[key] <= after[key]
        assert found[key] > first[key]
    assert (found["cpu_quota_microseconds"], found["spec_memory_limit_bytes"], found["pids_limit"]) == (20000, 64 * MIB, 10)
    process.kill(), process.wait(), process.stdout.close()


def test_a_group_that_is_removed_and_made_again_is_read_again(group, containers, exporter):
    process = start(group, "exec sleep 1000")
    containers.all = [running(group, process)]
    assert numbers(exporter)["pids"] == 1
    group.kill(), process.wait(), process.stdout.close()
    group.remove()
    (row,) = [r for r in exporter.rows(time.time()) if r.state]
    assert row.state == "exited" and "pids" not in row.numbers
    process = start(group, "sleep 1000 & wait")
    assert _until(lambda: numbers(exporter).get("pids") == 2), "the same container runs in a new group"
    group.kill(), process.wait(), process.stdout.close()


def test_an_oom_kill_is_told_after_the_group_has_gone(group, containers, exporter):
    process = start(
        group, f"{sys.executable} -c 'x = bytearray(64 << 20)'; exec sleep 1000", memory={"limit": 16 * MIB, "swap": 16 * MIB}
    )
    record = running(group, process)
    containers.all = [record]
    assert _until(lambda: numbers(exporter)["oom_kills"] == 1)
    group.kill(), process.wait(), process.stdout.close()
    group.remove()
    containers.all = [Record("c", name="web", cgroup=group.path, state="exited", exit_code=137, finished=time.time())]
    assert numbers(exporter)["oom_kills"] == 1
    containers.all = []
    assert numbers(exporter)["oom_kills"] == 1


def test_exporting_leaves_nothing_open_of_what_is_gone(group, containers, exporter):
    exporter.rows(time.time())
    before = len(os.listdir("/proc/self/fd"))
    process = start(group, "exec sleep 1000")
    containers.all = [running(group, process)]
    numbers(exporter)
    assert len(os.listdir("/proc/self/fd")) > before + 5
    group.kill(), process.wait(), process.stdout.close()
    group.remove()
    exporter.rows(time.time())
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_host_row_counts_all_cpu_time(exporter, group):
    first = exporter.rows(time.time())[0].numbers
    process = start(group, "while :; do :; done")
    time.sleep(0.5)
    second = exporter.rows(time.time())[0].numbers
    process.kill(), process.wait(), process.stdout.close()
    assert second["cpu_usage_seconds"] - first["cpu_usage_seconds"] > 0.1
    total = next(int(line.split()[1]) for line in tree.read("/proc/meminfo").splitlines() if line.startswith("MemTotal"))
    assert 0 < second["memory_working_set_bytes"] <= second["memory_usage_bytes"] < total * 1024


def _until(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
