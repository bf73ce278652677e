"""Fake cgroup trees (those of tests/unit/cgroup) and containers that a test makes up."""

from __future__ import annotations

import pytest

from minicontainer.metrics.exporter import Exporter
from minicontainer.metrics.source import Record
from tests.unit.cgroup.conftest import Host, host, hybrid, v1, v2  # noqa: F401  (fixtures: pytest finds them by name)
from tests.unit.cgroup.test_accounting import PRESSURE, USED_V1, USED_V2


class Containers:
    """A source whose containers a test changes as it likes."""

    def __init__(self) -> None:
        self.phases = ""
        self.all: list[Record] = []

    def records(self) -> list[Record]:
        return self.all


@pytest.fixture
def containers() -> Containers:
    return Containers()


NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999       9    0    0    0     0          0         0     999       9    0    0    0     0       0          0
  eth0: 1000      10    1    2    0     0          0         0    2000      20    3    4    0     0       0          0
"""
MEMINFO = (
    "MemTotal: 8000 kB\nMemFree: 1000 kB\nInactive(file): 4000 kB\nBuffers: 100 kB\nCached: 2900 kB\nSwapTotal: 500 kB\n"
    "SwapFree: 400 kB\nAnonPages: 2000 kB\nHugePages_Total:       0\n"
)


def proc_files(fake: Host, pid: int = 42) -> None:
    """What the exporter reads of /proc."""
    fake.put_file(f"{fake.proc}/stat", "cpu 1 2 3\nbtime 1700000000\n")
    fake.put_file(f"{fake.proc}/meminfo", MEMINFO)
    fake.put_file(f"{fake.proc}/net/dev", NET_DEV.replace("1000", "7000"))
    fake.put_file(f"{fake.proc}/{pid}/net/dev", NET_DEV)


def fill_used(fake: Host, ident: str = "c", v2_only: bool = False) -> None:
    """The files of a group that has used something of everything."""
    trees = {"": USED_V2} if v2_only else USED_V1
    for tree, files in trees.items():
        for file, text in files.items():
            fake.put(f"{tree}/minicontainer/{ident}/{file}".lstrip("/"), text if text.endswith("\n") else text + "\n")
            if file.startswith("blkio."):
                fake.put(f"{tree}/{file}", text)  # some disk is counted, so the root shows it too


def running(ident: str = "c", **more) -> Record:
    return Record(
        ident,
        **{
            "name": "web",
            "image": "service:1",
            "cgroup": f"/minicontainer/{ident}",
            "pid": 42,
            "state": "running",
            "started": 1800000000.5,
            **more,
        },
    )


@pytest.fixture(params=["v1", "hybrid", "v2"])
def fake(request) -> Host:
    """Each kind of host, with one group that has used something of everything."""
    found = request.getfixturevalue(request.param)
    fill_used(found, v2_only=request.param == "v2")
    if request.param == "hybrid":
        for file in ("cpu.pressure", "memory.pressure", "io.pressure"):
            found.put(f"unified/minicontainer/c/{file}", PRESSURE)
        found.put("unified/minicontainer/c/cpu.stat", USED_V2["cpu.stat"].partition("nr_")[0])
    proc_files(found)
    return found


@pytest.fixture
def exporter(fake, containers) -> Exporter:
    return exporter_of(fake, containers)


def exporter_of(fake: Host, containers: Containers, **more) -> Exporter:
    return Exporter(containers, data_root=fake.root, hierarchy=fake.detect(), proc=fake.proc, **more)
