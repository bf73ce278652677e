"""What is told of a container through its life and after it, and what is left out with a reason."""

from __future__ import annotations

import os
import shutil

import pytest

from minicontainer.metrics import network
from minicontainer.metrics.group_files import GroupFiles
from minicontainer.metrics.notes import Notes
from minicontainer.metrics.source import Record
from tests.unit.metrics.conftest import NET_DEV, exporter_of, fill_used, proc_files, running

NOW = 1800000100.0


def row(exporter, now=NOW, name="web"):
    rows = [r for r in exporter.rows(now) if f'name="{name}"' in r.prefixes[0]]
    assert len(rows) <= 1
    return rows[0] if rows else None


def test_a_running_container_is_seen_now(exporter, containers):
    containers.all = [running()]
    found = row(exporter)
    assert found.state == "running"
    assert found.numbers["last_seen"] == NOW
    assert "exit_code" not in found.numbers


def test_a_paused_container_keeps_its_figures(exporter, containers):
    containers.all = [running(state="paused")]
    assert row(exporter).state == "paused"
    assert "memory_usage_bytes" in row(exporter).numbers


def test_one_that_never_ran_has_a_state_only(exporter, containers):
    containers.all = [running(state="created", pid=0, started=0, cgroup="/minicontainer/none")]
    found = row(exporter)
    assert (found.state, found.numbers) == ("created", {"restarts": 0})


def test_a_memory_limit_that_is_not_set_is_zero_as_dashboards_expect(v2, containers):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    v2.put("minicontainer/c/memory.max", "max\n")
    containers.all = [running()]
    assert row(exporter_of(v2, containers)).numbers["spec_memory_limit_bytes"] == 0


def test_an_ended_container_tells_how_it_ended_always_and_when_it_was_seen_for_a_while(fake, containers):
    exporter = exporter_of(fake, containers, retain_seconds=60)
    containers.all = [running()]
    row(exporter, NOW)
    for tree in fake.detect().trees():
        shutil.rmtree(f"{tree}/minicontainer/c", ignore_errors=True)
    containers.all = [running(state="exited", pid=0, exit_code=137, oom_kills=3, finished=NOW + 5, restarts=2)]
    found = row(exporter, NOW + 10)
    assert found.state == "exited" and found.network == []
    assert found.numbers == {
        "exit_code": 137,
        "finished_time_seconds": NOW + 5,
        "last_seen": NOW + 5,
        "oom_kills": 3,
        "start_time_seconds": 1800000000.5,
        "restarts": 2,
    }
    later = row(exporter, NOW + 5 + 61).numbers
    assert later["exit_code"] == 137 and not {"last_seen", "oom_kills"} & later.keys()


def test_oom_kills_seen_while_it_ran_outlive_it(exporter, containers):
    containers.all = [running()]
    assert row(exporter).numbers["oom_kills"] == 2
    containers.all = [running(state="exited", pid=0, exit_code=137, finished=NOW + 1)]
    assert row(exporter, NOW + 2).numbers["oom_kills"] == 2


def test_a_removed_container_is_remembered_for_a_while(fake, containers):
    exporter = exporter_of(fake, containers, retain_seconds=60)
    containers.all = [running()]
    row(exporter, NOW)
    containers.all = []
    found = row(exporter, NOW + 15)
    assert found.state == "removed"
    assert found.numbers == {"last_seen": NOW, "oom_kills": 2, "start_time_seconds": 1800000000.5, "restarts": 0}
    assert row(exporter, NOW + 61) is None


def test_one_whose_processes_are_gone_is_not_running_whatever_its_record_says(v2, containers):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    v2.put("minicontainer/c/pids.current", "0\n")
    containers.all = [running(), running("gone", name="gone")]
    exporter = exporter_of(v2, containers)
    assert row(exporter).state == "exited"
    assert row(exporter, name="gone").state == "exited"


def test_a_restart_begins_anew(exporter, containers, fake):
    containers.all = [running()]
    assert row(exporter).numbers["oom_kills"] == 2
    containers.all = [running(pid=43, started=1800000200.0, restarts=1)]
    fake.put_file(f"{fake.proc}/43/net/dev", NET_DEV.replace("1000", "1"))
    found = row(exporter, NOW + 200)
    assert found.network[0][1][0] == 1
    assert found.numbers["restarts"] == 1


@pytest.mark.parametrize(("mode", "words"), [("host", "host's network"), ("container:abc", "of another")])
def test_traffic_that_is_not_its_own_is_left_out_and_said(exporter, containers, mode, words):
    containers.all = [running(network=mode)]
    assert row(exporter).network == []
    text = exporter.scrape().decode()
    assert 'container_network_receive_bytes_total{id="/minicontainer' not in text
    (line,) = [line for line in text.splitlines() if line.startswith('minicontainer_unavailable{reason="the container')]
    assert words in line and 'what="container_network_*"' in line and line.endswith(" 1.0")


def test_block_io_that_v1_does_not_count_is_left_out_and_said(v1, containers):
    fill_used(v1)
    proc_files(v1)
    for file in ("io_service_bytes", "io_serviced"):
        for group in ("", "minicontainer/c/"):
            v1.put(f"blkio/{group}blkio.throttle.{file}_recursive", "Total 0\n")
    containers.all = [running()]
    text = exporter_of(v1, containers).scrape().decode()
    assert 'container_fs_reads_total{id="/minicontainer' not in text
    assert 'what="container_fs_{reads,writes}*"' in text and 'what="container_pressure_*"' in text


def test_nothing_is_left_out_where_everything_is_known(v2, containers):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    containers.all = [running()]
    assert "minicontainer_unavailable{" not in exporter_of(v2, containers).scrape().decode()


def test_a_changed_limit_is_seen_at_once_if_the_engine_changed_it_and_soon_if_not(v2, containers):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    containers.all = [running()]
    exporter = exporter_of(v2, containers)
    row(exporter)
    v2.put("minicontainer/c/memory.max", "4096\n")
    containers.all = [running()]
    assert row(exporter).numbers["spec_memory_limit_bytes"] == 4096
    v2.put("minicontainer/c/memory.max", "8192\n")
    assert 8192 in [row(exporter).numbers["spec_memory_limit_bytes"] for _ in range(4)]


def test_what_only_activity_changes_is_read_when_there_was_any(v2, containers):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    containers.all = [running()]
    exporter = exporter_of(v2, containers)
    assert row(exporter).numbers["pids"] == 7
    v2.put("minicontainer/c/pids.current", "9\n")
    v2.put("minicontainer/c/cpu.stat", "usage_usec 3000001\nuser_usec 2000000\nsystem_usec 1000001\n")
    assert row(exporter).numbers["pids"] == 9


def test_the_host_row_is_the_machine(exporter):
    (host,) = exporter.rows(NOW)
    assert host.numbers["memory_working_set_bytes"] == 3000 * 1024
    assert host.numbers["memory_usage_bytes"] == 7000 * 1024
    assert host.numbers["spec_memory_limit_bytes"] == 8000 * 1024
    assert host.numbers["start_time_seconds"] == 1700000000
    assert host.state == ""


def test_virtual_interfaces_of_the_host_are_not_counted_again(tmp_path):
    os.makedirs(tmp_path / "sys/devices/virtual/net/veth7")
    os.makedirs(tmp_path / "proc/net")
    (tmp_path / "proc/net/dev").write_text(NET_DEV + NET_DEV.splitlines()[-1].replace("eth0", "veth7") + "\n")
    assert [name for name, _ in network.of_host(f"{tmp_path}/proc", f"{tmp_path}/sys")] == ["eth0"]


def test_pressure_that_the_kernel_shows_but_does_not_fill_is_left_out(v2, monkeypatch):
    fill_used(v2, v2_only=True)
    real = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("memory.pressure"):
            raise OSError(95, "Operation not supported")
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    files = GroupFiles(v2.detect(), "/minicontainer/c", Notes())
    for _ in range(2):
        numbers = files.read()
        assert "pressure_memory_waiting_seconds" not in numbers
        assert numbers["pressure_io_waiting_seconds"] == 1.5 and numbers["memory_usage_bytes"] == 9000000
    files.close()


def test_descriptors_are_kept_and_let_go(exporter, containers):
    before = len(os.listdir("/proc/self/fd"))
    containers.all = [running()]
    row(exporter)
    kept = len(os.listdir("/proc/self/fd"))
    row(exporter)
    assert len(os.listdir("/proc/self/fd")) == kept > before
    containers.all = []
    row(exporter)
    assert len(os.listdir("/proc/self/fd")) <= kept - 10


def test_without_descriptors_left_the_figures_still_come(v2, containers, monkeypatch):
    fill_used(v2, v2_only=True)
    proc_files(v2)
    containers.all = [running()]
    exporter = exporter_of(v2, containers)

    def no_more(self) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(GroupFiles, "_open", no_more)
    assert row(exporter).numbers["memory_usage_bytes"] == 9000000
    assert 'what="kept descriptors"' in exporter.scrape().decode()


def test_a_failing_read_is_counted_and_the_others_go_on(exporter, containers, monkeypatch):
    def broken(self, **_: bool) -> dict:
        raise OSError(5, "Input/output error")

    containers.all = [running(), Record("d", name="other", state="exited", exit_code=0)]
    monkeypatch.setattr(GroupFiles, "read", broken)
    monkeypatch.setattr(type(exporter._host), "read", lambda self, now: self.row)
    text = exporter.scrape().decode()
    assert 'minicontainer_scrape_errors_total{collector="cgroup",reason="EIO"} 1.0' in text
    assert 'minicontainer_container_exit_code{id="/d",name="other"' in text
