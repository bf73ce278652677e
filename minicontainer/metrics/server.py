"""HTTP for one page: /metrics, in Prometheus' text or OpenMetrics, compressed for those who are not on this machine."""

from __future__ import annotations

import gzip
import os
import select
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET, AF_INET6

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE_TEXT
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS

from minicontainer.errors import MinicontainerError, NetworkError, UsageError
from minicontainer.metrics.exporter import Exporter, allow_many_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_LISTEN = "127.0.0.1:9323"
_IDLE_SECONDS = 120
_INDEX = b"minicontainer: the metrics are at /metrics\n"


def parse_listen(text: str) -> tuple[str, int]:
    """ "ADDRESS:PORT", "[v6]:PORT" or ":PORT" (loopback) as (address, port). UsageError otherwise."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    try:
        ip_address(host)
        if colon and port.isdecimal() and int(port) <= 65535:
            return host, int(port)
    except ValueError:
        pass  # said below
    raise UsageError(f'--listen "{text}" is not ADDRESS:PORT', f"like {DEFAULT_LISTEN}, 0.0.0.0:9323 or [::1]:9323")


def wants(accept: str, name: str) -> bool:
    """Whether an Accept or Accept-Encoding header names something with a weight above 0 (RFC 9110, 12.4.2)."""
    for part in accept.lower().split(","):
        value, *parameters = (word.strip() for word in part.split(";"))
        if value == name:
            return not any(p.startswith("q=") and float(p[2:] or 0) == 0 for p in parameters)
    return False


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of /metrics; the connection is kept, as Prometheus does from scrape to scrape."""

    protocol_version = "HTTP/1.1"
    server_version = "minicontainer"
    timeout = _IDLE_SECONDS
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer(200, "text/plain; charset=utf-8", _INDEX)
        elif path != "/metrics":
            self._answer(404, "text/plain; charset=utf-8", _INDEX)
        else:
            self._metrics()

    do_HEAD = do_GET

    def _metrics(self) -> None:
        openmetrics = wants(self.headers.get("Accept", ""), "application/openmetrics-text")
        try:
            body = self.server.exporter.scrape(openmetrics)
        except (MinicontainerError, OSError) as e:
            self._answer(500, "text/plain; charset=utf-8", f"{e}\n".encode())
            return
        # 1 MB for 100 containers: compressing it takes longer than reading it all, and saves nothing over loopback.
        compress = wants(self.headers.get("Accept-Encoding", ""), "gzip") and not ip_address(self.client_address[0]).is_loopback
        self._answer(
            200,
            CONTENT_TYPE_OPENMETRICS if openmetrics else CONTENT_TYPE_TEXT,
            gzip.compress(body, 1) if compress else body,
            gzipped=compress,
        )

    def _answer(self, status: int, content_type: str, body: bytes, *, gzipped: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """One line a scrape would fill a journal; failures are in the metrics."""


class Server(ThreadingHTTPServer):
    """A thread for each connection: a slow client holds up nobody."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], exporter: Exporter) -> None:
        self.exporter = exporter
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, Handler)

    def serve_until(self, wake_up: int) -> None:
        """Accepts connections until the descriptor wake_up has something to read."""
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        waiting.register(wake_up, select.POLLIN)
        while True:
            ready = [fd for fd, _ in waiting.poll()]
            if wake_up in ready:
                return
            self._handle_request_noblock()  # type: ignore[attr-defined]  # socketserver's accept, verify, process

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away while it was answered is no failure of ours; anything else is told."""
        import sys

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(listen: str, exporter: Exporter, *, ready: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT. ready(url) is called when connections are accepted.

    UsageError for a bad address, NetworkError if it can't be listened on.
    """
    address = parse_listen(listen)
    try:
        server = Server(address, exporter)
    except OSError as e:
        raise NetworkError(f"--listen {listen}: {e.strerror}", "choose another port, or see who has it: ss -ltnp") from e
    allow_many_descriptors()

    wake_up, signalled = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {number: signal.signal(number, lambda number, frame: None) for number in (signal.SIGTERM, signal.SIGINT)}
    before_fd = signal.set_wakeup_fd(signalled)  # signal(7): a byte for each, so that nothing has to look every now and then
    try:
        if ready:
            name, port = str(server.server_address[0]), server.server_address[1]
            ready(f"http://{f'[{name}]' if ':' in name else name}:{port}/metrics")
        server.serve_until(wake_up)
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake_up)
        os.close(signalled)
        server.server_close()
        exporter.close()
