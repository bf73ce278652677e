"""The exporter over HTTP: one page, two formats, and a clean end on SIGTERM."""

from __future__ import annotations

import gzip
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from minicontainer.errors import NetworkError
from minicontainer.metrics.server import Handler, serve

PROGRAM = """
import sys
from minicontainer.metrics.exporter import Exporter
from minicontainer.metrics.server import serve
class Nobody:
    phases = ""
    def records(self): return []
serve(sys.argv[1], Exporter(Nobody(), data_root="/"), ready=lambda url: print(url, flush=True))
"""
HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


@pytest.fixture
def process() -> Iterator[subprocess.Popen]:
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.fixture
def connection(process) -> http.client.HTTPConnection:
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:") and url.endswith("/metrics")
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    yield connection
    connection.close()


def get(connection, path="/metrics", method="GET", **headers) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read()


def test_pages_and_formats_over_one_kept_connection(connection):
    answer, body = get(connection)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"minicontainer_build_info{" in body and b"# EOF" not in body
    answer, body = get(connection, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Accept_Encoding="gzip")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n"), "plain: a client on this machine gains nothing from gzip"
    answer, body = get(connection, method="HEAD")
    assert (answer.status, body) == (200, b"") and int(answer.headers["Content-Length"]) > 1000
    assert get(connection, "/")[0].status == 200
    assert get(connection, "/nothing")[0].status == 404
    assert get(connection, "/metrics?a=b")[0].status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_cleanly(process, connection, number):
    get(connection)
    begin = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - begin < 2
    assert process.stderr.read() == ""


def test_a_client_that_says_nothing_holds_up_nobody(process, connection):
    with socket.create_connection((connection.host, connection.port)):
        assert get(connection)[0].status == 200


def test_it_does_nothing_while_nobody_asks(process, connection):
    get(connection)
    time.sleep(0.2)
    used = time.clock_gettime(~process.pid << 3 | 2)
    time.sleep(1)
    assert time.clock_gettime(~process.pid << 3 | 2) - used < 0.001


def test_a_port_that_is_taken_is_an_error_that_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(NetworkError, match=f"--listen 127.0.0.1:{taken.getsockname()[1]}: Address already in use"):
            serve(f"127.0.0.1:{taken.getsockname()[1]}", None)  # type: ignore[arg-type]  # it does not come to that


def test_clients_elsewhere_get_it_compressed():
    answers = []

    class Far(Handler):
        def __init__(self) -> None:
            self.client_address = ("192.0.2.7", 1234)
            self.headers = {"Accept-Encoding": "gzip, deflate"}  # type: ignore[assignment]
            self.server = type("Server", (), {"exporter": type("Exporter", (), {"scrape": lambda self, om: b"x" * 1000})()})()

        def _answer(self, status, content_type, body, *, gzipped=False) -> None:
            answers.append((status, gzip.decompress(body), gzipped))

    Far()._metrics()
    assert answers == [(200, b"x" * 1000, True)]
