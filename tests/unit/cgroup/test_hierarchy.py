"""detect() finds each kind of host from mountinfo, and says so when there is nothing."""

from __future__ import annotations

from time import perf_counter

import pytest

from minicontainer.cgroup.hierarchy import detect
from minicontainer.errors import Unsupported


def test_v1_knows_every_controller_of_a_joint_mount(v1):
    h = v1.detect()
    assert h.mode == "v1"
    assert h.mounts["cpu"] == h.mounts["cpuacct"] == f"{v1.root}/cpu,cpuacct"
    assert h.mounts["name=systemd"] == f"{v1.root}/systemd"
    assert h.unified is None
    assert h.trees().count(f"{v1.root}/cpu,cpuacct") == 1


def test_hybrid_has_the_v2_tree_last(hybrid):
    h = hybrid.detect()
    assert h.mode == "hybrid"
    assert h.unified == h.trees()[-1] == f"{hybrid.root}/unified"
    assert h.version("memory", "memory") == 1
    assert h.version("rdma", "rdma") == 0


def test_v2_has_its_root_s_controllers(v2):
    h = v2.detect()
    assert (h.mode, h.unified, h.mounts) == ("v2", v2.root, {})
    assert h.controllers >= {"cpu", "io", "memory", "pids"}
    assert h.version("blkio", "io") == 2


def test_a_systemd_hierarchy_alone_does_not_make_a_host_hybrid(v2):
    v2.mount("systemd", "cgroup", "xattr,name=systemd")
    assert v2.detect().mode == "v2"


def test_mounts_elsewhere_do_not_count(host):
    host.put_file(f"{host.proc}/self/mountinfo", f"31 23 0:28 / {host.root}-elsewhere rw - cgroup2 cgroup2 rw\n")
    with pytest.raises(Unsupported, match="no cgroup hierarchy is mounted below"):
        host.detect()


def test_a_mount_point_with_a_space_is_read_as_it_is(host):
    host.mount("a b", "cgroup", "memory")
    host.put_file(f"{host.proc}/self/mountinfo", f"31 23 0:28 / {host.root}/a\\040b rw - cgroup cgroup rw,memory\n")
    assert host.detect().mounts == {"memory": f"{host.root}/a b"}


def test_it_is_cheap_on_the_real_host():
    detect()
    best = min(_seconds() for _ in range(20))
    assert best < 0.0003 * 4, f"{best * 1e6:.0f} µs"  # the budget is 0.3 ms; a busy machine gets four times as much


def _seconds() -> float:
    begin = perf_counter()
    detect()
    return perf_counter() - begin
