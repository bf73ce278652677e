#!/usr/bin/env python3
"""The example service: answers on port 5565, burns some CPU for it, and tells Prometheus about itself.

    /           counts the primes below the number in the variable NUM (and so does any other path)
    /healthz    "ok", also while every computation is busy
    /metrics    request_total, request_latency_seconds, cpu_temperature_celsius, hd_errors_total{device},
                and the process's own

It stops within a blink of SIGTERM, also as process 1 of a container: running computations are told to give
up and are answered with 503, and the exit status is 0.
"""

from __future__ import annotations

import signal

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
if __name__ == "__main__":
    # For process 1 of a PID namespace the kernel drops a signal that has no handler (pid_namespaces(7)), but
    # keeps one that is blocked. So they are blocked before the slow imports, and fetched with sigwait():
    # none is lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import argparse
import glob
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

PORT = 5565
DEFAULT_NUM = 10_000
LARGEST_NUM = 100_000_000
LATENCY_BUCKETS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
FAREWELL_SECONDS = 0.05  # how long a stopping service waits for its last answers to be written

# Names that drivers of CPU sensors give themselves, in hwmon's `name` and in a thermal zone's `type`.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu", "x86_pkg_temp", "soc")


class Stopped(Exception):
    """The service is stopping; the computation gave up."""


def count_primes(below: int, stopping: threading.Event) -> int:
    """How many primes are smaller than `below`, by trial division: slow on purpose. Raises Stopped."""
    count = 0
    for n in range(2, below):
        if n % 256 == 0 and stopping.is_set():
            raise Stopped
        for divisor in range(2, int(n**0.5) + 1):
            if n % divisor == 0:
                break
        else:
            count += 1
    return count


def number_from(environment: Mapping[str, str]) -> int | None:
    """The whole number in NUM, None without NUM. Raises ValueError with a text for the user."""
    text = environment.get("NUM")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST_NUM):
        raise ValueError(f"NUM is {text!r}; it must be a whole number from 0 to {LARGEST_NUM}")
    return int(text)


def read_number(path: str, base: int = 10) -> int | None:
    """The number in a file of sysfs; None when the driver has none at the moment (a sleeping sensor: EAGAIN)."""
    try:
        with open(path, encoding="ascii") as f:
            return int(f.read(), base)
    except (OSError, ValueError):
        return None


def cpu_temperature_celsius(sys_root: str = "/sys") -> float | None:
    """The hottest CPU sensor among thermal zones and hwmon chips; without a CPU's, the hottest thermal zone.

    Both give thousandths of a degree: the kernel's Documentation/driver-api/thermal/sysfs-api.rst and
    Documentation/hwmon/sysfs-interface.rst.
    """
    cpu, zones = [], []
    for pattern, name_file in (("thermal/thermal_zone*/temp", "type"), ("hwmon/hwmon*/temp*_input", "name")):
        for path in glob.glob(os.path.join(sys_root, "class", pattern)):
            millidegrees = read_number(path)
            if millidegrees is None:
                continue
            if _text(os.path.join(os.path.dirname(path), name_file)).startswith(CPU_SENSORS):
                cpu.append(millidegrees)
            elif name_file == "type":
                zones.append(millidegrees)
    return max(cpu or zones) / 1000 if cpu or zones else None


def _text(path: str) -> str:
    """A sysfs file's one line, "" when it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.readline().strip().lower()
    except OSError:
        return ""


def hd_errors(sys_root: str = "/sys") -> dict[str, int]:
    """I/O errors by block device, of those that count them (SCSI and SATA: `ioerr_cnt`, in hexadecimal)."""
    counts = {}
    for path in sorted(glob.glob(os.path.join(sys_root, "block", "*", "device", "ioerr_cnt"))):
        errors = read_number(path, base=16)
        if errors is not None:
            counts[path.split(os.sep)[-3]] = errors
    return counts


class HostCollector:
    """What the machine's sensors and disks say, at scrape time; a machine without them has no such metric."""

    def __init__(self, sys_root: str = "/sys") -> None:
        self._sys_root = sys_root

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for each scrape."""
        temperature = cpu_temperature_celsius(self._sys_root)
        if temperature is not None:
            yield GaugeMetricFamily("cpu_temperature_celsius", "The hottest sensor of the CPU.", value=temperature)
        errors = hd_errors(self._sys_root)
        if errors:
            family = CounterMetricFamily("hd_errors", "I/O errors of a block device.", labels=["device"])
            for device, count in errors.items():
                family.add_metric([device], count)
            yield family


class Service:
    """What is answered, and what is counted. No sockets in here."""

    def __init__(self, num: int | None, sys_root: str = "/sys", proc_root: str = "/proc") -> None:
        self.num = num
        self.stopping = threading.Event()
        # The interpreter computes one thing at a time anyway; to wait here instead leaves it free for /healthz
        # and for signals.
        self._one_at_a_time = threading.Lock()
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.requests = Counter("request", "Computations asked for.", registry=self.registry)
        self.latency = Histogram("request_latency_seconds", "From a computation's request to its result.",
                                 buckets=LATENCY_BUCKETS_SECONDS, registry=self.registry)
        self.registry.register(HostCollector(sys_root))
        ProcessCollector(proc=proc_root, registry=self.registry)
        PlatformCollector(registry=self.registry)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a GET of this path."""
        route = path.partition("?")[0]
        if route == "/healthz":
            stopping = self.stopping.is_set()
            return (503, "text/plain", b"stopping\n") if stopping else (200, "text/plain", b"ok\n")
        if route == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self.registry)
        return self._compute()

    def _compute(self) -> tuple[int, str, bytes]:
        self.requests.inc()
        below = DEFAULT_NUM if self.num is None else self.num
        try:
            with self.latency.time(), self._one_at_a_time:
                primes = count_primes(below, self.stopping)
        except Stopped:
            return 503, "text/plain", b"stopping\n"
        env = "there is no env NUM" if self.num is None else "there is env NUM"
        return 200, "text/plain", f"{env}. Computation succeeded: {primes} primes below {below}\n".encode()


class Handler(BaseHTTPRequestHandler):
    """HTTP around Service.answer; one thread per connection."""

    server: Server
    timeout = 30  # seconds that a silent client may hold a thread

    def do_GET(self) -> None:
        """Any path."""
        begun = time.monotonic()
        status, content_type, body = self.server.service.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path not in ("/healthz", "/metrics"):
            seconds = time.monotonic() - begun
            print(f"{self.client_address[0]} GET {self.path!r} {status} {seconds:.3f}s", flush=True)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Silent: do_GET writes one line that has the duration too."""


class Server(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4, or on IPv4 where the kernel has no IPv6."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service) -> None:
        self.service = service
        dual = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if dual else socket.AF_INET
        super().__init__(("", port), Handler, bind_and_activate=False)
        if dual:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # HTTPServer's own would also ask DNS for a name that nobody needs
        self.server_activate()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is its own business; anything else is worth a line in the log."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"service: request of {client_address} failed: {error!r}", file=sys.stderr, flush=True)


def serve_until_stopped(server: Server) -> None:
    """Serves until SIGTERM or SIGINT, both blocked; then gives the last answers a moment to get out."""
    accepting = threading.Thread(target=server.serve_forever, daemon=True)
    accepting.start()
    signal.sigwait(STOP_SIGNALS)
    server.service.stopping.set()
    deadline = time.monotonic() + FAREWELL_SECONDS
    for thread in threading.enumerate():
        if thread not in (accepting, threading.current_thread()):
            thread.join(max(0.0, deadline - time.monotonic()))


def main() -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--sys", default="/sys", help="where to find sysfs")
    parser.add_argument("--proc", default="/proc", help="where to find procfs")
    options = parser.parse_args()
    try:
        server = Server(options.port, Service(number_from(os.environ), options.sys, options.proc))
    except (ValueError, OSError, OverflowError) as error:
        print(f"service: can't start on port {options.port}: {error}", file=sys.stderr)
        return 2
    print(f"service: listening on port {server.server_address[1]}, NUM={server.service.num}", flush=True)
    serve_until_stopped(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
