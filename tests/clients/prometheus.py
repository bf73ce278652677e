"""A real Prometheus of our own, in the network namespace of a minicontainer of ours, whose exporter it scrapes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
from typing import TYPE_CHECKING

from tests.clients.ours import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.ours import Ours

# In the network namespace of a test every port is free.
EXPORTER = "127.0.0.1:9323"
SERVICE = "127.0.0.1:5565"
LISTEN = "127.0.0.1:9090"

PATIENCE_SECONDS = 60.0  # that anything may take on a slow and busy machine
STOP_SECONDS = 20.0
REQUEST_SECONDS = "20"
# A scrape's time stamp may be off by 1 % of the interval of one second: Prometheus moves it, to compress better.
STAMP_SECONDS = 0.02

Sample = tuple[dict[str, str], float]


def missing() -> str:
    """Why there can be no Prometheus here, or an empty string."""
    if os.geteuid() != 0:
        return "containers need root"
    for tool in ("prometheus", "promtool", "curl"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install prometheus curl)"
    return ""


def until(true: Callable[[], object], what: str) -> None:
    """Waits until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.1)


def get(side: Ours, url: str, *flags: str) -> tuple[int, bytes]:
    """HTTP status and body of a GET from the network namespace; status 0 when there was no answer."""
    curl = ["curl", "--silent", "--max-time", REQUEST_SECONDS, "--write-out", "\n%{http_code}", *flags, url]
    done = subprocess.run([*side.enter()[:2], *curl], capture_output=True, check=False)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


class Server:
    """A program that serves HTTP in the network namespace, with its log in a file; ended by its pid."""

    def __init__(self, side: Ours, name: str, command: list[str], ready_url: str) -> None:
        self.log = f"{side.directory}/{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([*side.enter()[:2], *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(lambda: self.process.poll() is not None or get(side, ready_url)[0] == 200, f"{name} answers at {ready_url}")
            if self.process.poll() is not None:
                raise RuntimeError(f"{name} ended with {self.process.returncode}: {self.text()[-2000:]}")
        except BaseException:
            self.stop()
            raise

    def text(self) -> str:
        """What it has written so far."""
        with open(self.log, errors="replace") as log:
            return log.read()

    def stop(self) -> int:
        """Its exit status after SIGTERM; -9 if it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def exporter(side: Ours) -> Server:
    """minicontainer metrics, listening on EXPORTER."""
    return Server(side, "exporter", side.command("metrics", "--listen", EXPORTER), f"http://{EXPORTER}/metrics")


class Prometheus(Server):
    """Debian's, with the demo's configuration: it scrapes EXPORTER and SERVICE every second."""

    def __init__(self, side: Ours) -> None:
        self.side = side
        with open(f"{REPOSITORY}/examples/demo/prometheus.yml") as file:
            config = file.read().replace("EXPORTER", EXPORTER).replace("SERVICE", SERVICE)
        path = f"{side.directory}/prometheus.yml"
        with open(path, "w") as file:
            file.write(config)
        command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={side.directory}/tsdb",
                   f"--web.listen-address={LISTEN}"]
        super().__init__(side, "prometheus", command, f"http://{LISTEN}/-/ready")

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """The samples (labels with __name__, value) of an instant query; at: seconds since the epoch, None is now."""
        question = {"query": promql, **({} if at is None else {"time": f"{at:.3f}"})}
        status, body = get(self.side, f"http://{LISTEN}/api/v1/query?{urllib.parse.urlencode(question)}")
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", (promql, answer)
        assert answer["data"]["resultType"] == "vector", (promql, answer)
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]

    def value(self, promql: str, at: float | None = None) -> float:
        """The value of a query that has exactly one sample."""
        samples = self.query(promql, at)
        assert len(samples) == 1, f"{promql} has {len(samples)} samples, not 1: {samples}"
        return samples[0][1]

    def scraped_after(self, moment: float, job: str = "minicontainer") -> float:
        """The time stamp of a scrape of this job that began after `moment`, both in seconds since the epoch."""
        stamps: list[Sample] = []

        def is_later() -> bool:
            # timestamp() of anything but a plain selector is the time of the query
            stamps[:] = self.query(f'timestamp(up{{job="{job}"}}) and up{{job="{job}"}} == 1')
            return bool(stamps) and stamps[0][1] > moment + STAMP_SECONDS

        until(is_later, f"a scrape of {job}")
        return stamps[0][1]


def promtool_check_metrics(page: bytes) -> subprocess.CompletedProcess[bytes]:
    """`promtool check metrics` of a page; its findings are on stdout and stderr, its verdict is the exit status."""
    return subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
