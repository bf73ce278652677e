"""The example service in a container: what it answers, what it counts, and how it stops as process 1."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.clients import prometheus, service
from tests.clients.ours import Ours
from tests.clients.prometheus import get, until
from tests.integration.engine import disk

URL = f"http://{prometheus.SERVICE}"
PUBLISHED = ("-p", f"{prometheus.SERVICE}:5565")
# stop waits 10 s before SIGKILL: a service that does not hear SIGTERM would take all of them, and end with 137.
STOP_SECONDS = 1.0
GRACE_SECONDS = 10.0


@pytest.fixture(scope="module")
def side() -> Iterator[Ours]:
    """minicontainer with the image example-service."""
    missing = service.missing()
    if missing:
        pytest.skip(missing)
    directory = tempfile.mkdtemp(prefix="service.", dir=disk())
    ours = Ours(directory)
    ours.start()
    try:
        service.import_service(ours)
        yield ours
    finally:
        ours.stop()
        shutil.rmtree(directory)


@pytest.fixture
def web(side: Ours) -> Iterator[str]:
    """The name for the one container of a test."""
    yield "web"
    side.run("rm", "--force", "web")


def start(side: Ours, name: str, *flags: str) -> None:
    """The service in the background, answering."""
    side.run("run", "-d", "--name", name, *flags, service.IMAGE)
    until(lambda: get(side, f"{URL}/healthz")[0] == 200, "the service answers")


def figures(side: Ours) -> dict[str, float]:
    """The samples of /metrics as {'name{label="value"}': number}."""
    status, page = get(side, f"{URL}/metrics")
    assert status == 200
    return {s.name + "".join(f'{{{k}="{v}"}}' for k, v in s.labels.items()): s.value
            for family in text_string_to_metric_families(page.decode()) for s in family.samples}


def test_with_num_every_path_computes_and_says_so(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED, "-e", "NUM=100")
    for path in ("/", "/any/other?path"):
        assert get(side, URL + path) == (200, b"there is env NUM. Computation succeeded: 25 primes below 100\n")


def test_without_num_the_answer_says_so(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED)
    assert get(side, f"{URL}/") == (200, b"there is no env NUM. Computation succeeded: 1229 primes below 10000\n")


def test_a_bad_num_ends_the_container_with_a_message(side: Ours) -> None:
    done = side.run("run", "--rm", "-e", "NUM=many", service.IMAGE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"service: can't start on port 5565: NUM is 'many'; it must be a whole number from 0 to 100000000\n"


def test_healthz_answers_and_is_not_counted(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED)
    assert get(side, f"{URL}/healthz") == (200, b"ok\n")
    assert figures(side)["request_total"] == 0


def test_metrics_count_requests_and_their_latency_and_know_the_process(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED, "-e", "NUM=1000", "--memory", "64m")
    for _ in range(3):
        get(side, f"{URL}/")
    has = figures(side)
    names = ("request_total", "request_latency_seconds_count", 'request_latency_seconds_bucket{le="300.0"}')
    assert [has[name] for name in names] == [3, 3, 3]
    assert 0 < has["process_resident_memory_bytes"] < 64 << 20
    assert has["process_cpu_seconds_total"] > 0


def test_each_request_is_a_line_of_the_log(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED, "-e", "NUM=10")
    get(side, f"{URL}/one")
    lines = side.run("logs", web).stdout.decode().splitlines()
    assert lines[0] == "service: listening on port 5565, NUM=10"
    assert " GET '/one' 200 " in lines[1]


def test_it_runs_as_the_user_of_its_image_on_a_read_only_root(side: Ours, web: str) -> None:
    start(side, web, *PUBLISHED, "--read-only", "--cap-drop", "ALL")
    show = "import os; print(os.getuid(), os.getgid(), open('/proc/1/comm').read().strip())"
    assert side.run("exec", web, "python3", "-c", show).stdout == b"65534 65534 python3\n"


@pytest.mark.parametrize("flags", [(), ("--init",)], ids=["as process 1", "with --init"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "computing"])
def test_stop_ends_it_within_a_second_and_with_status_0(side: Ours, web: str, flags: tuple[str, ...], busy: bool) -> None:
    if flags and shutil.which("tini-static") is None:
        pytest.skip("--init needs a static tini: apt-get install tini")
    start(side, web, *PUBLISHED, *flags, "-e", f"NUM={100_000_000 if busy else 10}")
    if busy:
        assert get(side, f"{URL}/", "--max-time", "0.3")[0] == 0, "the computation takes minutes"
    begun = time.monotonic()
    side.run("stop", "--time", str(int(GRACE_SECONDS)), web)
    seconds = time.monotonic() - begun
    assert side.run("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", web).stdout == b"exited 0\n"
    assert seconds < STOP_SECONDS + overhead(side)


def overhead(side: Ours) -> float:
    """Seconds that a command takes here and now without doing anything: a busy machine has its own."""
    begun = time.monotonic()
    side.run("ps")
    return time.monotonic() - begun


def test_sigterm_to_a_run_in_the_foreground_ends_both_with_status_0(side: Ours, web: str) -> None:
    command = side.enter("run", "--name", web, *PUBLISHED, "-e", "NUM=10", service.IMAGE)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as run:
        until(lambda: get(side, f"{URL}/healthz")[0] == 200, "the service answers")
        run.send_signal(signal.SIGTERM)
        out, _ = run.communicate(timeout=GRACE_SECONDS)
    assert (run.returncode, out) == (0, b"service: listening on port 5565, NUM=10\n")
