"""A real Prometheus scrapes the exporter and the example service in a container under load; what PromQL then says is what
the kernel's own files say.

A figure that only rises is read from the kernel before a scrape and after it: what Prometheus has lies between the two,
to the last digit and however slow the machine is. That container is then paused, and everything in it must be equal.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from tests.clients import prometheus, service
from tests.clients.daemon import cgroups_named
from tests.clients.kernel_figures import COUNTERS, GAUGES, LIMITS, PRESSURE, Figures, Groups
from tests.clients.ours import REPOSITORY, Ours
from tests.clients.prometheus import Prometheus, get, until
from tests.integration.engine import disk

LOAD_SECONDS = 12
WINDOW_SECONDS = 10
WINDOW = f"{WINDOW_SECONDS}s"
CLIENTS = 4
QUOTA = 0.5  # CPUs
MEMORY_BYTES = 64 << 20
CACHED_BYTES = 8 << 20
POD = {"io.kubernetes.container.name": "web", "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop"}
OF_SERVICE = '{job="minicontainer",name="service"}'

# The kernel charges memory in batches of 64 pages for each CPU (MEMCG_CHARGE_BATCH), so a usage that nothing changes still moves.
BATCH_BYTES = 64 * 4096


class Loaded:
    """The service after its load: how many calls were answered, and what the kernel counted from begin to end.

    watched: the kernel's figures and their times (seconds since the epoch) all through the load.
    """

    def __init__(self, side: Ours, watcher: Prometheus, groups: Groups) -> None:
        self.side = side
        self.prometheus = watcher
        self.groups = groups
        self.watched = [(time.time(), groups.figures())]
        command = [sys.executable, f"{REPOSITORY}/tests/clients/load.py", f"http://{prometheus.SERVICE}/load"]
        with subprocess.Popen([*side.enter()[:2], *command, str(LOAD_SECONDS), str(CLIENTS)], stdout=subprocess.PIPE) as load:
            while load.poll() is None:
                time.sleep(0.2)
                self.watched.append((time.time(), groups.figures()))
            assert load.returncode == 0 and load.stdout is not None, "some call had no answer: see stderr"
            self.answers = int(load.stdout.read())
        self.ended = self.watched[-1][0]
        self.seconds = self.ended - self.watched[0][0]

    def rise(self, name: str) -> float:
        """By how much a counter of the kernel has risen."""
        return self.watched[-1][1][name] - self.watched[0][1][name]

    def rate(self, name: str) -> float:
        """By how much a counter of the kernel rose a second, in the last WINDOW of the load."""
        begun, before = min(self.watched, key=lambda seen: abs(seen[0] - (self.ended - WINDOW_SECONDS)))
        return (self.watched[-1][1][name] - before[name]) / (self.ended - begun)


@pytest.fixture(scope="module")
def side() -> Iterator[Ours]:
    """minicontainer with the images example-service and busybox, and its exporter."""
    missing = prometheus.missing() or service.missing()
    if missing:
        pytest.skip(missing)
    directory = tempfile.mkdtemp(prefix="prometheus.", dir=disk())
    ours = Ours(directory)
    ours.start()
    try:
        service.import_service(ours)
        yield ours
    finally:
        ours.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def exporter(side: Ours) -> Iterator[prometheus.Server]:
    server = prometheus.exporter(side)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def watcher(side: Ours, exporter: prometheus.Server) -> Iterator[Prometheus]:
    server = Prometheus(side)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def loaded(side: Ours, watcher: Prometheus) -> Loaded:
    labels = [word for key, value in POD.items() for word in ("--label", f"{key}={value}")]
    side.run(
        "run",
        "-d",
        "--name",
        "service",
        "--memory",
        "64m",
        "--cpus",
        str(QUOTA),
        "--pids-limit",
        "100",
        "-p",
        f"{prometheus.SERVICE}:5565",
        "-e",
        "NUM=20000",
        *labels,
        service.IMAGE,
    )
    until(lambda: get(side, f"http://{prometheus.SERVICE}/healthz")[0] == 200, "the service answers")
    prefer(side)
    for job in ("minicontainer", "example-service"):
        watcher.scraped_after(0, job)
    return Loaded(side, watcher, Groups(int(field(side, "service", "{{.State.Pid}}"))))


def prefer(side: Ours) -> None:
    """Gives the containers' parent the highest weight: they get their CPU, and run into their quota, on a busy machine too."""
    for group in cgroups_named(side.cgroup):
        for file, weight in (("cpu.shares", 262144), ("cpu.weight", 10000)):
            if os.path.exists(f"{group}/{file}"):
                with open(f"{group}/{file}", "w") as out:
                    out.write(str(weight))


def field(side: Ours, container: str, template: str) -> str:
    """`inspect --format`."""
    return side.run("inspect", "--format", template, container).stdout.decode().strip()


def said(watcher: Prometheus, names: tuple[str, ...], at: float) -> Figures:
    """What Prometheus has of the service in the scrape of that time stamp."""
    found = {labels["__name__"]: value for labels, value in watcher.query(OF_SERVICE, at) if labels["__name__"] in names}
    assert found.keys() == set(names), f"missing: {set(names) - found.keys()}"
    return found


def around(loaded: Loaded, names: tuple[str, ...]) -> tuple[Figures, Figures, Figures]:
    """The kernel's figures before a scrape, what Prometheus has of that scrape, and the kernel's after it."""
    before = loaded.groups.figures()
    has = said(loaded.prometheus, names, loaded.prometheus.scraped_after(time.time()))
    return before, has, loaded.groups.figures()


def test_prometheus_scrapes_the_exporter_and_the_service_inside_the_container(loaded: Loaded) -> None:
    at = loaded.prometheus.scraped_after(time.time(), "example-service")
    up = {labels["job"]: value for labels, value in loaded.prometheus.query("up", at)}
    assert up == {"minicontainer": 1, "example-service": 1}


def test_cpu_use_under_load_is_half_a_cpu_and_what_the_kernel_counted(loaded: Loaded) -> None:
    rate = loaded.prometheus.value(f"rate(container_cpu_usage_seconds_total{OF_SERVICE}[{WINDOW}])", loaded.ended)
    # rate() extrapolates from the first and the last sample of the window, each up to a second inside it
    assert rate == pytest.approx(loaded.rate("container_cpu_usage_seconds_total"), rel=0.1)
    # No more than the quota, but for the slack of a period at either end. No less where the quota ran out: a machine
    # that can't give half a CPU shows that in periods that were not throttled.
    throttled = loaded.rate("container_cpu_cfs_throttled_periods_total") / loaded.rate("container_cpu_cfs_periods_total")
    assert QUOTA * throttled * 0.85 <= rate <= QUOTA * 1.1


def test_cpu_throttling_under_load_is_what_the_kernel_counted(loaded: Loaded) -> None:
    periods, throttled = "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total"
    assert loaded.rise(throttled) > 0, "clients that never wait ask for more than half a CPU"
    share = f"rate({throttled}{OF_SERVICE}[{WINDOW}]) / rate({periods}{OF_SERVICE}[{WINDOW}])"
    by_kernel = loaded.rate(throttled) / loaded.rate(periods)
    assert loaded.prometheus.value(share, loaded.ended) == pytest.approx(by_kernel, abs=0.15)
    seconds = loaded.prometheus.value(f"rate(container_cpu_cfs_throttled_seconds_total{OF_SERVICE}[{WINDOW}])", loaded.ended)
    assert seconds == pytest.approx(loaded.rate("container_cpu_cfs_throttled_seconds_total"), rel=0.2)


def test_every_counter_is_the_kernels_at_the_moment_of_the_scrape(loaded: Loaded) -> None:
    before, has, after = around(loaded, COUNTERS)
    for name in COUNTERS:
        assert before[name] <= has[name] <= after[name], name


def test_pressure_is_the_kernels_at_the_moment_of_the_scrape(loaded: Loaded) -> None:
    if not loaded.groups.has_pressure():
        pytest.skip("this kernel counts no pressure for cgroups (psi=0, or no cgroup v2 tree)")
    before, has, after = around(loaded, PRESSURE)
    for name in PRESSURE:
        assert before[name] <= has[name] <= after[name], name
    assert has["container_pressure_cpu_waiting_seconds_total"] > 1, "it waited for CPU through the load"


def test_limits_are_those_that_were_asked_for(loaded: Loaded) -> None:
    before, has, _ = around(loaded, LIMITS)
    asked = {
        "container_spec_memory_limit_bytes": MEMORY_BYTES,
        "container_spec_cpu_quota": QUOTA * 100_000,
        "container_spec_cpu_period": 100_000,
        "container_threads_max": 100,
    }
    assert has == asked == {name: before[name] for name in LIMITS}


def test_memory_and_pids_are_the_kernels(loaded: Loaded) -> None:
    # a file that is written once is inactive page cache: used, but no part of the working set
    write = f"open('/cached', 'wb').write(bytes({CACHED_BYTES}))"
    loaded.side.run("exec", "--user", "0", "service", "python3", "-c", write)
    before, has, after = around(loaded, GAUGES)
    for name in GAUGES:
        # one thread more is one of the service's connections: Prometheus scrapes it as well
        slack = 2 * BATCH_BYTES if name.startswith("container_memory") else 1
        low, high = sorted((before[name], after[name]))
        assert low - slack <= has[name] <= high + slack, name
    usage, working_set = has["container_memory_usage_bytes"], has["container_memory_working_set_bytes"]
    assert 0 < working_set < usage - CACHED_BYTES / 2 and usage <= MEMORY_BYTES


def test_network_figures_have_what_the_clients_sent_and_got(loaded: Loaded) -> None:
    _, has, _ = around(loaded, COUNTERS)
    received, sent = (has[f"container_network_{way}_bytes_total"] for way in ("receive", "transmit"))
    # An exchange takes at least 4 packets either way (of the handshake, the request or answer, and the end), each with 66
    # bytes of Ethernet, IP and TCP; requests and answers have more than 100 bytes of their own.
    assert received >= loaded.answers * (4 * 66 + 100) and sent >= loaded.answers * (4 * 66 + 100)
    assert has["container_network_receive_packets_total"] >= loaded.answers * 4
    rows = loaded.prometheus.query(f"container_network_receive_bytes_total{OF_SERVICE}")
    assert [labels["interface"] for labels, _ in rows] == ["eth0"], "loopback's traffic is nobody's bill"


def test_a_paused_container_has_exactly_the_kernels_figures(loaded: Loaded) -> None:
    names = (*COUNTERS, *GAUGES, *LIMITS)
    still = [name for name in names if not name.startswith(("container_network_receive", "container_network_transmit"))]
    loaded.side.run("pause", "service")
    try:
        stands: list[tuple[Figures, Figures]] = []

        def stands_still() -> bool:
            before, has, after = around(loaded, names)
            stands[:] = [(before, has)]
            return all(before[name] == after[name] for name in still)

        until(stands_still, "nothing moves in the paused container")
        before, has = stands[0]
        assert {name: has[name] for name in still} == {name: before[name] for name in still}
        assert loaded.prometheus.value('minicontainer_container_state{name="service",state="paused"}') == 1
    finally:
        loaded.side.run("unpause", "service")
    loaded.prometheus.scraped_after(time.time(), "example-service")


def test_the_services_own_figures_count_every_call(loaded: Loaded) -> None:
    at = loaded.prometheus.scraped_after(time.time(), "example-service")
    own = '{job="example-service"}'
    assert loaded.answers > 0
    assert loaded.prometheus.value(f"request_total{own}", at) == loaded.answers
    assert loaded.prometheus.value(f"request_latency_seconds_count{own}", at) == loaded.answers
    # A client waits for its answer before it calls again; and computing is what most CPU time goes into.
    latency = loaded.prometheus.value(f"request_latency_seconds_sum{own}", at)
    assert 0.5 * loaded.rise("container_cpu_usage_seconds_total") <= latency <= loaded.seconds * CLIENTS
    quantile = f"histogram_quantile(0.9, rate(request_latency_seconds_bucket{own}[{WINDOW}]))"
    assert 0 < loaded.prometheus.value(quantile, loaded.ended) < LOAD_SECONDS
    resident = loaded.prometheus.value(f"process_resident_memory_bytes{own}", at)
    assert 0 < resident < MEMORY_BYTES


# As the usual dashboards and rules write them; {W} is their window. Each has one sample for the container of the load.
JOINS = {
    "memory in use (awesome-prometheus-alerts)": '(sum(container_memory_working_set_bytes{name!=""}) BY (instance, name) '
    "/ sum(container_spec_memory_limit_bytes > 0) BY (instance, name) * 100) > 5",
    "CPU in use of its quota (awesome-prometheus-alerts)": 'sum(rate(container_cpu_usage_seconds_total{container!=""}[W])) by (pod, container) '
    '/ sum(container_spec_cpu_quota{container!=""} / container_spec_cpu_period{container!=""}) by (pod, container) * 100',
    "throttled (awesome-prometheus-alerts)": 'sum(rate(container_cpu_cfs_throttled_periods_total{container!=""}[W])) by (container, pod, namespace) '
    "/ sum(rate(container_cpu_cfs_periods_total[W])) by (container, pod, namespace) > (5 / 100)",
    "not killed (awesome-prometheus-alerts)": '(time() - container_last_seen{name="service"}) < 60',
    "CPU by name (dashboard 893)": 'sum(rate(container_cpu_usage_seconds_total{name=~"service"}[W])) by (name) * 100',
    "received (dashboard 893)": 'sum(rate(container_network_receive_bytes_total{name=~"service"}[W])) by (name)',
    "CPU by image (dashboard 14282)": 'sum(irate(container_cpu_usage_seconds_total{image!=""}[W])) without (cpu)',
    "CPU (kubernetes-mixin)": 'sum by (namespace, pod, container) (irate(container_cpu_usage_seconds_total{job="minicontainer", image!=""}[W])) '
    '* on (namespace, pod) group_left() max by (namespace, pod) (container_start_time_seconds{pod!=""} > bool 0)',
    "network of a pod (kubernetes-mixin)": 'sum(irate(container_network_transmit_packets_total{job="minicontainer", namespace="shop"}[W])) by (pod)',
}


@pytest.mark.parametrize("what", JOINS)
def test_expressions_of_dashboards_and_rules_find_the_container(loaded: Loaded, what: str) -> None:
    value = loaded.prometheus.value(JOINS[what].replace("[W]", f"[{WINDOW}]"), loaded.ended)
    assert math.isfinite(value) and value > 0


def test_the_host_is_a_row_of_its_own_with_no_less_than_the_container(loaded: Loaded) -> None:
    at = loaded.prometheus.scraped_after(time.time())
    host = 'container_cpu_usage_seconds_total{id="/",name="",image=""}'
    assert loaded.prometheus.value(f"{host} - on(job) container_cpu_usage_seconds_total{OF_SERVICE}", at) > 0


def test_the_phases_of_starts_are_a_histogram(loaded: Loaded) -> None:
    at = loaded.prometheus.scraped_after(time.time())
    counts = {labels["phase"]: count for labels, count in loaded.prometheus.query("minicontainer_start_phase_seconds_count", at)}
    assert set(counts) >= {"host", "clone", "container"} and set(counts.values()) == {1}
    whole = loaded.prometheus.value("sum(minicontainer_start_phase_seconds_sum)", at)
    assert 0 < whole < 60
    median = "histogram_quantile(0.5, sum by (le) (minicontainer_start_phase_seconds_bucket))"
    assert 0 < loaded.prometheus.value(median, at) < 60


def test_the_exporter_says_what_it_is_and_what_it_can_not_read(loaded: Loaded) -> None:
    at = loaded.prometheus.scraped_after(time.time())
    ((build, one),) = loaded.prometheus.query("minicontainer_build_info", at)
    assert one == 1 and build["cgroup"] in ("v1", "v2", "hybrid")
    assert loaded.prometheus.query("minicontainer_scrape_errors_total", at) == [], "nothing failed"
    reads = loaded.prometheus.query(f"container_fs_reads_total{OF_SERVICE}", at)
    left_out = loaded.prometheus.query('minicontainer_unavailable{what=~"container_fs_.*"}', at)
    assert len(reads) + len(left_out) == 1, "a figure is there, or the reason why it is not"
    assert all(labels["reason"] for labels, _ in left_out)


def test_promtool_finds_nothing_but_the_one_name_that_is_cadvisors(loaded: Loaded) -> None:
    status, page = get(loaded.side, f"http://{prometheus.EXPORTER}/metrics")
    done = prometheus.promtool_check_metrics(page)
    findings = (done.stdout + done.stderr).decode().splitlines()
    assert (status, findings) == (200, ['container_fs_inodes_total non-counter metrics should not have "_total" suffix'])


@pytest.fixture(scope="module")
def busybox(side: Ours, busybox_tarball: str) -> str:
    side.import_rootfs(busybox_tarball, "busybox")
    return "busybox"


def test_an_oom_kill_in_a_running_container_is_counted_as_by_the_kernel(side: Ours, watcher: Prometheus, busybox: str) -> None:
    # the shell outlives its child: the kernel kills the largest process of the group
    side.run("run", "-d", "--name", "survivor", "--memory", "16m", busybox, "sh", "-c", "tail /dev/zero; sleep 1000")
    groups = Groups(int(field(side, "survivor", "{{.State.Pid}}")))
    until(lambda: groups.oom_kills() > 0, "the kernel kills the shell's child")
    at = watcher.scraped_after(time.time())
    assert watcher.value('container_oom_events_total{name="survivor"}', at) == groups.oom_kills()
    assert watcher.value('minicontainer_container_state{name="survivor",state="running"}', at) == 1
    side.run("rm", "--force", "survivor")


@pytest.fixture(scope="module")
def killed(side: Ours, watcher: Prometheus, busybox: str) -> str:
    """The name of a container whose only process was killed for want of memory."""
    done = side.run("run", "--name", "hog", "--memory", "16m", busybox, "tail", "/dev/zero", check=False)
    assert done.returncode == 137
    return "hog"


def test_an_oom_kill_outlives_its_container(side: Ours, watcher: Prometheus, killed: str) -> None:
    hog = f'{{job="minicontainer",name="{killed}"}}'
    assert field(side, killed, "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"
    at = watcher.scraped_after(time.time())
    assert watcher.value(f"container_oom_events_total{hog}", at) >= 1
    assert watcher.value(f"minicontainer_container_exit_code{hog}", at) == 137
    assert watcher.query(f"container_memory_usage_bytes{hog}", at) == [], "what has no processes uses nothing"

    side.run("rm", killed)
    at = watcher.scraped_after(time.time())
    assert watcher.value(f"container_oom_events_total{hog}", at) >= 1
    assert watcher.value(f"minicontainer_container_exit_code{hog}", at) == 137
    assert watcher.value(f'minicontainer_container_state{{name="{killed}",state="removed"}}', at) == 1


def test_every_question_that_the_readme_answers_by_promql_has_an_answer(loaded: Loaded, killed: str) -> None:
    with open(f"{REPOSITORY}/README.md") as file:
        section = file.read().partition("| question | PromQL |")[2].partition("\n\n")[0]
    expressions = re.findall(r"\| `(.+)` \|$", section, re.M)
    assert len(expressions) >= 5
    at = loaded.prometheus.scraped_after(time.time())
    for promql in expressions:
        values = [value for _, value in loaded.prometheus.query(promql.replace('name="web"', 'name="service"'), at)]
        assert values and all(math.isfinite(value) for value in values), promql


def test_the_exporter_ends_with_status_0_and_has_said_only_where_it_serves(side: Ours) -> None:
    server = prometheus.Server(
        side, "second", side.command("metrics", "--listen", "127.0.0.1:9400"), "http://127.0.0.1:9400/metrics"
    )
    assert (server.stop(), server.text()) == (0, "Serving metrics on http://127.0.0.1:9400/metrics\n")
