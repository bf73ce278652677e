"""The kernel's files become numbers with the right unit, the same on v1 and v2; what can't be known is absent."""

from __future__ import annotations

from minicontainer.cgroup import accounting
from minicontainer.cgroup.group import Cgroup

PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n"
# The same use of the same resources, as v1 and as v2 show it.
USED_V1 = {
    "cpu,cpuacct": {
        "cpuacct.usage": "3000000000",
        "cpuacct.usage_user": "2000000000",
        "cpuacct.usage_sys": "1000000000",
        "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 500000000\n",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "100000",
    },
    "memory": {
        "memory.usage_in_bytes": "9000000",
        "memory.limit_in_bytes": "67108864",
        "memory.stat": "cache 1\nrss 2\nswap 3\ninactive_file 4\nhierarchical_memory_limit 5\n"
        "total_cache 3000000\ntotal_rss 5000000\ntotal_swap 4096\ntotal_inactive_file 1000000\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    "pids": {"pids.current": "7", "pids.max": "100"},
    "blkio": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\n"
        "8:16 Read 4096\n8:16 Total 4096\nTotal 16384\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n8:16 Read 1\nTotal 4\n",
    },
}
USED_V2 = {
    "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n"
    "nr_periods 10\nnr_throttled 4\nthrottled_usec 500000\n",
    "cpu.max": "50000 100000",
    "memory.current": "9000000",
    "memory.max": "67108864",
    "memory.swap.current": "4096",
    "memory.stat": "anon 5000000\nfile 3000000\nkernel 1\ninactive_anon 9\ninactive_file 1000000\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
    "pids.current": "7",
    "pids.max": "100",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=9 dios=9\n"
    "8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
    "cpu.pressure": PRESSURE,
    "memory.pressure": PRESSURE,
    "io.pressure": PRESSURE,
}
EXPECTED = {
    "cpu_usage_seconds": 3,
    "cpu_user_seconds": 2,
    "cpu_system_seconds": 1,
    "cfs_periods": 10,
    "cfs_throttled_periods": 4,
    "cfs_throttled_seconds": 0.5,
    "cpu_quota_microseconds": 50000,
    "cpu_period_microseconds": 100000,
    "memory_usage_bytes": 9000000,
    "memory_working_set_bytes": 8000000,
    "memory_rss_bytes": 5000000,
    "memory_cache_bytes": 3000000,
    "memory_swap_bytes": 4096,
    "memory_limit_bytes": 67108864,
    "oom_kills": 2,
    "pids": 7,
    "pids_limit": 100,
    "io_read_bytes": 8192,
    "io_write_bytes": 8192,
    "io_reads": 2,
    "io_writes": 2,
}
PRESSURES = {
    f"pressure_{what}_{kind}_seconds": seconds
    for what in ("cpu", "memory", "io")
    for kind, seconds in (("waiting", 1.5), ("stalled", 0.25))
}


def fill(host, files: dict) -> None:
    for tree, inside in files.items():
        for file, text in inside.items():
            host.put(f"{tree}/minicontainer/c/{file}".lstrip("/"), text if text.endswith("\n") else text + "\n")


def test_v1(v1):
    fill(v1, USED_V1)
    assert Cgroup(v1.detect(), "c").stats() == EXPECTED


def test_v2(v2):
    fill(v2, {"": USED_V2})
    assert Cgroup(v2.detect(), "c").stats() == {**EXPECTED, **PRESSURES}


def test_hybrid_takes_cpu_time_and_pressure_from_the_v2_tree(hybrid):
    fill(hybrid, USED_V1)
    fill(hybrid, {"unified": {name: USED_V2[name] for name in ("cpu.pressure", "memory.pressure", "io.pressure")}})
    fill(hybrid, {"unified": {"cpu.stat": "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1000000\n"}})
    assert Cgroup(hybrid.detect(), "c").stats() == {**EXPECTED, **PRESSURES, "cpu_usage_seconds": 5, "cpu_user_seconds": 4}


def test_limits_that_are_not_set_are_absent_v1(v1):
    fill(
        v1,
        {
            "memory": {"memory.limit_in_bytes": "9223372036854771712"},
            "pids": {"pids.max": "max"},
            "cpu,cpuacct": {"cpu.cfs_quota_us": "-1"},
        },
    )
    assert Cgroup(v1.detect(), "c").stats() == {}


def test_limits_that_are_not_set_are_absent_v2(v2):
    fill(v2, {"": {"memory.max": "max", "pids.max": "max", "cpu.max": "max 100000"}})
    assert Cgroup(v2.detect(), "c").stats() == {"cpu_period_microseconds": 100000}


def test_block_io_that_v1_does_not_count_is_absent_not_zero(v1):
    fill(v1, {"blkio": {"blkio.throttle.io_service_bytes_recursive": "Total 0", "blkio.throttle.io_serviced_recursive": "Total 0"}})
    assert Cgroup(v1.detect(), "c").stats() == {}


def test_the_working_set_is_never_negative(v2):
    fill(v2, {"": {"memory.current": "100", "memory.stat": "anon 1\nfile 1\ninactive_file 200\n"}})
    assert Cgroup(v2.detect(), "c").stats()["memory_working_set_bytes"] == 0


def test_a_group_that_is_gone_has_no_numbers(hybrid):
    assert Cgroup(hybrid.detect(), "c").stats() == {}


def test_pressure_without_a_full_line_has_no_stalled_seconds(v2):
    fill(v2, {"": {"cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"}})
    assert Cgroup(v2.detect(), "c").stats() == {"pressure_cpu_waiting_seconds": 7e-06}


def test_every_number_has_its_unit_in_its_name():
    counts = {"cfs_periods", "cfs_throttled_periods", "oom_kills", "pids", "pids_limit", "io_reads", "io_writes"}
    for name in {**EXPECTED, **PRESSURES}:
        assert name in counts or name.endswith(("_seconds", "_bytes", "_microseconds"))
        assert name in (accounting.__doc__ or "") or name.startswith("pressure_")
