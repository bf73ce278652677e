"""What the exporter says of starts, of itself and of what it can't read.

These are few series that seldom change: prometheus_client makes their text, which is kept until one of them does.
"""

from __future__ import annotations

import os
import platform
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import CollectorRegistry

from minicontainer import __version__
from minicontainer.cgroup.settings import PAGE_BYTES
from minicontainer.metrics.families import PROCESS
from minicontainer.metrics.notes import Notes
from minicontainer.metrics.page import header
from minicontainer.runtime import phases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric


class Own:
    """A registry of its own, so that nothing is registered by an import."""

    def __init__(self, notes: Notes, phases_path: str, cgroup_mode: str) -> None:
        self._notes = notes
        self._phases_path = phases_path
        self._cgroup_mode = cgroup_mode
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._kept: dict[bool, tuple[object, str]] = {}

    def text(self, openmetrics: bool) -> str:
        """process_*, then the families of collect(), with OpenMetrics' end mark."""
        process = [f"{header(family, openmetrics)}\n{family.name} {value}" for family, value in zip(PROCESS, _process())]
        state = (self._phases_mark(), dict(self._notes.unavailable), dict(self._notes.errors))
        kept = self._kept.get(openmetrics)
        if kept is None or kept[0] != state:
            text = (generate_openmetrics if openmetrics else generate_latest)(self._registry).decode()
            kept = self._kept[openmetrics] = (state, text)
        return "\n".join([*process, kept[1]])

    def _phases_mark(self) -> tuple[int, int] | None:
        try:
            info = os.stat(self._phases_path)
        except FileNotFoundError:
            return None
        except OSError as e:
            self._notes.failed("phases", e)
            return None
        return info.st_ino, info.st_mtime_ns

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for them."""
        yield self._start_phases()
        build = GaugeMetricFamily(
            "minicontainer_build_info", "1, with what runs here as labels.", labels=("version", "python", "kernel", "cgroup")
        )
        build.add_metric((__version__, platform.python_version(), os.uname().release, self._cgroup_mode), 1)
        yield build
        left_out = GaugeMetricFamily(
            "minicontainer_unavailable", "Containers for which figures are left out, and why.", labels=("what", "reason")
        )
        for (what, reason), count in sorted(self._notes.unavailable.items()):
            left_out.add_metric((what, reason), count)
        yield left_out
        errors = CounterMetricFamily(
            "minicontainer_scrape_errors", "Reads that failed since the exporter began.", labels=("collector", "reason")
        )
        for (collector, reason), count in sorted(self._notes.errors.items()):
            errors.add_metric((collector, reason), count)
        yield errors

    def _start_phases(self) -> Metric:
        family = HistogramMetricFamily(
            "minicontainer_start_phase_seconds", "Time spent in each phase of a container's start.", labels=("phase",)
        )
        try:
            found = phases.read(self._phases_path) if self._phases_path else {}
        except OSError as e:
            self._notes.failed("phases", e)
            return family
        for name, (counts, total) in found.items():
            bounds = [*map(str, phases.BUCKETS_SECONDS), "+Inf"]
            family.add_metric((name,), list(zip(bounds, accumulate(counts))), total)
        return family


def _process() -> tuple[float, int]:
    """CPU seconds and resident bytes of this process: the values of PROCESS."""
    spent = os.times()
    with open("/proc/self/statm", "rb", buffering=0) as f:
        return spent.user + spent.system, int(f.read(256).split()[1]) * PAGE_BYTES
