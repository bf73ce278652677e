"""Cgroup: what is made where, what is read back, and what is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minicontainer.cgroup import making
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy
from minicontainer.cgroup.settings import Setting
from minicontainer.errors import Conflict, LimitError, Unsupported

MIB = 1 << 20


def calls(ops) -> list[tuple]:
    return [(op.call, *(a.decode() if isinstance(a, bytes) else a for a in op.args[1:3])) for op in ops]


def test_v1_makes_the_group_in_every_tree_once(v1):
    made = [args[0] for call, *args in calls(Cgroup(v1.detect(), "c").create_ops({})) if call == "mkdirat"]
    assert [path for path in made if path.endswith("/c")] == [
        f"{v1.root}/{tree}/minicontainer/c"
        for tree in ("cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "systemd")
    ]
    assert f"{v1.root}/cpuset/minicontainer" not in made, "it is there already"
    assert f"{v1.root}/memory/minicontainer" in made


def test_a_new_cpuset_gets_its_parents_before_anything_enters(v1):
    ops = calls(Cgroup(v1.detect(), "/minicontainer/c").create_ops({}))
    writes = [c for c in ops if c[0] == "write_file" and "/cpuset/" in c[1]]
    assert writes == [
        ("write_file", f"{v1.root}/cpuset/minicontainer/c/cpuset.cpus", "0-3"),
        ("write_file", f"{v1.root}/cpuset/minicontainer/c/cpuset.mems", "0"),
    ]


def test_an_empty_cpuset_on_the_way_is_filled_too(v1):
    v1.put("cpuset/a/cpuset.cpus", "1-2\n")
    v1.put("cpuset/a/cpuset.mems", "0\n")
    v1.put("cpuset/a/b/cpuset.cpus", "\n")
    ops = calls(Cgroup(v1.detect(), "/a/b/c").create_ops({"cpu": {"cpus": "2"}}))
    writes = [c[1:] for c in ops if c[0] == "write_file" and c[1].endswith("cpuset.cpus")]
    assert writes == [(f"{v1.root}/cpuset/a/b/cpuset.cpus", "1-2"), (f"{v1.root}/cpuset/a/b/c/cpuset.cpus", "2")]


def test_entering_writes_zero_to_tasks_so_that_the_kernel_waits_for_nobody(hybrid):
    group = Cgroup(hybrid.detect(), "c")
    entered = calls(group.enter_ops())
    assert all(path.endswith("/minicontainer/c/tasks") and text == "0" for _, path, text in entered)
    assert len(entered) == 9 and not any("unified" in path for _, path, _ in entered)
    assert group.unified_dir() == f"{hybrid.root}/unified/minicontainer/c"


def test_another_process_enters_by_its_number(v1):
    entered = calls(Cgroup(v1.detect(), "c").enter_ops(42))
    assert all(path.endswith("/cgroup.procs") and text == "42" for _, path, text in entered)


def test_v2_needs_no_entering(v2):
    group = Cgroup(v2.detect(), "c")
    assert group.enter_ops() == []
    assert group.unified_dir() == f"{v2.root}/minicontainer/c"


def test_a_group_with_processes_is_another_containers(v1):
    v1.put("memory/minicontainer/c/below/cgroup.procs", "17\n")
    with pytest.raises(Conflict, match="container's cgroup is not empty: 1 process"):
        Cgroup(v1.detect(), "c").create_ops({})


def test_a_group_that_is_there_is_used_but_nothing_below_it(v1):
    v1.put("memory/minicontainer/c/below/cgroup.procs", "")
    ops = calls(Cgroup(v1.detect(), "c").create_ops({}))
    where = f"{v1.root}/memory/minicontainer/c"
    assert [c[1] for c in ops if c[0] == "unlinkat"] == [f"{where}/below"]
    assert where not in [c[1] for c in ops if c[0] == "mkdirat"]


def test_a_group_that_is_there_stops_handing_controllers_down_so_that_processes_can_enter(v2):
    v2.put("minicontainer/c/cgroup.subtree_control", "memory pids\n")
    ops = calls(Cgroup(v2.detect(), "c").create_ops({}))
    assert ops[0] == ("write_file", f"{v2.root}/minicontainer/c/cgroup.subtree_control", "-memory -pids")


@pytest.mark.parametrize(
    ("tree", "file", "text"), [("v1", "freezer/c/freezer.state", "FROZEN\n"), ("v2", "c/cgroup.freeze", "1\n")]
)
def test_a_frozen_group_is_refused_in_runcs_words(tree, file, text, request):
    host = request.getfixturevalue(tree)
    host.put(file, text)
    with pytest.raises(Conflict, match="container's cgroup unexpectedly frozen"):
        Cgroup(host.detect(), "/c").create_ops({})


@pytest.mark.parametrize("kind", ["threaded", "domain threaded", "domain invalid"])
def test_a_threaded_parent_can_not_hand_memory_down(v2, kind):
    v2.put("app/cgroup.type", kind + "\n")
    with pytest.raises(Unsupported, match=f"down from {v2.root}/app: it is in {kind} mode"):
        Cgroup(v2.detect(), "/app/c").create_ops({})


def test_planning_makes_nothing(v2):
    Cgroup(v2.detect(), "c").create_ops({"memory": {"limit": MIB}})
    assert not os.path.exists(f"{v2.root}/minicontainer")


@pytest.mark.parametrize(
    ("file", "text", "fine"),
    [
        ("memory.limit_in_bytes", "1003520", True),
        ("memory.limit_in_bytes", "1000448", False),
        ("memory.limit_in_bytes", "9223372036854771712", False),
    ],
)
def test_memory_reads_back_in_whole_pages(v1, file, text, fine):
    v1.put(f"memory/minicontainer/c/{file}", text + "\n")
    _verify(v1, {"memory": {"limit": 1004000}}, fine)


@pytest.mark.parametrize(("asked", "got", "fine"), [("0,1", "0-1", True), ("0-2", "0-1", False), ("0", "", False)])
def test_cpusets_read_back_as_sets(v1, asked, got, fine):
    v1.put("cpuset/minicontainer/c/cpuset.cpus", got + "\n")
    _verify(v1, {"cpu": {"cpus": asked}}, fine)


def test_v2_cpusets_are_judged_by_what_is_effective(v2):
    v2.put("minicontainer/c/cpuset.cpus", "0-1\n")
    v2.put("minicontainer/c/cpuset.cpus.effective", "0-3\n")
    _verify(v2, {"cpu": {"cpus": "0-1"}}, False)


def test_throttles_are_found_among_their_lines(v1):
    v1.put("blkio/minicontainer/c/blkio.throttle.read_bps_device", "8:16 7\n8:0 1000\n")
    entry = {"major": 8, "minor": 0, "rate": 1000}
    _verify(v1, {"blockIO": {"throttleReadBpsDevice": [entry]}}, True)
    _verify(v1, {"blockIO": {"throttleReadBpsDevice": [{**entry, "rate": 1001}]}}, False)


def test_io_max_is_found_by_its_keys(v2):
    v2.put("minicontainer/c/io.max", "8:0 rbps=1000 wbps=max riops=max wiops=max\n")
    entry = {"major": 8, "minor": 0, "rate": 1000}
    _verify(v2, {"blockIO": {"throttleReadBpsDevice": [entry]}}, True)
    _verify(v2, {"blockIO": {"throttleWriteBpsDevice": [entry]}}, False)


@pytest.mark.parametrize(
    ("asked", "got", "fine"),
    [("1M", "1048576", True), ("max", "max", True), ("1M", "max", False), ("50000", "50000 100000", True), ("0,2", "0,2", True)],
)
def test_unified_values_read_back(v2, asked, got, fine):
    v2.put("minicontainer/c/memory.high", got + "\n")
    _verify(v2, {"unified": {"memory.high": asked}}, fine)


def test_a_limit_that_did_not_take_names_limit_asked_and_got(v1):
    v1.put("pids/minicontainer/c/pids.max", "max\n")
    with pytest.raises(LimitError) as error:
        Cgroup(v1.detect(), "c").verify({"pids": {"limit": 100}})
    assert str(error.value).startswith('process limit (--pids-limit): asked for "100", but the kernel has "max"')
    assert f"{v1.root}/pids/minicontainer/c/pids.max" in str(error.value)


def _verify(host, resources, fine) -> None:
    group = Cgroup(host.detect(), "c")
    if fine:
        group.verify(resources)
    else:
        with pytest.raises(LimitError, match="but the kernel has"):
            group.verify(resources)


def test_a_container_sees_every_tree(hybrid):
    trees = {tree.name: tree for tree in Cgroup(hybrid.detect(), "c").mounts()}
    assert trees["cpu,cpuacct"].options == [("cpu", None), ("cpuacct", None)]
    assert trees["cpu,cpuacct"].links == ["cpu", "cpuacct"]
    assert trees["systemd"].options == [("none", None), ("name", "systemd")]
    assert trees["unified"].fstype == "cgroup2"
    assert trees["memory"].path == f"{hybrid.root}/memory/minicontainer/c"


def test_a_container_sees_one_tree_on_v2(v2):
    (tree,) = Cgroup(v2.detect(), "c").mounts()
    assert (tree.name, tree.fstype, tree.path) == ("", "cgroup2", f"{v2.root}/minicontainer/c")


def test_without_a_group_of_its_own_there_is_nothing_to_make_or_to_limit():
    group = Cgroup(Hierarchy({}, None, frozenset()), "/none")
    assert group.create_ops({}) == group.enter_ops() == group.mounts() == group.pids() == []
    assert not group.exists() and not group.frozen()
    for refused in (lambda: group.create_ops({"pids": {"limit": 1}}), group.freeze):
        with pytest.raises(Unsupported, match="no cgroup of its own"):
            refused()


def test_realtime_time_is_added_to_what_others_have(tmp_path: Path) -> None:
    """In our own parent; one that somebody else made is left alone, and so is one that has enough."""
    asked = [Setting("cpu", "cpu.rt_runtime_us", 500, "", ""), Setting("cpu", "cpu.rt_period_us", 100_000, "", "")]
    for group, runtime in (("minicontainer", 2000), ("minicontainer/other", 2000), ("theirs", 0)):
        (tmp_path / group).mkdir()
        (tmp_path / group / "cpu.rt_runtime_us").write_text(f"{runtime}\n")
        (tmp_path / group / "cpu.rt_period_us").write_text("1000000\n")

    def given(path: str) -> list[tuple]:
        return [(op.args[1].removeprefix(f"{tmp_path}/"), op.args[2]) for op in making.realtime_ops(str(tmp_path), path, asked)]

    assert given("/minicontainer/one") == [("minicontainer/cpu.rt_runtime_us", b"7000")]
    assert given("/theirs/new/one") == [("theirs/new/cpu.rt_runtime_us", b"5000")]
    (tmp_path / "minicontainer/cpu.rt_runtime_us").write_text("7000\n")
    assert given("/minicontainer/one") == []
