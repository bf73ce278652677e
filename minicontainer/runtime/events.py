"""What a container has used, in the shape of `runc events --stats`, and its OOM events.

Source of the shape: runc types/events.go (the same in 1.0 to 1.4 but for additions): CPU times in ns, memory in bytes; members
that are zero are left out where runc leaves them out. kubelet, containerd and docker read it through the shim.
"""

from __future__ import annotations

import os

from minicontainer.cgroup import tree
from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import Unsupported
from minicontainer.runtime.ending import first
from minicontainer.runtime.state import OciContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = (1 << 64) - 1
_CPUSET = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip
_BLKIO = (  # member, v1 file of BFQ, v1 file of throttling
    ("ioServiceBytesRecursive", "blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
    ("ioServicedRecursive", "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
    ("ioQueueRecursive", "blkio.bfq.io_queued_recursive", ""),
    ("ioServiceTimeRecursive", "blkio.bfq.io_service_time_recursive", ""),
    ("ioWaitTimeRecursive", "blkio.bfq.io_wait_time_recursive", ""),
    ("ioMergedRecursive", "blkio.bfq.io_merged_recursive", ""),
    ("ioTimeRecursive", "blkio.bfq.time_recursive", ""),
    ("sectorsRecursive", "blkio.bfq.sectors_recursive", ""),
)


def stats(container: OciContainer) -> dict:
    """`data` of `events --stats`: cpu, cpuset, memory, pids, blkio, hugetlb, intel_rdt, network_interfaces."""
    cgroup = container.cgroup()
    h = cgroup.hierarchy

    def reader(v1: str, v2: str = "") -> tuple[Callable[[str], str], bool]:
        """A function that reads a file of a controller, and whether it is v2's; files of one that is missing are empty."""
        version = h.version(v1, v2)
        if not version:
            return (lambda file: ""), False
        folder = cgroup.directory(v1 if version == 1 else v2)
        return (lambda file: tree.read(f"{folder}/{file}")), version == 2

    unified = cgroup.unified_dir()

    def pressure(resource: str) -> dict:
        text = tree.read(f"{unified}/{resource}.pressure") if unified else ""
        return {"psi": _pressure(text)} if text else {}

    cpu = _cpu(reader("cpu")[0], reader("cpuacct")[0]) if h.mode != "v2" else _cpu_v2(tree.read(f"{unified}/cpu.stat"))
    memory, memory_is_v2 = reader("memory", "memory")
    io, io_is_v2 = reader("blkio", "io")
    return {
        "cpu": {**cpu, **pressure("cpu")},
        "cpuset": _cpuset(reader("cpuset")[0]),
        "memory": {**(_memory_v2 if memory_is_v2 else _memory)(memory), **pressure("memory")},
        "pids": _pids(reader("pids", "pids")[0], cgroup),
        "blkio": {**(_io_v2 if io_is_v2 else _blkio)(io), **pressure("io")},
        "hugetlb": _hugetlb(*reader("hugetlb", "hugetlb"), f"{h.sys}/kernel/mm/hugepages"),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _number(text: str) -> int:
    text = text.strip()
    return _UNLIMITED if text == "max" else int(text or 0)


def _pairs(text: str) -> dict[str, int]:
    """Lines "key number"."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in text.splitlines())}


def _some(**values: object) -> dict:
    """Without what is zero or empty: Go's omitempty."""
    return {key: value for key, value in values.items() if value}


def _throttling(stat: dict[str, int], time_ns: int) -> dict:
    periods, throttled = stat.get("nr_periods", 0), stat.get("nr_throttled", 0)
    return _some(periods=periods, throttledPeriods=throttled, throttledTime=time_ns)


def _cpu(cpu: Callable[[str], str], cpuacct: Callable[[str], str]) -> dict:
    every = [line.split() for line in cpuacct("cpuacct.usage_all").splitlines()[1:]]  # "cpu user system"
    ticks, stat = _pairs(cpuacct("cpuacct.stat")), _pairs(cpu("cpu.stat"))
    usage = _some(
        total=_number(cpuacct("cpuacct.usage")),
        percpu=[int(n) for n in cpuacct("cpuacct.usage_percpu").split()],
        percpu_kernel=[int(words[2]) for words in every],
        percpu_user=[int(words[1]) for words in every],
    )
    usage.update(kernel=ticks.get("system", 0) * _TICK_NS, user=ticks.get("user", 0) * _TICK_NS)
    return {"usage": usage, "throttling": _throttling(stat, stat.get("throttled_time", 0))}


def _cpu_v2(text: str) -> dict:
    stat = _pairs(text)
    usage = _some(total=stat.get("usage_usec", 0) * 1000)
    usage.update(kernel=stat.get("system_usec", 0) * 1000, user=stat.get("user_usec", 0) * 1000)
    return {"usage": usage, "throttling": _throttling(stat, stat.get("throttled_usec", 0) * 1000)}


def _cpuset(read: Callable[[str], str]) -> dict:
    """v1 only; on v2 all zero, as in runc."""
    from minicontainer.cgroup.settings import cpu_numbers

    out: dict[str, object] = {}
    for key in ("cpus", "mems"):
        text = read(f"cpuset.{key}").strip()
        if text:
            out[key] = sorted(cpu_numbers(text, key))
    return {**out, **{key: _number(read(f"cpuset.{key}")) for key in _CPUSET}}


def _memory(read: Callable[[str], str]) -> dict:
    raw = _pairs(read("memory.stat"))

    def entry(name: str) -> dict:
        values = {key: _number(read(f"memory.{name}{key}")) for key in ("limit_in_bytes", "failcnt")}
        some = _some(usage=_number(read(f"memory.{name}usage_in_bytes")), max=_number(read(f"memory.{name}max_usage_in_bytes")))
        return {"limit": values["limit_in_bytes"], **some, "failcnt": values["failcnt"]}

    return {
        **_some(cache=raw.get("cache", 0)),
        "usage": entry(""),
        "swap": entry("memsw."),
        "kernel": entry("kmem."),
        "kernelTCP": entry("kmem.tcp."),
        **_some(raw=raw),
    }


def _memory_v2(read: Callable[[str], str]) -> dict:
    """swap is memory and swap together, as v1 has it; max is memory.peak (Linux 5.19)."""
    raw = _pairs(read("memory.stat"))
    usage, limit = _number(read("memory.current")), _number(read("memory.max"))
    swap, swap_limit = _number(read("memory.swap.current")), _number(read("memory.swap.max"))
    together = _UNLIMITED if _UNLIMITED in (limit, swap_limit) else limit + swap_limit
    return {
        **_some(cache=raw.get("file", 0)),
        "usage": {"limit": limit, **_some(usage=usage, max=_number(read("memory.peak"))), "failcnt": 0},
        "swap": {"limit": together, **_some(usage=usage + swap, max=_number(read("memory.swap.peak"))), "failcnt": 0},
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        **_some(raw=raw),
    }


def _pids(read: Callable[[str], str], cgroup: Cgroup) -> dict:
    """current and limit; without the controller the processes are counted."""
    current, limit = read("pids.current"), _number(read("pids.max"))
    return _some(current=_number(current) if current else len(cgroup.pids()), limit=0 if limit == _UNLIMITED else limit)


def _entry(device: str, op: str, value: int) -> dict:
    major, minor = (int(n) for n in device.split(":"))
    return _some(major=major, minor=minor, op=op, value=value)


def _blkio(read: Callable[[str], str]) -> dict:
    """Lines "MAJ:MIN Read 7", or "MAJ:MIN 7"; the last one, "Total 7", is of all devices."""
    bfq = ":" in read("blkio.bfq.io_serviced_recursive")
    out = {}
    for member, of_bfq, of_throttling in _BLKIO:
        file = of_bfq if bfq else of_throttling
        lines = [line.split() for line in read(file).splitlines()] if file else []
        out[member] = [
            _entry(words[0], words[1] if len(words) == 3 else "", int(words[-1])) for words in lines if words and ":" in words[0]
        ]
    return _some(**out)


def _io_v2(read: Callable[[str], str]) -> dict:
    """io.stat, "MAJ:MIN rbytes=7 wbytes=0 rios=…", as v1's tables."""
    out: dict[str, list[dict]] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    for line in read("io.stat").splitlines():
        device, *words = line.split()
        for word in words:
            key, _, value = word.partition("=")
            if key in ("rbytes", "wbytes", "rios", "wios"):
                member = "ioServiceBytesRecursive" if key.endswith("bytes") else "ioServicedRecursive"
                out[member].append(_entry(device, "Read" if key[0] == "r" else "Write", int(value)))
    return _some(**out)


def _hugetlb(read: Callable[[str], str], v2: bool, pages: str) -> dict:
    out = {}
    for folder in sorted(os.listdir(pages)) if os.path.isdir(pages) else ():
        kib = int(folder.removeprefix("hugepages-").removesuffix("kB"))
        size = next(f"{kib // unit}{name}" for unit, name in ((1 << 20, "GB"), (1 << 10, "MB"), (1, "KB")) if kib >= unit)
        prefix = f"hugetlb.{size}"
        if v2:
            current = read(f"{prefix}.rsvd.current") or read(f"{prefix}.current")
            events = _pairs(read(f"{prefix}.events"))
            values = {**_some(usage=_number(current)), "failcnt": events.get("max", 0)}
        else:
            current = read(f"{prefix}.usage_in_bytes")
            most = _number(read(f"{prefix}.max_usage_in_bytes"))
            values = {**_some(usage=_number(current), max=most), "failcnt": _number(read(f"{prefix}.failcnt"))}
        if current:
            out[size] = values
    return out


def _pressure(text: str) -> dict:
    """Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; total in µs."""
    out = {}
    for line in text.splitlines():
        kind, *words = line.split()
        values = dict(word.split("=") for word in words)
        out[kind] = {key: int(value) if key == "total" else float(value) for key, value in values.items()}
    return out


def oom_events(container: OciContainer) -> Iterator[None]:
    """Yields once for each time that the container ran out of memory (v1) or a process was killed for it (v2), until it ends.

    Sources: cgroup-v1/memory.rst "OOM Control" (an eventfd in cgroup.event_control), cgroup-v2.rst (poll(2) of memory.events).
    Unsupported where the host has no memory controller.
    """
    from select import POLLERR, POLLIN, POLLPRI, poll

    cgroup = container.cgroup()
    version = cgroup.hierarchy.version("memory", "memory")
    if not version:
        raise Unsupported("events: this host has no memory controller, which tells of OOM", "use events --stats")
    pidfd = first(container)
    if pidfd < 0:
        return
    opened = [pidfd]
    try:
        folder = cgroup.directory("memory")
        notice = (_Notice1 if version == 1 else _Notice2)(folder, opened)
        poller = poll()
        poller.register(pidfd, POLLIN)
        poller.register(notice.fd, POLLIN if version == 1 else POLLPRI | POLLERR)
        ended = False
        while not ended:
            ended = any(fd == pidfd for fd, _ in poller.poll())
            for _ in range(notice.count()):  # once more at the end: what killed the first process counts
                yield None
    finally:
        for fd in opened:
            os.close(fd)


class _Notice1:
    """fd becomes readable when the group is out of memory; and when it is removed, which is no such event."""

    def __init__(self, folder: str, opened: list[int]) -> None:
        self._control = f"{folder}/cgroup.event_control"
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        opened.append(self.fd)
        watched = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(watched)
        tree.write(self._control, f"{self.fd} {watched}")

    def count(self) -> int:
        """Events since it was asked last."""
        try:
            events = os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0
        return events if os.path.exists(self._control) else 0


class _Notice2:
    """fd has POLLPRI when memory.events has changed."""

    def __init__(self, folder: str, opened: list[int]) -> None:
        self.fd = os.open(f"{folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(self.fd)
        self._kills = 0
        self._kills = self.count()

    def count(self) -> int:
        """OOM kills since it was asked last; 0 once the group is gone."""
        try:
            now = _pairs(os.pread(self.fd, 4096, 0).decode()).get("oom_kill", 0)
        except OSError:
            return 0
        more, self._kills = now - self._kills, now
        return max(more, 0)
