"""linux.resources and cgroupsPath for real: what the kernel has of them, at create and after update, on v1, v2 and hybrid alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from minicontainer.errors import Conflict, LimitError, MinicontainerError
from minicontainer.runtime import state
from minicontainer.runtime.cgroups import hierarchy
from minicontainer.runtime.events import oom_events, stats
from minicontainer.runtime.execute import execute
from minicontainer.runtime.update import update
from tests.integration.engine import until
from tests.integration.oci import Oci
from tests.integration.test_oci_namespaces import entry

MIB = 1 << 20
V2 = hierarchy().mode == "v2"


def group(oci: Oci, v1: str, v2: str = "") -> Path:
    """The container's cgroup in the tree of a controller."""
    version = hierarchy().version(v1, v2 or v1)
    if not version:
        pytest.skip(f"this host has no {v1} controller")
    base = hierarchy().mounts[v1] if version == 1 else hierarchy().unified
    return Path(f"{base}{oci.config['linux']['cgroupsPath']}")


def value(oci: Oci, v1: str, v2: str) -> str:
    """A file of the container's cgroup: "memory.limit_in_bytes" or "memory.max"."""
    controller = {"memory": "memory", "cpu": "cpu", "cpuset": "cpuset", "pids": "pids"}[v1.partition(".")[0]]
    folder = group(oci, controller)
    return (folder / (v2 if V2 else v1)).read_text().strip()


def container(oci: Oci) -> state.OciContainer:
    return state.load(str(oci.root), "one")


LIMITS = {
    "memory": ({"memory": {"limit": 64 * MIB}}, "memory.limit_in_bytes", "memory.max", str(64 * MIB), str(64 * MIB)),
    "reservation": ({"memory": {"reservation": MIB}}, "memory.soft_limit_in_bytes", "memory.low", str(MIB), str(MIB)),
    "quota": ({"cpu": {"quota": 30000, "period": 50000}}, "cpu.cfs_quota_us", "cpu.max", "30000", "30000 50000"),
    "burst": ({"cpu": {"quota": 30000, "burst": 9000}}, "cpu.cfs_burst_us", "cpu.max.burst", "9000", "9000"),
    "shares": ({"cpu": {"shares": 1024}}, "cpu.shares", "cpu.weight", "1024", "100"),
    "idle": ({"cpu": {"idle": 1}}, "cpu.idle", "cpu.idle", "1", "1"),
    "cpus": ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset.cpus", "cpuset.cpus", "0", "0"),
    "pids": ({"pids": {"limit": 20}}, "pids.max", "pids.max", "20", "20"),
    "no pids limit": ({"pids": {"limit": -1}}, "pids.max", "pids.max", "max", "max"),
    "pids limit 0 of old configs": ({"pids": {"limit": 0}}, "pids.max", "pids.max", "max", "max"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_is_the_kernels(oci: Oci, what: str) -> None:
    resources, v1, v2, text1, text2 = LIMITS[what]
    oci.config["linux"]["resources"].update(resources)
    oci.running()
    assert value(oci, v1, v2) == (text2 if V2 else text1)


@pytest.mark.skipif(V2 or not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"), reason="needs CONFIG_RT_GROUP_SCHED and v1")
def test_realtime_cpu_time_is_given_to_new_parents_too(oci: Oci) -> None:
    """Else the kernel refuses it to the container (runc has no parents unless cgroupsPath names some, and fails then)."""
    oci.config["linux"]["cgroupsPath"] = f"/{oci.cgroup}/between/one"
    oci.config["linux"]["resources"]["cpu"] = {"realtimeRuntime": 500, "realtimePeriod": 100_000}
    oci.running()
    at = Path("/sys/fs/cgroup/cpu", oci.cgroup)
    runtimes = [int((at / below / "cpu.rt_runtime_us").read_text()) for below in ("between/one", "between", "")]
    assert runtimes == [500, 5000, 5000]
    oci.clear()
    for folder in Path("/sys/fs/cgroup").glob(f"*/{oci.cgroup}/between"):
        folder.rmdir()


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"blockIO": {"leafWeight": 10}}, "no kernel since 5.0 has it"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "no pages of 3MB"),
        ({"cpu": {"cpus": "900"}}, "can be used here"),
        ({"memory": {"limit": 64 * MIB, "swap": MIB}}, "less than the memory limit"),
        ({"unified": {"../x": "1"}}, "must be a file name (no slashes)"),
        ({"unified": {"cgroup.procs": "1"}}, "not a limit"),
        ({"unified": {"none.max": "1"}}, "controller `none` is not available"),
    ],
)
def test_what_can_not_be_set_is_said_and_nothing_is_left(oci: Oci, resources: dict, words: str) -> None:
    oci.config["linux"]["resources"].update(resources)
    done = oci.run("true")
    assert done.code == 1 and words in done.err
    assert not oci.left()


def test_without_device_rules_there_are_the_default_devices_only(oci: Oci) -> None:
    del oci.config["linux"]["resources"]
    out = oci.sh("echo x >/dev/null && echo fine; mknod /dev/disk b 7 0; cat /dev/disk 2>&1; true")
    assert out.startswith("fine\n") and "Operation not permitted" in out


def test_a_group_with_processes_is_refused_and_left_alone(oci: Oci) -> None:
    folder = group(oci, "memory")
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            (folder / "cgroup.procs").write_text(str(process.pid))
            done = oci.run("true")
            assert done.code == 1 and "container's cgroup is not empty: 1 process(es) found" in done.err
            assert process.poll() is None and folder.exists()
        finally:
            process.kill()
    folder.rmdir()


def test_a_frozen_group_is_refused(oci: Oci) -> None:
    folder = group(oci, "freezer") if not V2 else group(oci, "memory")
    folder.mkdir(parents=True)
    (folder / ("cgroup.freeze" if V2 else "freezer.state")).write_text("1" if V2 else "FROZEN")
    done = oci.run("true")
    assert done.code == 1 and "container's cgroup unexpectedly frozen" in done.err
    folder.rmdir()


def test_an_empty_group_is_used_as_it_is_and_what_is_in_it_goes_at_the_end(oci: Oci) -> None:
    folder = group(oci, "pids")
    (folder / "stale").mkdir(parents=True)
    if V2:
        for at in (folder.parent.parent, folder.parent):
            (at / "cgroup.subtree_control").write_text("+pids")
    (folder / "pids.max").write_text("33")
    oci.running()
    assert (folder / "pids.max").read_text() == "33\n" and not (folder / "stale").exists()
    (folder / "below/deeper").mkdir(parents=True)
    oci.ok("delete", "--force", "one")
    assert not folder.exists() and not oci.left()


@pytest.mark.parametrize("path", ["/../../x", "..", "a/../../../b", "/"])
def test_a_path_that_leads_out_is_refused(oci: Oci, path: str) -> None:
    oci.config["linux"]["cgroupsPath"] = path
    done = oci.run("true")
    assert done.code == 1 and "cgroup path" in done.err and not oci.left()


def test_without_a_path_the_group_has_the_containers_name(oci: Oci) -> None:
    del oci.config["linux"]["cgroupsPath"]
    pid = oci.running()
    paths = {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    assert paths - {"/"} == {"/minicontainer/one"}


@pytest.mark.parametrize("flag", ["true", "false", "auto", "maybe"])
def test_root_goes_without_a_group_only_when_told_to(oci: Oci, flag: str) -> None:
    """--rootless true: where no cgroup can be made, the container stays in the caller's, unless it asks for limits or a path."""
    closed = 'for m in /sys/fs/cgroup /sys/fs/cgroup/*/; do mountpoint -q $m && mount -o remount,bind,ro $m; done; exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", closed, "sh")
    path = oci.config["linux"].pop("cgroupsPath")
    entry(oci, "cgroup", None)
    oci.write("cat", "/proc/self/cgroup")
    done = oci.do("--rootless", flag, "run", "one", prefix=prefix)
    if flag != "true":
        assert done.code == 1 and ("Read-only file system" if flag != "maybe" else "invalid syntax") in done.err, done
        return
    assert done.code == 0 and done.out == Path("/proc/self/cgroup").read_text(), done
    oci.config["linux"]["resources"]["pids"] = {"limit": 9}
    oci.write()
    assert "rootless needs no limits" in oci.do("--rootless", flag, "run", "one", prefix=prefix).err
    oci.config["linux"]["cgroupsPath"] = path
    oci.write()
    assert "unable to apply cgroup configuration" in oci.do("--rootless", flag, "run", "one", prefix=prefix).err
    oci.ok("--rootless", flag, "run", "one")


def test_exec_enters_a_group_below_when_asked(oci: Oci) -> None:
    pid = oci.running()
    folder = group(oci, "pids")
    (folder / "sub").mkdir()
    process = {**oci.config["process"], "args": ["sleep", "600"]}
    launch = execute(container(oci), process, cgroup=["/sub" if V2 else "pids:/sub"], detach=True)
    try:
        assert (folder / "sub/cgroup.procs").read_text().split() == [str(launch.pid)]
        with pytest.raises(MinicontainerError, match="bad sub cgroup path"):
            execute(container(oci), process, cgroup=["/.." if V2 else "pids:/.."])
        with pytest.raises(MinicontainerError, match="no such file or directory"):
            execute(container(oci), process, cgroup=["/none" if V2 else "pids:/none"])
    finally:
        os.kill(launch.pid, signal.SIGKILL)
        os.waitpid(launch.pid, 0)
    assert pid > 0


def writable_cgroup(oci: Oci) -> None:
    oci.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]})


@pytest.mark.skipif(not V2, reason="cgroup v1 has processes in any group")
def test_exec_follows_a_first_process_that_made_room_for_controllers(oci: Oci) -> None:
    """As systemd does inside: it moves into a group below, and hands controllers down from the container's own group."""
    writable_cgroup(oci)
    moved = "cd /sys/fs/cgroup; mkdir foo; echo 1 >foo/cgroup.procs; echo +memory >cgroup.subtree_control; exec sleep 600"
    oci.running("sh", "-c", moved)
    until(lambda: "memory" in (group(oci, "memory") / "cgroup.subtree_control").read_text(), "the container has arranged itself")
    assert oci.ok("exec", "one", "cat", "/proc/self/cgroup") == "0::/foo\n"


@pytest.mark.skipif(not V2, reason="delegation is safe on cgroup v2 only (cgroups(7))")
def test_the_group_belongs_to_the_containers_user_if_it_may_write_there(oci: Oci) -> None:
    oci.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    script = "mkdir /sys/fs/cgroup/mine && echo made; echo 9 >/sys/fs/cgroup/pids.max"
    assert "made" not in oci.run("sh", "-c", script).out
    writable_cgroup(oci)
    done = oci.run("sh", "-c", script)
    assert done.out == "made\n" and "Permission denied" in done.err, "its own limits stay root's"


def test_update_changes_what_is_named_and_remembers_it(oci: Oci) -> None:
    oci.config["linux"]["resources"].update(memory={"limit": 64 * MIB}, cpu={"quota": 20000, "period": 50000}, pids={"limit": 20})
    oci.running()
    devices = Path(f"{hierarchy().mounts['devices']}/{oci.cgroup}/one/devices.list").read_text() if not V2 else ""
    told = update(container(oci), {"pids": {"limit": 30}, "cpu": {"quota": 30000}, "devices": [{"allow": True, "access": "rwm"}]})
    assert told == ["device rules are not changed by an update"]
    assert value(oci, "pids.max", "pids.max") == "30"
    assert value(oci, "cpu.cfs_quota_us", "cpu.max") == ("30000 50000" if V2 else "30000")
    assert value(oci, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert container(oci).state["resources"] == {"pids": {"limit": 30}, "cpu": {"quota": 30000, "period": 50000}}
    if not V2:
        assert Path(f"{hierarchy().mounts['devices']}/{oci.cgroup}/one/devices.list").read_text() == devices
    blocked = oci.do("exec", "one", "sh", "-c", "mknod /dev/disk b 7 0; cat /dev/disk")
    assert "Operation not permitted" in blocked.err
    update(container(oci), {"cpu": {"period": 100000}})
    assert value(oci, "cpu.cfs_quota_us", "cpu.max") == ("30000 100000" if V2 else "30000")


def test_an_update_that_fails_changes_nothing(oci: Oci) -> None:
    oci.config["linux"]["resources"].update(memory={"limit": 64 * MIB})
    oci.running()
    with pytest.raises(LimitError, match="can be used here"):
        update(container(oci), {"pids": {"limit": 30}, "cpu": {"cpus": "900"}})
    assert value(oci, "pids.max", "pids.max") == "max"
    assert "resources" not in container(oci).state


@pytest.mark.skipif(V2, reason="cgroup v2 takes any limit, and reclaims or kills")
def test_a_step_that_fails_takes_those_before_it_back(oci: Oci) -> None:
    """A quota above the parent's is refused by the kernel (sched-bwc.rst), after the memory limit has been set."""
    oci.config["linux"]["resources"].update(memory={"limit": 64 * MIB})
    oci.running()
    (group(oci, "cpu").parent / "cpu.cfs_quota_us").write_text("20000")
    with pytest.raises(MinicontainerError, match=r"cpu.cfs_quota_us.*Invalid argument"):
        update(container(oci), {"memory": {"limit": 32 * MIB}, "cpu": {"quota": 90000}})
    assert value(oci, "memory.limit_in_bytes", "") == str(64 * MIB)


@pytest.mark.skipif(V2, reason="cgroup v2 takes any limit, and reclaims or kills")
def test_a_memory_limit_below_the_usage_is_refused_in_runcs_words(oci: Oci) -> None:
    oci.running()
    with pytest.raises(LimitError, match=r"unable to set memory limit to 4096 \(current usage: \d+, peak usage: \d+\)"):
        update(container(oci), {"memory": {"limit": 4096}})


@pytest.mark.skipif(not V2, reason="cgroup v1 looks by itself")
def test_check_before_update_refuses_a_limit_below_the_usage(oci: Oci) -> None:
    oci.running()
    with pytest.raises(LimitError, match=r"rejecting memory limit 4096 <= usage \d+"):
        update(container(oci), {"memory": {"limit": 4096, "checkBeforeUpdate": True}})


def test_memory_and_swap_go_up_and_down_together(oci: Oci) -> None:
    group(oci, "memory")
    if not V2 and not os.path.exists(f"{hierarchy().mounts['memory']}/memory.memsw.limit_in_bytes"):
        pytest.skip("this kernel does not account swap")
    oci.config["linux"]["resources"].update(memory={"limit": 64 * MIB, "swap": 64 * MIB})
    oci.running()
    for limit, swap in ((128 * MIB, 256 * MIB), (32 * MIB, 40 * MIB), (-1, -1), (64 * MIB, 128 * MIB)):
        update(container(oci), {"memory": {"limit": limit, "swap": swap}})
        found = value(oci, "memory.memsw.limit_in_bytes", "memory.swap.max")
        if limit > 0:
            assert found == str(swap - limit if V2 else swap)
            assert value(oci, "memory.limit_in_bytes", "memory.max") == str(limit)
    update(container(oci), {"memory": {"limit": 96 * MIB}})
    assert value(oci, "memory.memsw.limit_in_bytes", "memory.swap.max") == str(32 * MIB if V2 else 128 * MIB), "both together stay"


def test_a_stopped_container_is_not_updated(oci: Oci) -> None:
    pid = oci.running()
    oci.ok("kill", "one", "KILL")
    until(lambda: container(oci).status() == "stopped", f"{pid} ends")
    with pytest.raises(Conflict, match="container not running"):
        update(container(oci), {"pids": {"limit": 30}})


def test_an_update_killed_half_way_leaves_a_container_that_can_be_updated(oci: Oci) -> None:
    oci.config["linux"]["resources"].update(pids={"limit": 20})
    oci.running()
    for n in range(1 if V2 else 6):
        child = os.fork()
        if not child:
            while True:  # until it is killed, at some point of some round
                update(container(oci), {"pids": {"limit": 40}, "memory": {"limit": 64 * MIB}})
        time.sleep(0.01 + 0.003 * n)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert json.loads(oci.ok("state", "one"))["status"] == "running"
    update(container(oci), {"pids": {"limit": 50}})
    assert value(oci, "pids.max", "pids.max") == "50"


def test_stats_have_the_members_of_runcs(oci: Oci) -> None:
    """The same bundle under runc and here: every member that runc tells is told, with a value of the same kind."""
    if not shutil.which("runc"):
        pytest.skip("runc is not installed")
    oci.config["linux"]["resources"].update(memory={"limit": 64 * MIB}, cpu={"quota": 50000, "period": 100000}, pids={"limit": 50})
    oci.running("sh", "-c", "while :; do :; done")
    ours = stats(container(oci))
    oci.ok("delete", "--force", "one")
    runc = ["runc", "--root", str(oci.folder / "runc")]
    with open(os.devnull, "r+b") as null:
        subprocess.run([*runc, "run", "-d", "-b", oci.bundle, "one"], stdin=null, stdout=null, stderr=null, check=True)
    try:
        theirs = json.loads(subprocess.run([*runc, "events", "--stats", "one"], check=True, capture_output=True).stdout)["data"]
    finally:
        subprocess.run([*runc, "delete", "--force", "one"], check=True)
    assert not missing(theirs, ours)
    assert ours["memory"]["usage"]["limit"] == 64 * MIB and ours["pids"]["limit"] == 50
    assert ours["cpu"]["usage"]["total"] > 0


# Left out by Go when they are zero, so that their being there is a matter of chance.
_CHANCE = {"periods", "throttledPeriods", "throttledTime", "cache", "usage", "max", "percpu_user", "percpu_kernel"}


def missing(theirs: object, ours: object, at: str = "") -> list[str]:
    """Where ours lacks a member, or has one of another type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            name
            for key, value in theirs.items()
            if key in ours or not (key in _CHANCE or at.startswith(("/blkio", "/hugetlb")))
            for name in (missing(value, ours[key], f"{at}/{key}") if key in ours else [f"{at}/{key}"])
        ]
    same = type(theirs) is type(ours) or {type(theirs), type(ours)} <= {int, float}
    return [] if same else [f"{at}: {theirs!r} {ours!r}"]


def test_oom_events_are_told_and_end_with_the_container(oci: Oci) -> None:
    group(oci, "memory")
    oci.config["linux"]["resources"].update(memory={"limit": 16 * MIB, **({} if V2 else {"swap": 16 * MIB})})
    oci.running()
    told: list[None] = []
    watcher = threading.Thread(target=lambda: told.extend(oom_events(container(oci))))
    watcher.start()
    time.sleep(0.2)
    assert not told
    assert oci.do("exec", "one", "sh", "-c", "tail /dev/zero").code == 137
    oci.ok("kill", "one", "KILL")
    watcher.join(60)
    assert not watcher.is_alive() and told
    assert list(oom_events(container(oci))) == [], "none of one that has ended"
