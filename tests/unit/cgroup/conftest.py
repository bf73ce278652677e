"""Cgroup trees of plain folders and files, as the kernel would show them, so that no test here needs root or a real tree."""

from __future__ import annotations

import os

import pytest

from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy, detect

V1 = "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb name=systemd".split()
V2_CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc"


class Host:
    """A fake host: `root` is its /sys/fs/cgroup; put() writes a file of a group, made where missing."""

    def __init__(self, root: str) -> None:
        self.root = f"{root}/cgroup"
        self.proc, self.sys = f"{root}/proc", f"{root}/sys"
        self._mountinfo: list[str] = []

    def mount(self, name: str, fstype: str, options: str) -> None:
        where = f"{self.root}/{name}".rstrip("/")
        os.makedirs(where, exist_ok=True)
        self._mountinfo.append(f"31 23 0:28 / {where} rw,relatime shared:7 - {fstype} {fstype} rw,{options}")
        self.put_file(f"{self.proc}/self/mountinfo", "1 1 8:1 / / rw - ext4 /dev/root rw\n" + "\n".join(self._mountinfo) + "\n")

    @staticmethod
    def put_file(path: str, text: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def put(self, path: str, text: str = "") -> None:
        self.put_file(f"{self.root}/{path}", text)

    def disk(self, number: str, partition: bool = False) -> None:
        self.put_file(f"{self.sys}/dev/block/{number}/{'partition' if partition else 'size'}", "1\n")

    def detect(self) -> Hierarchy:
        return detect(self.root, self.proc, self.sys)

    def written(self, resources: dict, update: bool = False) -> list[tuple[str, str]]:
        """(file, value) of each limit that create_ops or update_ops of the group "c" writes."""
        group = Cgroup(self.detect(), "c")
        return [
            (os.path.basename(op.args[1]), op.args[2].decode())
            for op in (group.update_ops if update else group.create_ops)(resources)
            if op.call == "write_file" and os.path.dirname(op.args[1]).endswith("/minicontainer/c") and "new cpuset" not in op.why
        ]


@pytest.fixture
def host(tmp_path) -> Host:
    """A host without any cgroup mount."""
    return Host(str(tmp_path))


@pytest.fixture
def v1(host) -> Host:
    """A host as Debian 10 was: v1 hierarchies only."""
    for name in V1:
        host.mount(name.removeprefix("name="), "cgroup", name)
    for tree in ("cpuset", "cpuset/minicontainer"):
        host.put(f"{tree}/cpuset.cpus", "0-3\n")
        host.put(f"{tree}/cpuset.mems", "0\n")
    for file in ("cpu.cfs_burst_us", "cpu.idle", "cpu.rt_runtime_us"):
        host.put(f"cpu,cpuacct/{file}", "0\n")
    host.put("memory/memory.memsw.limit_in_bytes", "9223372036854771712\n")
    for file in ("read_bps", "write_bps", "read_iops", "write_iops"):
        host.put(f"blkio/blkio.throttle.{file}_device")
    host.put("blkio/other/blkio.bfq.weight", "100\n")
    host.put("blkio/other/blkio.bfq.weight_device", "100\n")
    host.put("hugetlb/hugetlb.2MB.rsvd.limit_in_bytes", "9223372036854771712\n")
    os.makedirs(f"{host.sys}/kernel/mm/hugepages/hugepages-2048kB")
    host.disk("8:0")
    return host


@pytest.fixture
def hybrid(v1) -> Host:
    """The v1 host with a v2 tree beside it, which has no controllers."""
    v1.mount("unified", "cgroup2", "nsdelegate")
    v1.put("unified/cgroup.controllers", "\n")
    v1.put("unified/cgroup.subtree_control", "\n")
    return v1


@pytest.fixture
def v2(host) -> Host:
    """A host with cgroup v2 only; nothing handed down from the root yet."""
    host.mount("", "cgroup2", "nsdelegate")
    host.put("cgroup.controllers", V2_CONTROLLERS + "\n")
    host.put("cgroup.subtree_control", "\n")
    host.put("cpuset.cpus.effective", "0-3\n")
    host.put("cpuset.mems.effective", "0\n")
    host.put("system.slice/cgroup.controllers", V2_CONTROLLERS + "\n")
    for file in ("memory.swap.max", "cpu.idle", "cpu.max.burst", "io.max", "io.bfq.weight", "hugetlb.2MB.rsvd.max", "memory.high"):
        host.put(f"system.slice/{file}")
    os.makedirs(f"{host.sys}/kernel/mm/hugepages/hugepages-2048kB")
    host.disk("8:0")
    return host
