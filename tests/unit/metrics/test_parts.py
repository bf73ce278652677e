"""The smaller parts: writable layers, start phases, the engine's files, addresses and headers."""

from __future__ import annotations

import json
import os

import pytest

from minicontainer.engine.config import Config
from minicontainer.errors import UsageError
from minicontainer.metrics.disk import LayerSizes, inodes
from minicontainer.metrics.engine_source import EngineSource
from minicontainer.metrics.server import parse_listen, wants
from minicontainer.runtime import phases


def blocks(path) -> int:
    return os.lstat(path).st_blocks * 512


def test_a_layer_is_walked_in_steps_and_hard_links_count_once(tmp_path):
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/big").write_bytes(bytes(100000))
    os.link(tmp_path / "d/big", tmp_path / "d/e/same")
    (tmp_path / "link").symlink_to("/etc")
    sizes, steps = LayerSizes(), 0
    while sizes.get(str(tmp_path)) is None:
        sizes.advance([str(tmp_path)], budget_seconds=0)
        steps += 1
    assert steps == 3, "one folder for each scrape without time to spare"
    assert sizes.get(str(tmp_path)) == sum(blocks(tmp_path / p) for p in ("d", "d/e", "d/big", "link"))


def test_every_layer_gets_its_turn_and_one_that_is_gone_is_forgotten(tmp_path):
    layers = [str(tmp_path / name) for name in "abc"]
    for layer in layers:
        os.makedirs(f"{layer}/x")
    sizes = LayerSizes()
    sizes.advance(layers, budget_seconds=10)
    assert all(sizes.get(layer) is not None for layer in layers)
    sizes.advance(layers[1:], budget_seconds=10)
    assert sizes.get(layers[0]) is None
    sizes.advance([])
    assert sizes.get(layers[1]) is None


def test_a_layer_nested_deeper_than_a_path_goes_has_no_figure_and_the_others_have(tmp_path, monkeypatch):
    layers = [str(tmp_path / name) for name in "ab"]
    for layer in layers:
        os.mkdir(layer)
    monkeypatch.chdir(layers[0])
    for _ in range(30):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    sizes = LayerSizes()
    for _ in range(3):
        sizes.advance(layers, budget_seconds=10)
    assert sizes.get(layers[0]) is None and sizes.get(layers[1]) is not None


def test_inodes_are_those_of_the_file_system(tmp_path):
    found = inodes(str(tmp_path))
    assert not found or 0 < found["fs_inodes_free"] <= found["fs_inodes_total"]
    assert inodes(str(tmp_path / "missing")) == {}


def test_phases_add_up_over_processes(tmp_path):
    path = str(tmp_path / "phases")
    children = []
    for _ in range(8):
        pid = os.fork()
        if not pid:
            for _ in range(25):
                phases.record(path, {"clone": 0.0004, "container": 7.0})
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    found = phases.read(path)
    assert found["clone"][0] == [200] + [0] * 13 and found["clone"][1] == pytest.approx(0.08)
    assert found["container"][0] == [0] * 13 + [200] and found["container"][1] == pytest.approx(1400)


def test_a_broken_phases_file_is_begun_anew_and_a_missing_folder_is_no_failure(tmp_path):
    path = tmp_path / "phases"
    path.write_bytes(b"something else")
    assert phases.read(str(path)) == {}
    phases.record(str(path), {"host": 0.001})
    assert phases.read(str(path))["host"][0][1] == 1, "a value on the bound counts below it, as Prometheus has it"
    phases.record(str(tmp_path / "missing/phases"), {"host": 1.0})
    assert phases.read(str(tmp_path / "missing/phases")) == {}


def test_phases_are_a_histogram_on_the_page(tmp_path, containers, exporter):
    containers.phases = exporter._own._phases_path = str(tmp_path / "phases")
    for seconds in (0.003, 0.004, 9.0):
        phases.record(containers.phases, {"container": seconds})
    text = exporter.scrape().decode()
    assert 'minicontainer_start_phase_seconds_bucket{le="0.005",phase="container"} 2.0' in text
    assert 'minicontainer_start_phase_seconds_bucket{le="+Inf",phase="container"} 3.0' in text
    assert 'minicontainer_start_phase_seconds_count{phase="container"} 3.0' in text
    phases.record(containers.phases, {"container": 0.003})
    assert 'minicontainer_start_phase_seconds_count{phase="container"} 4.0' in exporter.scrape().decode()


class Engine:
    """The engine's folders, as engine/container.py draws them."""

    def __init__(self, tmp_path) -> None:
        self.config = Config(str(tmp_path / "root"), str(tmp_path / "state"), environ={})
        self.ident = "a" * 64

    def write(self, path: str, content: dict) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="utf-8") as f:
            json.dump(content, f)
        os.rename(f"{path}.tmp", path)

    def container(self, **options) -> None:
        self.write(
            f"{self.config.root}/containers/{self.ident}/container.json",
            {
                "name": "web",
                "image": "service",
                "created_ns": 1,
                "options": options,
                "rootfs": "",
                "image_config": {"Labels": {"a": "image", "b": "image"}},
            },
        )

    def state(self, **content) -> None:
        self.write(f"{self.config.state}/containers/{self.ident}/state.json", content)

    def exit(self, **content) -> None:
        self.write(f"{self.config.root}/containers/{self.ident}/exit.json", content)


def test_the_engines_files_become_records(tmp_path):
    engine = Engine(tmp_path)
    source = EngineSource(engine.config)
    assert source.records() == []
    engine.container(labels={"b": "mine"}, network="host")
    (record,) = source.records()
    assert (record.state, record.alive(), record.network) == ("created", False, "host")
    assert record.labels == {"a": "image", "b": "mine"}
    assert record.cgroup == f"/minicontainer/{engine.ident}"
    engine.state(status="running", pid=42, started_ns=5_500_000_000)
    (record,) = source.records()
    assert (record.state, record.pid, record.started) == ("running", 42, 5.5)
    assert source.records()[0] is record, "what has not changed is not parsed again"
    engine.state(status="running", pid=42, started_ns=5_500_000_000, paused=True)
    assert source.records()[0].state == "paused"
    os.unlink(f"{engine.config.state}/containers/{engine.ident}/state.json")
    engine.exit(exit_code=137, finished_ns=7_000_000_000, oom=1)
    (record,) = source.records()
    assert (record.state, record.exit_code, record.oom_kills, record.finished) == ("exited", 137, 1, 7)
    os.unlink(f"{engine.config.root}/containers/{engine.ident}/container.json")
    os.unlink(f"{engine.config.root}/containers/{engine.ident}/exit.json")
    os.rmdir(f"{engine.config.root}/containers/{engine.ident}")
    assert source.records() == []


def test_a_file_that_a_crash_left_broken_is_no_failure(tmp_path):
    engine = Engine(tmp_path)
    engine.container()
    with open(f"{engine.config.root}/containers/{engine.ident}/exit.json", "w", encoding="utf-8") as f:
        f.write('{"exit_co')
    assert EngineSource(engine.config).records()[0].state == "created"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9338", ("127.0.0.1", 9338)),
        (":9338", ("127.0.0.1", 9338)),
        ("[::1]:1", ("::1", 1)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_addresses_to_listen_on(text, address):
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["9338", "localhost:9338", "1.2.3.4:70000", "1.2.3.4:x", "", "::1:"])
def test_bad_addresses_name_the_flag(text):
    with pytest.raises(UsageError, match="--listen"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("header", "yes"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5", True),
        ("text/plain", False),
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text; q=0.0, */*", False),
    ],
)
def test_accept_headers(header, yes):
    assert wants(header, "application/openmetrics-text") == yes
