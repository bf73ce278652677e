"""OCI resources, which speak v1, become the right v2 files."""

from __future__ import annotations

import os

import pytest

from minicontainer.cgroup.blockio import io_weight
from minicontainer.cgroup.cpu import weight_of_shares
from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import LimitError, Unsupported

MIB = 1 << 20


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (512, 59), (2000, 170)])
def test_shares_become_the_weight_that_current_runc_and_crun_choose(shares, weight):
    assert weight_of_shares(shares) == weight


def test_block_weights_keep_their_ends():
    assert (io_weight(10), io_weight(1000), io_weight(100)) == (1, 10000, 910)


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, []),
        ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, [("memory.max", str(64 * MIB)), ("memory.swap.max", str(32 * MIB))]),
        ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, [("memory.max", str(64 * MIB)), ("memory.swap.max", "0")]),
        ({"memory": {"limit": 64 * MIB, "swap": -1}}, [("memory.max", str(64 * MIB)), ("memory.swap.max", "max")]),
        ({"memory": {"limit": -1}}, [("memory.max", "max"), ("memory.swap.max", "max")]),
        ({"memory": {"limit": -1, "swap": MIB}}, [("memory.max", "max"), ("memory.swap.max", str(MIB))]),
        ({"memory": {"reservation": MIB}}, [("memory.low", str(MIB))]),
        ({"memory": {"disableOOMKiller": False, "useHierarchy": True}}, []),
        ({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2"}}, [("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]),
        ({"memory": {"swappiness": -1}}, []),
        ({"cpu": {"quota": 50000, "period": 100000}}, [("cpu.max", "50000 100000")]),
        ({"cpu": {"quota": 50000}}, [("cpu.max", "50000 100000")]),
        ({"cpu": {"period": 50000}}, [("cpu.max", "max 50000")]),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max 100000")]),
        ({"cpu": {"shares": 1024, "burst": 0}}, [("cpu.weight", "100"), ("cpu.max.burst", "0")]),
        ({"cpu": {"idle": 1, "shares": 5}}, [("cpu.idle", "1")]),
        ({"cpu": {"cpus": "0,2"}}, [("cpuset.cpus", "0,2")]),
        ({"pids": {"limit": 7}}, [("pids.max", "7")]),
        ({"blockIO": {"weight": 300}}, [("io.bfq.weight", "300")]),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 2}],
                }
            },
            [("io.max", "8:0 rbps=1 wiops=2")],
        ),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}}, [("io.max", "8:0 rbps=max")]),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, [("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "0")]),
        ({"rdma": {"mlx5": {"hcaHandles": 3, "hcaObjects": 4}}}, [("rdma.max", "mlx5 hca_handle=3 hca_object=4")]),
        ({"pids": {"limit": 7}, "unified": {"memory.high": "1M"}}, [("pids.max", "7"), ("memory.high", "1M")]),
        ({"cpu": {"idle": 0}, "unified": {"cpu.idle": "1"}}, [("cpu.idle", "1")]),
    ],
)
def test_each_resource_is_written_to_its_file(v2, resources, files):
    assert v2.written(resources) == files


@pytest.mark.parametrize(
    ("resources", "error", "words"),
    [
        ({"memory": {"swap": 64 * MIB}}, LimitError, "needs a memory limit"),
        ({"unified": {"cgroup.procs": "1"}}, LimitError, "action"),
        ({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, LimitError, "less than the memory limit"),
        ({"memory": {"swappiness": 10}}, Unsupported, "swappiness"),
        ({"memory": {"disableOOMKiller": True}}, Unsupported, "OOM"),
        ({"cpu": {"realtimeRuntime": 1}}, Unsupported, "realtime"),
        ({"cpu": {"cpus": "7"}}, LimitError, "only 0-3"),
        ({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}, Unsupported, "net_prio"),
        ({"unified": {"../x": "1"}}, LimitError, "not a cgroup file"),
        ({"unified": {"memory.high": 1}}, LimitError, "not a string"),
        ({"unified": {"cgroup.kill": "1"}}, LimitError, "action"),
        ({"unified": {"memory.nonsense": "1"}}, Unsupported, "no memory.nonsense"),
        ({"unified": {"dogs.max": "1"}}, Unsupported, "controller `dogs` is not available"),
    ],
)
def test_what_has_no_v2_form_is_an_error(v2, resources, error, words):
    with pytest.raises(error, match=words):
        v2.written(resources)


def test_update_of_swap_alone_takes_the_memory_limit_there_is(v2):
    v2.put("minicontainer/c/memory.max", f"{64 * MIB}\n")
    assert v2.written({"memory": {"swap": 65 * MIB}}, update=True) == [("memory.swap.max", str(MIB))]


def test_update_keeps_the_half_of_cpu_max_that_is_not_named(v2):
    v2.put("minicontainer/c/cpu.max", "20000 50000\n")
    assert v2.written({"cpu": {"period": 100000}}, update=True) == [("cpu.max", "20000 100000")]
    assert v2.written({"cpu": {"quota": 30000}}, update=True) == [("cpu.max", "30000 50000")]


def test_check_before_update_refuses_a_limit_below_the_usage(v2):
    v2.put("minicontainer/c/memory.current", f"{64 * MIB}\n")
    with pytest.raises(LimitError, match=f"rejecting memory limit {MIB} <= usage {64 * MIB}"):
        v2.written({"memory": {"limit": MIB, "checkBeforeUpdate": True}}, update=True)


def test_without_bfq_the_weight_goes_to_iocost(v2):
    os.unlink(f"{v2.root}/system.slice/io.bfq.weight")
    v2.put("system.slice/io.weight", "default 100\n")
    assert v2.written({"blockIO": {"weight": 1000}}) == [("io.weight", "10000")]
    os.unlink(f"{v2.root}/system.slice/io.weight")
    with pytest.raises(Unsupported, match="io.weight"):
        v2.written({"blockIO": {"weight": 1000}})


def test_controllers_are_handed_down_from_the_root(v2):
    ops = Cgroup(v2.detect(), "c").create_ops({})
    calls = [(op.call, *op.args[1:3]) for op in ops]
    everything = b"+cpu +cpuset +hugetlb +io +memory +misc +pids +rdma"
    assert calls == [
        ("mkdirat", f"{v2.root}/minicontainer", 0o755),
        ("mkdirat", f"{v2.root}/minicontainer/c", 0o755),
        ("write_file", f"{v2.root}/cgroup.subtree_control", everything),
        ("write_file", f"{v2.root}/minicontainer/cgroup.subtree_control", everything),
    ]


def test_controllers_that_are_there_already_are_left_alone(v2):
    for group in ("", "minicontainer/"):
        v2.put(f"{group}cgroup.subtree_control", "cpuset cpu io memory hugetlb pids rdma misc\n")
    assert [op.call for op in Cgroup(v2.detect(), "c").create_ops({})] == ["mkdirat"]


def test_a_parent_with_processes_of_its_own_is_named(v2):
    v2.put("app/cgroup.type", "domain\n")
    v2.put("app/cgroup.procs", "17\n")
    with pytest.raises(Unsupported, match="/app: processes are in that group itself"):
        Cgroup(v2.detect(), "/app/c").create_ops({})


def test_on_hybrid_only_what_is_asked_for_is_handed_down(hybrid):
    hybrid.put("unified/cgroup.controllers", "rdma\n")
    ops = Cgroup(hybrid.detect(), "c").create_ops({})
    assert not [op for op in ops if str(op.args[1]).endswith("subtree_control")]
    ops = Cgroup(hybrid.detect(), "c").create_ops({"rdma": {"mlx5": {"hcaHandles": 1}}})
    writes = [op.args[1][len(hybrid.root) :] for op in ops if op.call == "write_file"]
    assert [path for path in writes if "/cpuset/" not in path] == [
        "/unified/cgroup.subtree_control",
        "/unified/minicontainer/cgroup.subtree_control",
        "/unified/minicontainer/c/rdma.max",
    ]
