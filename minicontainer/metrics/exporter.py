"""One scrape: every container's figures, read now."""

from __future__ import annotations

import resource
from threading import Lock
from time import time

from minicontainer.cgroup.hierarchy import Hierarchy, detect
from minicontainer.metrics import disk, page
from minicontainer.metrics.group_files import GroupFiles
from minicontainer.metrics.host import HostRow
from minicontainer.metrics.network import Network
from minicontainer.metrics.notes import Notes
from minicontainer.metrics.own import Own
from minicontainer.metrics.page import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.metrics.source import Record, Source

RETAIN_SECONDS = 600.0
# Limits are read again when the engine changes a container's files, and besides in one scrape of so many, in turn: they
# are a quarter of all files, and seldom does anybody change them behind the engine's back.
_LIMITS_EVERY = 4
# A figure that every running container should have; what its absence leaves out; and why it can be absent.
_EXPECTED = (
    ("cpu_usage_seconds", "container_cpu_*", "this host has neither a cgroup v2 tree nor the cpuacct controller"),
    ("memory_usage_bytes", "container_memory_*", "this host has no memory controller"),
    ("oom_kills", "container_oom_events_total", "this kernel does not count OOM kills by cgroup"),
    ("pids", "container_threads", "this host has no pids controller"),
    (
        "io_reads",
        "container_fs_{reads,writes}*",
        "cgroup v1 counts block IO only for disks with a throttle rule (blkio.throttle.*)",
    ),
    (
        "pressure_cpu_waiting_seconds",
        "container_pressure_*",
        "pressure stall information is off (psi=0) or there is no cgroup v2 tree",
    ),
)
_KEPT_AFTER_REMOVAL = ("last_seen", "oom_kills", "exit_code", "start_time_seconds", "finished_time_seconds", "restarts")


class Watched:
    """What is kept of one container between scrapes."""

    __slots__ = ("files", "last_seen", "network", "oom_kills", "record", "row", "run", "started")

    def __init__(self, record: Record, files: GroupFiles, network: Network) -> None:
        self.run = run_of(record)
        self.started = record.started
        self.files = files
        self.network = network
        self.record: Record | None = None  # as it was when its limits were last read
        self.row = Row.of(record)
        self.last_seen = record.finished
        self.oom_kills: float | None = None

    def close(self) -> None:
        """Lets its descriptors go."""
        self.files.close()
        self.network.close()


def run_of(record: Record) -> tuple | None:
    """What makes it another run, whose counters begin anew; None if it does not run."""
    return (record.name, record.pid, record.started) if record.alive() else None


class Exporter:
    """Reads and renders. retain_seconds: how long a container that ended or was removed is still told of as last seen then.

    data_root: the folder whose file system is the host's disk. Safe to call from several threads.
    """

    def __init__(
        self,
        source: Source,
        *,
        data_root: str,
        hierarchy: Hierarchy | None = None,
        proc: str = "/proc",
        retain_seconds: float = RETAIN_SECONDS,
    ) -> None:
        self._source = source
        self._hierarchy = hierarchy or detect(proc=proc)
        self._proc = proc
        self._retain_seconds = retain_seconds
        self._notes = Notes()
        self._watched: dict[str, Watched] = {}
        self._removed: list[Watched] = []
        self._sizes = disk.LayerSizes()
        self._host = HostRow(GroupFiles(self._hierarchy, "", self._notes), data_root, proc)
        self._scrapes = 0
        self._block_io = True
        self._own = Own(self._notes, source.phases, self._hierarchy.mode)
        self._lock = Lock()

    def scrape(self, openmetrics: bool = False) -> bytes:
        """The whole page."""
        with self._lock:
            self._notes.begin()
            rows = self.rows(time())
            return "\n".join([*page.lines(rows, openmetrics), self._own.text(openmetrics)]).encode()

    def rows(self, now: float) -> list[Row]:
        """A row for the host, for each container, and for each that was removed lately. now: seconds since the epoch."""
        records = list(self._source.records())
        self._forget({record.ident for record in records}, now)
        self._sizes.advance([record.upper for record in records if record.upper])
        rows = [self._host.read(now)]
        # v1 counts a disk's IO once it has a throttle rule anywhere, and the root shows it then.
        self._block_io = self._hierarchy.version("blkio", "io") == 2 or "io_reads" in rows[0].numbers
        self._scrapes += 1
        free_inodes: dict[int, dict[str, int]] = {}
        for index, record in enumerate(records):
            rows.append(self._row(record, now, free_inodes, limits=(index + self._scrapes) % _LIMITS_EVERY == 0))
        return rows + [watched.row for watched in self._removed]

    def _row(self, record: Record, now: float, inodes: dict[int, dict[str, int]], *, limits: bool) -> Row:
        watched = self._watched.get(record.ident)
        if watched is None or record.alive() and watched.run != run_of(record):
            if watched:
                watched.close()
            watched = self._watched[record.ident] = Watched(
                record, GroupFiles(self._hierarchy, record.cgroup, self._notes), Network(record, self._notes, self._proc)
            )
        row, numbers = watched.row, {}
        if record.alive():
            numbers = self._alive(record, watched, now, limits or record is not watched.record)
        row.state = record.state if numbers or not record.alive() else "exited"
        if not numbers:
            watched.close()
            row.network = []
            self._ended(record, watched, numbers, now)
        numbers["restarts"] = record.restarts
        if watched.started:
            numbers["start_time_seconds"] = watched.started
        self._disk(record, numbers, inodes)
        row.numbers = numbers
        return row

    def _alive(self, record: Record, watched: Watched, now: float, limits: bool) -> dict[str, float]:
        """The figures of a running container; {} if its last process has gone."""
        try:
            numbers = watched.files.read(limits=limits, block_io=self._block_io)
            watched.record = record
        except OSError as e:
            self._notes.failed("cgroup", e)
            return {}
        if not numbers or numbers.get("pids") == 0:
            return {}
        for key, what, reason in _EXPECTED:
            if key not in numbers:
                self._notes.left_out(what, reason)
        watched.last_seen = numbers["last_seen"] = now
        watched.oom_kills = numbers.get("oom_kills")
        if "memory_usage_bytes" in numbers:
            numbers["spec_memory_limit_bytes"] = numbers.pop("memory_limit_bytes", 0)
        watched.row.network = watched.network.read()
        return numbers

    def _ended(self, record: Record, watched: Watched, numbers: dict[str, float], now: float) -> None:
        """What outlives the processes: how it ended always, when it was last seen and what was OOM-killed for a while."""
        if record.exit_code is not None:
            numbers["exit_code"] = record.exit_code
        if record.finished:
            numbers["finished_time_seconds"] = record.finished
        watched.last_seen = max(watched.last_seen, record.finished)
        kills = [kills for kills in (record.oom_kills, watched.oom_kills) if kills is not None]
        watched.oom_kills = max(kills) if kills else None
        if watched.last_seen and now - watched.last_seen <= self._retain_seconds:
            numbers["last_seen"] = watched.last_seen
            if watched.oom_kills is not None:
                numbers["oom_kills"] = watched.oom_kills

    def _disk(self, record: Record, numbers: dict[str, float], inodes: dict[int, dict[str, int]]) -> None:
        if not record.upper:
            return
        size = self._sizes.get(record.upper)
        if size is not None:
            numbers["fs_usage_bytes"] = size
        found = inodes.get(0)  # all writable layers lie in one data root
        if found is None:
            found = inodes[0] = disk.inodes(record.upper)
        numbers.update(found)

    def _forget(self, idents: set[str], now: float) -> None:
        """Removed containers keep the figures that rules ask for, for retain_seconds."""
        for ident in self._watched.keys() - idents:
            watched = self._watched.pop(ident)
            watched.close()
            if watched.last_seen:
                row = watched.row
                row.numbers = {key: row.numbers[key] for key in _KEPT_AFTER_REMOVAL if key in row.numbers}
                row.network, row.state = [], "removed"
                self._removed.append(watched)
        self._removed = [watched for watched in self._removed if now - watched.last_seen <= self._retain_seconds]

    def close(self) -> None:
        """Lets all descriptors go."""
        for watched in self._watched.values():
            watched.close()


def allow_many_descriptors() -> None:
    """Raises the soft limit of open files to the hard one: 16 a container are kept."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
