"""figures.py show PROMETHEUS_URL CONTAINER | free-port PREFERRED: the demo's table of PromQL results, and its ports."""

from __future__ import annotations

import json
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable


def cores(value: float) -> str:
    return f"{value:.2f} cores"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def mebibytes(value: float) -> str:
    return f"{value / 2**20:.1f} MiB"


def kilobytes_per_second(value: float) -> str:
    return f"{value / 1000:.1f} kB/s"


def per_second(value: float) -> str:
    return f"{value:.1f} /s"


def milliseconds(value: float) -> str:
    return f"{1000 * value:.1f} ms"


def number(value: float) -> str:
    return f"{value:.0f}"


# what it is, how to write it, PromQL; C stands for the container's label matcher, W for the window of the load
FIGURES: list[tuple[str, Callable[[float], str], str]] = [
    ("CPU in use (limit 0.5)", cores, "rate(container_cpu_usage_seconds_total{C}[W])"),
    ("CPU periods that ended throttled", percent,
     "rate(container_cpu_cfs_throttled_periods_total{C}[W]) / rate(container_cpu_cfs_periods_total{C}[W])"),
    ("time spent throttled", percent, "rate(container_cpu_cfs_throttled_seconds_total{C}[W])"),
    ("memory, working set", mebibytes, "container_memory_working_set_bytes{C}"),
    ("memory, limit", mebibytes, "container_spec_memory_limit_bytes{C}"),
    ("network, received", kilobytes_per_second, "sum(rate(container_network_receive_bytes_total{C}[W]))"),
    ("network, sent", kilobytes_per_second, "sum(rate(container_network_transmit_bytes_total{C}[W]))"),
    ("requests, as the service counts them", number, 'request_total{job="example-service"}'),
    ("requests answered", per_second, 'rate(request_total{job="example-service"}[W])'),
    ("request latency, 90th percentile", milliseconds,
     'histogram_quantile(0.9, rate(request_latency_seconds_bucket{job="example-service"}[W]))'),
    ("OOM kills", number, "container_oom_events_total{C}"),
    ("start of the container, all phases", milliseconds,
     'sum(minicontainer_start_phase_seconds_sum) / max(minicontainer_start_phase_seconds_count)'),
]
WINDOW = "15s"


def query(prometheus: str, promql: str) -> float | None:
    """The value of an instant query that has one sample; None without samples."""
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
    with urllib.request.urlopen(url, timeout=10) as response:
        samples = json.load(response)["data"]["result"]
    return float(samples[0]["value"][1]) if samples else None


def show(prometheus: str, container: str) -> bool:
    """Prints the table; were all figures there?"""
    complete = True
    for title, unit, template in FIGURES:
        promql = template.replace("{C}", f'{{name="{container}"}}').replace("[W]", f"[{WINDOW}]")
        value = query(prometheus, promql)
        complete = complete and value is not None
        print(f"  {title:38}{'no data' if value is None else unit(value):>12}   {promql}")
    return complete


def free_port(preferred: int) -> int:
    """The preferred loopback TCP port if it is free, else one that is."""
    for port in (preferred, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise SystemExit("demo: no loopback port is free")


if __name__ == "__main__":
    if sys.argv[1:2] == ["free-port"]:
        print(free_port(int(sys.argv[2])))
    elif not show(sys.argv[2], sys.argv[3]):
        raise SystemExit("demo: Prometheus has no data for a figure above")
