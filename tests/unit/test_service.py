"""The example service: its answers and figures with made-up roots, and as a real process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.service import service as example

PROGRAM = Path(example.__file__)


def fake_sys(root: Path, files: dict[str, str]) -> str:
    """A sysfs with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def figures(metrics: str) -> dict[str, float]:
    """The samples of a scrape as {'name{label="value"}': number}, le and other labels in the order given."""
    return {s.name + "".join(f'{{{k}="{v}"}}' for k, v in s.labels.items()): s.value
            for family in text_string_to_metric_families(metrics) for s in family.samples}


def scrape(service: example.Service) -> dict[str, float]:
    status, content_type, body = service.answer("/metrics")
    assert status == 200 and content_type.startswith("text/plain")
    return figures(body.decode())


@pytest.mark.parametrize(("below", "primes"), [(0, 0), (2, 0), (3, 1), (100, 25), (10_000, 1229)])
def test_primes_are_counted(below: int, primes: int) -> None:
    assert example.count_primes(below, threading.Event()) == primes


def test_num_steers_the_computation_and_is_named_in_the_answer() -> None:
    assert example.Service(100).answer("/any/path?x=1") == (
        200, "text/plain", b"there is env NUM. Computation succeeded: 25 primes below 100\n")


def test_without_num_the_answer_says_so() -> None:
    status, _, body = example.Service(None).answer("/")
    assert status == 200 and body.startswith(b"there is no env NUM. Computation succeeded")


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "100000001", "\N{SUPERSCRIPT TWO}"])
def test_a_bad_num_is_refused_with_its_value_and_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"NUM is .*; it must be a whole number from 0 to 100000000"):
        example.number_from({"NUM": text})


def test_healthz_is_ok_until_the_service_stops() -> None:
    service = example.Service(0)
    assert service.answer("/healthz")[0] == 200
    service.stopping.set()
    assert service.answer("/healthz")[0] == 503


def test_a_stopping_service_gives_up_its_computation() -> None:
    service = example.Service(10_000_000)
    service.stopping.set()
    assert service.answer("/") == (503, "text/plain", b"stopping\n")


def test_requests_and_latency_count_computations_only() -> None:
    service = example.Service(10)
    for path in ("/", "/other", "/healthz", "/metrics"):
        service.answer(path)
    seen = scrape(service)
    assert seen["request_total"] == 2
    assert seen["request_latency_seconds_count"] == 2


def test_the_latency_buckets_are_the_agreed_ones() -> None:
    seen = scrape(example.Service(0))
    edges = [key.split('"')[1] for key in seen if key.startswith("request_latency_seconds_bucket")]
    assert [float(e) for e in edges] == [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, float("inf")]


def test_the_process_reports_on_itself() -> None:
    seen = scrape(example.Service(0))
    assert seen["process_resident_memory_bytes"] > 1_000_000
    assert "process_cpu_seconds_total" in seen and "process_open_fds" in seen


def test_a_machine_without_sensors_and_counters_has_no_such_metrics(tmp_path: Path) -> None:
    seen = scrape(example.Service(0, sys_root=fake_sys(tmp_path, {"block/vda/size": "8\n"})))
    assert not [key for key in seen if key.startswith(("cpu_temperature", "hd_errors"))]


@pytest.mark.parametrize(("files", "celsius"), [
    ({"class/thermal/thermal_zone0/type": "acpitz\n", "class/thermal/thermal_zone0/temp": "27800\n"}, 27.8),
    ({"class/thermal/thermal_zone0/type": "acpitz\n", "class/thermal/thermal_zone0/temp": "90000\n",
      "class/thermal/thermal_zone1/type": "x86_pkg_temp\n", "class/thermal/thermal_zone1/temp": "51000\n"}, 51.0),
    ({"class/hwmon/hwmon0/name": "nvme\n", "class/hwmon/hwmon0/temp1_input": "80000\n",
      "class/hwmon/hwmon1/name": "k10temp\n", "class/hwmon/hwmon1/temp1_input": "44125\n",
      "class/hwmon/hwmon1/temp3_input": "45500\n"}, 45.5),
    ({"class/thermal/thermal_zone0/type": "cpu-thermal\n", "class/thermal/thermal_zone0/temp": "-3000\n"}, -3.0),
    ({"class/thermal/thermal_zone0/type": "cpu-thermal\n", "class/thermal/thermal_zone0/temp": "asleep\n"}, None),
])
def test_the_temperature_is_the_hottest_cpu_sensor(
        tmp_path: Path, files: dict[str, str], celsius: float | None) -> None:
    seen = scrape(example.Service(0, sys_root=fake_sys(tmp_path, files)))
    assert seen.get("cpu_temperature_celsius") == celsius


def test_disk_errors_are_read_in_hexadecimal_for_each_device_that_counts_them(tmp_path: Path) -> None:
    root = fake_sys(tmp_path, {"block/sda/device/ioerr_cnt": "0x1f\n", "block/sdb/device/ioerr_cnt": "0x0\n",
                               "block/nvme0n1/device/model": "x\n"})
    seen = scrape(example.Service(0, sys_root=root))
    assert {k: v for k, v in seen.items() if k.startswith("hd_errors")} == {
        'hd_errors_total{device="sda"}': 31, 'hd_errors_total{device="sdb"}': 0}


class Process:
    """The service as a process of its own, on a free port."""

    def __init__(self, *, num: str) -> None:
        self.popen = subprocess.Popen([sys.executable, str(PROGRAM), "--port", "0"], stdout=subprocess.PIPE, text=True,
                                      env=os.environ | {"NUM": num})
        assert self.popen.stdout
        self.port = int(self.popen.stdout.readline().split("port ")[1].split(",")[0])

    def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        connection = http.client.HTTPConnection(host, self.port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        status, body = response.status, response.read().decode()
        connection.close()
        return status, body

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout
        self.popen.stdout.close()


@pytest.fixture
def quick():
    process = Process(num="1000")
    yield process
    process.close()


@pytest.fixture
def slow():
    process = Process(num="100000000")  # a computation that outlasts every test
    yield process
    process.close()


def test_a_real_process_answers_and_counts(quick: Process) -> None:
    assert quick.get("/") == (200, "there is env NUM. Computation succeeded: 168 primes below 1000\n")
    assert quick.get("/healthz") == (200, "ok\n")
    assert figures(quick.get("/metrics")[1])["request_total"] == 1


def test_healthz_answers_while_a_computation_runs(slow: Process) -> None:
    client = threading.Thread(target=slow.get, args=("/",))
    client.start()
    while figures(slow.get("/metrics")[1])["request_total"] < 1:
        time.sleep(0.02)
    begun = time.monotonic()
    assert slow.get("/healthz") == (200, "ok\n")
    assert time.monotonic() - begun < 2
    slow.popen.terminate()
    client.join(timeout=10)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_and_cleanly_in_the_middle_of_computations(slow: Process, stop: signal.Signals) -> None:
    """Four computations run; each client gets an answer, and the exit status is 0."""
    answers: list[tuple[int, str]] = []
    clients = [threading.Thread(target=lambda: answers.append(slow.get("/"))) for _ in range(4)]
    for client in clients:
        client.start()
    while figures(slow.get("/metrics")[1])["request_total"] < 4:
        time.sleep(0.02)
    begun = time.monotonic()
    slow.popen.send_signal(stop)
    assert slow.popen.wait(timeout=10) == 0
    assert time.monotonic() - begun < 1  # 0.03 s on a quiet machine
    for client in clients:
        client.join(timeout=10)
    assert answers == [(503, "stopping\n")] * 4


def test_a_signal_before_the_start_has_ended_is_not_lost() -> None:
    """Process 1 of a container has no default action for SIGTERM; the service blocks it first and fetches it later."""
    popen = subprocess.Popen([sys.executable, str(PROGRAM), "--port", "0"], stdout=subprocess.DEVNULL)
    try:
        while not _blocks_sigterm(popen.pid):
            time.sleep(0.001)
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(timeout=10) == 0
    finally:
        popen.kill()
        popen.wait()


def _blocks_sigterm(pid: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        masks = dict(line.split(":\t", 1) for line in f)
    return bool(int(masks["SigBlk"], 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_it_stops_at_once_as_process_1() -> None:
    """The kernel gives process 1 of a PID namespace no default action for SIGTERM: only a program that cares ends."""
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    unshare = subprocess.Popen([*namespace, sys.executable, str(PROGRAM), "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert unshare.stdout and "listening" in unshare.stdout.readline()
        with open(f"/proc/{unshare.pid}/task/{unshare.pid}/children", encoding="ascii") as f:
            process_1 = int(f.read())
        begun = time.monotonic()
        os.kill(process_1, signal.SIGTERM)
        assert unshare.wait(timeout=10) == 0
        assert time.monotonic() - begun < 1
    finally:
        unshare.kill()
        unshare.wait()
        unshare.stdout.close()


def test_a_bad_start_is_one_line_and_status_2() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM)], env=os.environ | {"NUM": "many"}, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == ("service: can't start on port 5565: NUM is 'many'; "
                           "it must be a whole number from 0 to 100000000\n")
