"""Life and death of containers of the OCI face: states, kill, delete, what a killed create leaves, shared pid namespaces, pause."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.engine import until
from tests.integration.oci import Oci


def status(oci: Oci, ident: str = "one") -> str:
    return json.loads(oci.ok("state", ident))["status"]


def share_pids(oci: Oci) -> None:
    namespaces = oci.config["linux"]["namespaces"]
    oci.config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "pid"]


def test_the_state_folder_is_roots_alone_and_names_nobody_can_list(oci: Oci) -> None:
    oci.running(env=["PATH=/bin", "SECRET=1"])
    assert oct((oci.root / "one").stat().st_mode & 0o777) == "0o700"
    assert oct(oci.root.stat().st_mode & 0o777) == "0o711"


def test_a_container_whose_user_is_not_root_waits_for_start_too(oci: Oci) -> None:
    oci.running("sleep", "600", user={"uid": 4321, "gid": 4321})
    assert status(oci) == "running"


def test_start_is_for_created_containers_alone(oci: Oci) -> None:
    oci.running()
    assert "cannot start an already running container" in oci.do("start", "one").err
    oci.ok("kill", "one", "KILL")
    until(lambda: status(oci) == "stopped", "its end")
    assert "cannot start a container that has stopped" in oci.do("start", "one").err


def test_of_two_starts_at_once_one_starts_it(oci: Oci) -> None:
    oci.write("sh", "-c", "echo once >>/count; sleep 600")
    oci.ok("create", "one")
    both = [subprocess.Popen(oci.command("start", "one"), stderr=subprocess.PIPE) for _ in range(2)]
    codes = sorted(p.wait(60) for p in both)
    for p in both:
        assert p.stderr
        p.stderr.close()
    assert codes == [0, 1]
    until((oci.rootfs / "count").exists, "its program")
    assert (oci.rootfs / "count").read_text() == "once\n"


@pytest.mark.parametrize("end", [("kill", "one", "KILL"), ("delete", "one"), ("delete", "--force", "one")], ids=" ".join)
def test_a_created_container_can_be_ended(oci: Oci, end: tuple[str, ...]) -> None:
    oci.write("sleep", "600")
    oci.ok("create", "one")
    oci.ok(*end)
    if end[0] == "kill":
        until(lambda: status(oci) == "stopped", "its end")
        oci.ok("delete", "one")
    assert not oci.left()


def test_a_running_or_paused_container_is_deleted_by_force_alone(oci: Oci) -> None:
    oci.running()
    assert "cannot delete container one that is not stopped: running" in oci.do("delete", "one").err
    oci.ok("pause", "one")
    assert "cannot delete container one that is not stopped: paused" in oci.do("delete", "one").err
    oci.ok("delete", "--force", "one")
    assert not oci.left()


def test_a_zombie_first_process_is_a_stopped_container(oci: Oci) -> None:
    """Whoever is its parent may be slow to wait for it; here it is this process, which has not done so."""
    oci.write("sleep", "600")
    with subprocess.Popen(oci.command("run", "one"), cwd=oci.bundle, stdin=subprocess.DEVNULL) as run:
        try:
            until(lambda: oci.do("state", "one").code == 0 and status(oci) == "running", "a running container")
            pid = json.loads(oci.ok("state", "one"))["pid"]
            os.kill(run.pid, signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
            until(lambda: "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "a zombie")
            assert json.loads(oci.ok("state", "one")) | {"status": "stopped", "pid": 0} == json.loads(oci.ok("state", "one"))
            assert "container not running" in oci.do("kill", "one", "TERM").err
            oci.ok("delete", "one")
        finally:
            run.kill()
    assert not oci.left()


def test_kill_all_of_a_stopped_container_is_no_error(oci: Oci) -> None:
    oci.running("true")
    until(lambda: status(oci) == "stopped", "its end")
    assert oci.do("kill", "--all", "one", "KILL").code == 0
    assert "container not running" in oci.do("kill", "one", "KILL").err


def test_in_a_shared_pid_namespace_sigkill_and_delete_reach_every_process(oci: Oci) -> None:
    share_pids(oci)
    text = "sleep 611 & sleep 611 & wait"
    for end in (("kill", "one", "KILL"), ("delete", "--force", "one")):
        oci.running("sh", "-c", text)
        until(lambda: len(oci.left().get("processes", ())) == 3, "three processes")
        oci.ok(*end)
        until(lambda: "processes" not in oci.left(), "the end of its processes")
        oci.ok("delete", "--force", "one")
        assert not oci.left()


def test_in_a_shared_pid_namespace_what_outlives_the_first_process_ends_with_delete(oci: Oci) -> None:
    share_pids(oci)
    oci.running("sh", "-c", "sleep 611 & sleep 611 & exit 0")
    until(lambda: status(oci) == "stopped", "its end")
    assert len(oci.left()["processes"]) == 2
    oci.ok("delete", "one")
    assert not oci.left()


def test_a_paused_container_can_be_killed_and_nothing_be_executed_in_it(oci: Oci) -> None:
    oci.running()
    oci.ok("pause", "one")
    assert "cannot exec in a paused container" in oci.do("exec", "one", "true").err
    oci.ok("kill", "one", "KILL")
    until(lambda: status(oci) == "stopped", "its end")
    oci.ok("delete", "one")
    assert not oci.left()


def test_exec_into_a_paused_container_with_ignore_paused_goes_on_with_it(oci: Oci) -> None:
    oci.running()
    oci.ok("pause", "one")
    with subprocess.Popen(oci.command("exec", "--ignore-paused", "one", "touch", "/done"), stdin=subprocess.DEVNULL) as late:
        time.sleep(0.5)
        assert late.poll() is None and not (oci.rootfs / "done").exists()
        oci.ok("resume", "one")
        assert late.wait(60) == 0
    assert (oci.rootfs / "done").exists()


def test_deleting_by_force_what_is_gone_is_silent(oci: Oci) -> None:
    done = oci.do("delete", "--force", "gone")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "container does not exist" in oci.do("delete", "gone").err


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.13])
def test_what_a_killed_create_leaves_is_listed_and_deleted(oci: Oci, seconds: float) -> None:
    """Whenever it is killed: every verb copes with what there is, and delete leaves nothing."""
    oci.write("sleep", "600")
    with subprocess.Popen(
        oci.command("create", "one"), cwd=oci.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as create:
        time.sleep(seconds)
        create.kill()
    oci.root.mkdir(exist_ok=True)
    assert oci.do("list").code == 0
    state = oci.do("state", "one")
    assert state.code == 0 or "container does not exist" in state.err
    assert "Traceback" not in oci.do("kill", "one", "TERM").err + oci.do("start", "one").err
    oci.ok("delete", "--force", "one")
    assert not oci.left()
    assert oci.run("true").code == 0, "the id can be used again"


@pytest.mark.parametrize("what", ["empty folder", "no process yet"])
def test_half_a_container_is_stopped_once_its_create_has_ended(oci: Oci, what: str) -> None:
    folder = oci.root / "half"
    folder.mkdir(parents=True)
    if what == "no process yet":
        oci.running()
        text = json.loads((oci.root / "one" / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**text, "pid": 0, "cgroup": text["cgroup"] + "half"}))
    assert status(oci, "half") == "stopped"
    assert "half" in oci.ok("list", "--quiet")
    oci.ok("delete", "half")
    assert not folder.exists()


def test_a_cgroup_of_another_container_is_refused_and_its_processes_live(oci: Oci) -> None:
    pid = oci.running()
    assert oci.do("create", "two").code == 1
    assert status(oci) == "running" and os.path.exists(f"/proc/{pid}")


def test_after_create_nothing_of_ours_holds_the_streams_and_init_is_the_subreapers(oci: Oci) -> None:
    """What containerd's shim and conmon wait for: the streams' end, and the exit of a child that they inherit."""
    code = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
read, write = os.pipe()
done = subprocess.run(sys.argv[1:] + ["create", "one"], stdin=subprocess.DEVNULL, stdout=write, stderr=write)
os.close(write)
subprocess.run(sys.argv[1:] + ["start", "one"], check=True)
print(done.returncode, os.read(read, 100), os.read(read, 100))
pid, status = os.waitpid(-1, 0)
print(os.waitstatus_to_exitcode(status))
"""
    oci.write("sh", "-c", "echo out; exit 5")
    out = subprocess.run(
        [sys.executable, "-c", code, *oci.command()], cwd=oci.bundle, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout
    assert out == "0 b'out\\n' b''\n5\n"


def test_a_created_container_that_is_paused_starts_when_it_is_resumed(oci: Oci) -> None:
    oci.write("sleep", "600")
    oci.ok("create", "one")
    oci.ok("pause", "one")
    assert status(oci) == "paused"
    assert "cannot start a container in the paused state" in oci.do("start", "one").err
    oci.ok("resume", "one")
    assert status(oci) == "created"
    oci.ok("start", "one")


def test_of_deletes_at_once_none_stumbles_and_the_hooks_run_once(oci: Oci) -> None:
    oci.config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo once >>{oci.folder}/hooks"]}]}
    oci.running()
    commands = [subprocess.Popen(oci.command("delete", "--force", "one"), stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [command.communicate(timeout=60)[1] for command in commands]
    assert [command.returncode for command in commands] == [0] * 4, said
    assert (oci.folder / "hooks").read_text() == "once\n"


@pytest.mark.parametrize(
    ("sig", "message"),
    [
        ("NOSUCH", r"unknown signal \"NOSUCH\""),
        ("99999999999", r"unknown signal \"99999999999\""),
        ("-99999999999", r"unknown signal \"-99999999999\""),
        ("65", "invalid argument"),
    ],
)
def test_signals_that_there_are_not(oci: Oci, sig: str, message: str) -> None:
    """Also numbers that no kernel could be given; with --all as without."""
    oci.running()
    for words in (("kill", "--", "one", sig), ("kill", "--all", "--", "one", sig)):
        done = oci.do(*words)
        assert done.code == 1 and message in done.err, done
