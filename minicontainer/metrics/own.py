"""What the exporter says of starts, of itself and of what it can't read: few series, so prometheus_client makes them."""

from __future__ import annotations

import os
import platform
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from minicontainer import __version__
from minicontainer.metrics.notes import Notes
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
        ProcessCollector(registry=self._registry)

    def text(self, openmetrics: bool) -> bytes:
        """The families below and process_*, with OpenMetrics' end mark."""
        return (generate_openmetrics if openmetrics else generate_latest)(self._registry)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for them."""
        yield self._start_phases()
        build = GaugeMetricFamily("minicontainer_build_info", "1, with what runs here as labels.",
                                  labels=("version", "python", "kernel", "cgroup"))
        build.add_metric((__version__, platform.python_version(), os.uname().release, self._cgroup_mode), 1)
        yield build
        left_out = GaugeMetricFamily("minicontainer_unavailable", "Containers for which figures are left out, and why.",
                                     labels=("what", "reason"))
        for (what, reason), count in sorted(self._notes.unavailable.items()):
            left_out.add_metric((what, reason), count)
        yield left_out
        errors = CounterMetricFamily("minicontainer_scrape_errors", "Reads that failed since the exporter began.",
                                     labels=("collector", "reason"))
        for (collector, reason), count in sorted(self._notes.errors.items()):
            errors.add_metric((collector, reason), count)
        yield errors

    def _start_phases(self) -> Metric:
        family = HistogramMetricFamily("minicontainer_start_phase_seconds",
                                       "Time spent in each phase of a container's start.", labels=("phase",))
        try:
            found = phases.read(self._phases_path) if self._phases_path else {}
        except OSError as e:
            self._notes.failed("phases", e)
            return family
        for name, (counts, total) in found.items():
            bounds = [*map(str, phases.BUCKETS_SECONDS), "+Inf"]
            family.add_metric((name,), list(zip(bounds, accumulate(counts))), total)
        return family
