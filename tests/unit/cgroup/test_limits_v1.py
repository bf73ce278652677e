"""OCI resources become the right v1 files, in an order in which each step is valid, or an error that says why not."""

from __future__ import annotations

import os

import pytest

from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import LimitError, Unsupported

MIB = 1 << 20


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, []),
        (
            {"memory": {"limit": 64 * MIB, "swap": 128 * MIB}},
            [("memory.limit_in_bytes", str(64 * MIB)), ("memory.memsw.limit_in_bytes", str(128 * MIB))],
        ),
        ({"memory": {"limit": -1}}, [("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")][::-1]),
        ({"memory": {"limit": 0, "swap": 0, "disableOOMKiller": False}}, []),
        ({"memory": {"reservation": MIB, "swappiness": 0}}, [("memory.soft_limit_in_bytes", str(MIB)), ("memory.swappiness", "0")]),
        ({"memory": {"disableOOMKiller": True}}, [("memory.oom_control", "1")]),
        ({"cpu": {"quota": 50000, "period": 100000}}, [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")]),
        ({"cpu": {"quota": 50000, "burst": 1000}}, [("cpu.cfs_quota_us", "50000"), ("cpu.cfs_burst_us", "1000")]),
        ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")]),
        ({"cpu": {"shares": 512}}, [("cpu.shares", "512")]),
        ({"cpu": {"shares": 0, "cpus": "", "mems": ""}}, []),
        ({"cpu": {"shares": 512, "idle": 1}}, [("cpu.idle", "1")]),
        (
            {"cpu": {"realtimeRuntime": 9000, "realtimePeriod": 10000}},
            [("cpu.rt_period_us", "10000"), ("cpu.rt_runtime_us", "9000")],
        ),
        ({"cpu": {"cpus": "1,3", "mems": "0"}}, [("cpuset.cpus", "1,3"), ("cpuset.mems", "0")]),
        ({"pids": {"limit": 100}}, [("pids.max", "100")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids": {"limit": 0}}, [("pids.max", "1")]),
        ({"blockIO": {"weight": 300}}, [("blkio.bfq.weight", "300")]),
        ({"blockIO": {"weight": 0}}, []),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}}, [("blkio.bfq.weight_device", "8:0 20")]),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": MIB}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
                }
            },
            [("blkio.throttle.read_bps_device", f"8:0 {MIB}"), ("blkio.throttle.write_iops_device", "8:0 7")],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
            [("hugetlb.2MB.limit_in_bytes", str(4 * MIB)), ("hugetlb.2MB.rsvd.limit_in_bytes", str(4 * MIB))],
        ),
    ],
)
def test_each_resource_is_written_to_its_file(v1, resources, files):
    assert v1.written(resources) == files


@pytest.mark.parametrize(
    ("resources", "error", "words"),
    [
        ({"memory": {"limit": "64m"}}, LimitError, "not a whole number"),
        ({"memory": {"limit": True}}, LimitError, "not a whole number"),
        ({"memory": {"limit": -2}}, LimitError, "out of range"),
        ({"memory": {"limit": 100}}, LimitError, "less than a page"),
        ({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, LimitError, "--memory-swap.*less than the memory limit"),
        ({"memory": {"swappiness": 201}}, LimitError, "swappiness"),
        ({"cpu": {"shares": 1}}, LimitError, "2 to 262144"),
        ({"cpu": {"quota": 999}}, LimitError, "less than 1 ms"),
        ({"cpu": {"period": 999}}, LimitError, "between 1 ms and 1 s"),
        ({"cpu": {"quota": 5000, "burst": 6000}}, LimitError, "burst"),
        ({"cpu": {"cpus": "0-4"}}, LimitError, r'asked for "0-4", but only 0-3 can be used here \(not 4\)'),
        ({"cpu": {"cpus": "3-1"}}, LimitError, "backwards"),
        ({"cpu": {"cpus": "0,x"}}, LimitError, "not a list"),
        ({"cpu": {"cpus": "0-999999999999"}}, LimitError, "not a list"),
        ({"cpu": {"mems": "1"}}, LimitError, "only 0 can be used"),
        ({"blockIO": {"weight": 9}}, LimitError, "10 to 1000"),
        ({"blockIO": {"leafWeight": 100}}, Unsupported, "leaf weight"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 9, "minor": 9, "rate": 1}]}}, LimitError, "no block device 9:9"),
        ({"hugepageLimits": [{"pageSize": "1GB", "limit": 0}]}, Unsupported, "no pages of 1GB"),
        ({"hugepageLimits": [{"pageSize": "../x", "limit": 0}]}, LimitError, "not like 2MB"),
        ({"rdma": {"mlx5": {"hcaHandles": 1}}}, Unsupported, "rdma"),
        ({"network": {"classID": 7}}, Unsupported, "net_cls"),
        ({"unified": {"memory.high": "1"}}, Unsupported, "no cgroup v2 tree"),
    ],
)
def test_what_is_wrong_or_impossible_is_said_before_anything_is_made(v1, resources, error, words):
    with pytest.raises(error, match=words):
        Cgroup(v1.detect(), "c").create_ops(resources)
    assert not os.path.exists(f"{v1.root}/memory/minicontainer/c")


def test_a_partition_is_refused_as_a_disk(v1):
    v1.disk("8:1", partition=True)
    with pytest.raises(LimitError, match="is a partition"):
        v1.written({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 1}]}})


def test_a_swap_limit_without_swap_accounting_is_an_error(v1):
    os.unlink(f"{v1.root}/memory/memory.memsw.limit_in_bytes")
    with pytest.raises(Unsupported, match="memory.memsw.limit_in_bytes"):
        v1.written({"memory": {"limit": MIB, "swap": 2 * MIB}})
    assert v1.written({"memory": {"limit": MIB}}) == [("memory.limit_in_bytes", str(MIB))]


def test_update_raises_memory_and_swap_before_memory(v1):
    v1.put("memory/minicontainer/c/memory.memsw.limit_in_bytes", f"{64 * MIB}\n")
    assert [f for f, _ in v1.written({"memory": {"limit": 128 * MIB, "swap": 256 * MIB}}, update=True)] == [
        "memory.memsw.limit_in_bytes",
        "memory.limit_in_bytes",
    ]
    assert [f for f, _ in v1.written({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}, update=True)] == [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
    ]


def test_update_of_memory_alone_above_memory_and_swap_says_what_to_raise(v1):
    v1.put("memory/minicontainer/c/memory.memsw.limit_in_bytes", f"{64 * MIB}\n")
    with pytest.raises(LimitError, match="more than memory and swap together"):
        v1.written({"memory": {"limit": 65 * MIB}}, update=True)


def test_update_to_unlimited_memory_lifts_swap_first(v1):
    v1.put("memory/minicontainer/c/memory.memsw.limit_in_bytes", f"{64 * MIB}\n")
    assert v1.written({"memory": {"limit": -1}}, update=True) == [
        ("memory.memsw.limit_in_bytes", "-1"),
        ("memory.limit_in_bytes", "-1"),
    ]


@pytest.mark.parametrize(
    ("period", "order"), [(50000, ["cpu.cfs_quota_us", "cpu.cfs_period_us"]), (200000, ["cpu.cfs_period_us", "cpu.cfs_quota_us"])]
)
def test_update_of_the_period_never_passes_through_a_higher_bandwidth(v1, period, order):
    v1.put("cpu,cpuacct/minicontainer/c/cpu.cfs_period_us", "100000\n")
    assert [f for f, _ in v1.written({"cpu": {"quota": 10000, "period": period}}, update=True)] == order


def test_tcp_buffers_have_a_limit_where_the_kernel_has_it(v1):
    with pytest.raises(Unsupported, match=r"this kernel has no memory\.kmem\.tcp\.limit_in_bytes"):
        v1.written({"memory": {"kernelTCP": MIB}})
    v1.put("memory/memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n")
    assert v1.written({"memory": {"kernelTCP": MIB}}) == [("memory.kmem.tcp.limit_in_bytes", str(MIB))]
