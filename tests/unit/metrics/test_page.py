"""The page is what Prometheus' own parsers and linter take, with the families and labels that dashboards ask for."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from minicontainer.metrics.page import Row, lines
from tests.unit.metrics.conftest import running

# What dashboards 893 and 14282, dockprom, kubernetes-mixin and awesome-prometheus-alerts read.
ASKED_FOR = set(
    """
container_cpu_usage_seconds_total container_cpu_user_seconds_total container_cpu_system_seconds_total
container_cpu_cfs_periods_total container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total
container_memory_usage_bytes container_memory_working_set_bytes container_memory_rss container_memory_cache container_memory_swap
container_network_receive_bytes_total container_network_receive_packets_total container_network_receive_packets_dropped_total
container_network_receive_errors_total container_network_transmit_bytes_total container_network_transmit_packets_total
container_network_transmit_packets_dropped_total container_network_transmit_errors_total
container_fs_reads_total container_fs_writes_total container_fs_reads_bytes_total container_fs_writes_bytes_total
container_fs_usage_bytes container_fs_inodes_free container_fs_inodes_total
container_spec_cpu_quota container_spec_cpu_period container_spec_memory_limit_bytes
container_last_seen container_start_time_seconds container_oom_events_total
""".split()
)
PRESSURE = {
    f"container_pressure_{what}_{kind}_seconds_total" for what in ("cpu", "memory", "io") for kind in ("waiting", "stalled")
}


@pytest.fixture
def page(containers, fake, exporter) -> str:
    """The text page of one container that has used something of everything; its layer is the test's own folder."""
    containers.all = [running(upper=fake.root)]
    for _ in range(1000):  # until the walk through the layer is done
        if 'container_fs_usage_bytes{id="/minicontainer/c"' in exporter.scrape().decode():
            break
    return exporter.scrape().decode()


def samples(text: str, parse=parse_text) -> dict[str, list]:
    out: dict[str, list] = {}
    for family in parse(text):
        for sample in family.samples:
            out.setdefault(sample.name, []).append(sample)
    return out


def of_container(found: dict[str, list]) -> set[str]:
    return {name for name, all_of_it in found.items() if any(s.labels.get("name") == "web" for s in all_of_it)}


def test_every_family_that_dashboards_ask_for_is_there(page, fake):
    assert len(ASKED_FOR) == 32
    names = of_container(samples(page))
    assert names >= ASKED_FOR
    assert names >= PRESSURE or fake.detect().mode == "v1"


def test_the_labels_are_those_named_and_the_host_has_a_row(page):
    for sample in samples(page)["container_memory_working_set_bytes"]:
        assert set(sample.labels) == {"id", "name", "image", "namespace", "pod", "container"}
    ids = {s.labels["id"]: s.labels["name"] for s in samples(page)["container_memory_working_set_bytes"]}
    assert ids == {"/": "", "/minicontainer/c": "web"}


def test_values_are_the_kernels(page):
    found = {
        name: next(s.value for s in all_of_it if s.labels.get("name") == "web")
        for name, all_of_it in samples(page).items()
        if any(s.labels.get("name") == "web" for s in all_of_it)
    }
    assert found["container_cpu_usage_seconds_total"] == 3
    assert found["container_cpu_cfs_throttled_seconds_total"] == 0.5
    assert found["container_memory_working_set_bytes"] == 8000000
    assert found["container_spec_memory_limit_bytes"] == 67108864
    assert found["container_oom_events_total"] == 2
    assert found["container_threads"] == 7
    assert found["container_fs_reads_bytes_total"] == 8192
    assert (found["container_network_receive_bytes_total"], found["container_network_transmit_bytes_total"]) == (1000, 2000)
    assert (found["container_network_receive_errors_total"], found["container_network_receive_packets_dropped_total"]) == (1, 2)
    assert (found["container_network_transmit_errors_total"], found["container_network_transmit_packets_dropped_total"]) == (3, 4)
    assert found["container_start_time_seconds"] == 1800000000.5
    assert found["minicontainer_container_state"] == 1


def test_every_family_has_its_type_and_one_help(page):
    seen = set()
    for family in parse_text(page):
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation and family.name not in seen
        seen.add(family.name)
        names = {s.name for s in family.samples}
        if family.type == "counter":
            assert names <= {f"{family.name}_total"}


def test_openmetrics_takes_it_too(exporter, containers, page):
    text = exporter.scrape(openmetrics=True).decode()
    assert text.endswith("# EOF\n")
    plain, open_ = samples(page), samples(text, parse_openmetrics)
    assert open_.keys() - {n for n in open_ if n.endswith("_created")} == plain.keys()


def test_prometheus_own_linter_has_no_complaint_but_cadvisors_name(page):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert complaints == ['container_fs_inodes_total non-counter metrics should not have "_total" suffix']


HOSTILE = ['quote"', "back\\slash", "new\nline", 'both\\"\n', "ünï", "\udce9", '{a="b"} 1', "\\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_or_label_of_a_container_breaks_out_of_its_quotes(name):
    labels = {"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": name, "io.kubernetes.container.name": name}
    row = Row.of(running(name=name, image=name, labels=labels))
    row.numbers = {"pids": 1}
    row.state = "running"
    row.network = [("eth0", [1] * 8)]
    found = samples("\n".join(lines([row], False)) + "\n")
    clean = name.encode("utf-8", "replace").decode()
    assert len(found) == 10
    for (sample,) in found.values():
        for label in ("name", "image", "namespace", "pod", "container"):
            assert sample.labels[label] == clean
