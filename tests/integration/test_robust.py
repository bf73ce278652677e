"""kill -9 of anything at any moment, many containers in a row and many at once: the next command finds nothing of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.clients.ours import REPOSITORY
from tests.integration.engine import IMAGE, PATIENCE, SLOW, Engine, processes_of, until
from tests.integration.leftovers import Picture, left, picture

# System calls that change something; a kill before each of them is a kill at every step.
CHANGES = (
    "mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat,rmdir,write,pwrite64,sendto,sendmsg,flock,clone,clone3,"
    "chmod,chown,fchmod,fchown,prctl,fsopen,fsconfig,fsmount,open_tree,move_mount,mount_setattr,mount,umount2,pivot_root,mknodat,keyctl,"
    "setsid,setns,unshare,sethostname,prlimit64,capset,setresuid,setgroups,seccomp,close_range,execve,execveat"
)


def killed_at(engine: Engine, process: int, n: int, words: tuple[str, ...]) -> dict:
    """A command of which one process is killed before its n-th call that changes something (killer.py)."""
    argv = [sys.executable, "-m", "tests.integration.killer", CHANGES, str(process), str(n), "--", *engine.enter(*words)]
    done = subprocess.run(
        argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert "Traceback" not in done.stderr, (process, n, done.stderr)
    return {**json.loads(done.stdout.splitlines()[-1]), "said": done.stderr}


def nothing_is_left(engine: Engine, before: Picture, when: str) -> None:
    """The next command reclaims everything. (The kernel takes its time to destroy a network namespace with its link.)"""
    until(lambda: not set(processes_of(engine)), f"{when}: its processes end")
    done = engine.do("ps", "-aq")
    assert (done.code, done.out, done.err) == (0, "", ""), (when, done)
    end = time.monotonic() + 20
    while (rest := left(before, picture(engine))) and rest.keys() == {"links"} and time.monotonic() < end:
        time.sleep(0.02)
    assert not rest, f"{when}: after `ps -a` these are left: {rest}"


FORMS = {
    "foreground": ("run", "--rm", "-p", "127.0.0.1:18080:80", "-v", "/anonymous", "--name", "stepped"),
    "detached": ("run", "-d", "--rm", "-p", "127.0.0.1:18080:80", "--name", "stepped"),
}


@pytest.mark.parametrize("form", FORMS)
def test_killed_at_every_step(other_engine: Engine, form: str) -> None:
    """kill -9 of the command, the detached fork, its monitor, the clean-up, or the container's first process, before each system
    call that changes anything: nothing stays, and the name is free again."""
    engine, words = other_engine, (*FORMS[form], IMAGE, "true")
    engine.ok("run", "--rm", "-v", "/volume", "-p", "127.0.0.1:18080:80", IMAGE, "true")
    before = picture(engine)
    whole = killed_at(engine, 0, 0, words)
    assert whole["code"] == 0, whole
    nothing_is_left(engine, before, "without a kill")
    every = [(process, n) for process, count in enumerate(whole["calls"]) for n in range(1, count + 1)]
    assert len(every) > 250
    # The container's own steps are the same in both forms; strides are odd, so that in time all are met.
    stride = {"foreground": 1, "detached": 3}[form] * (21 if SLOW else 1)
    missed = 0
    for process, n in every[::stride]:
        done = killed_at(engine, process, n, words)
        missed += not done["killed"]  # threads may make a call more or less
        nothing_is_left(engine, before, f"process {process} killed before call {n}: {done}")
    assert missed < 5
    assert engine.box("--name", "stepped", IMAGE, "true").code == 0


def test_monitor_killed(engine: Engine) -> None:
    """When the monitor of a detached container is killed, the container ends with it, and counts as killed."""
    name = engine.detached(IMAGE, "sleep", "600")
    pid = engine.pid(name)
    with open(f"/proc/{pid}/stat") as f:
        monitor = int(f.read().rpartition(")")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the container ends with its monitor")
    assert " Exited (137) " in engine.ok("ps", "-a")
    assert engine.ok("wait", name) == "137\n"
    engine.ok("start", name)
    assert engine.field(name, "{{.State.Status}}") == "running"


def test_command_killed(engine: Engine) -> None:
    """When a foreground command is killed, its container ends with it, and --rm holds."""
    with engine.spawn(
        "run", "--rm", "--name", "fg", "--network", "none", IMAGE, "sh", "-c", "echo ready; exec sleep 600", stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        pid = engine.pid("fg")
        running.kill()
        running.wait()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the container ends with its command")
    assert engine.ok("ps", "-aq") == ""


def test_container_that_forks(engine: Engine) -> None:
    """Processes that hide behind others end with their container, and its cgroups go."""
    script = "for i in 1 2 3 4 5; do (setsid sleep 600 &) ; done; echo ready; exec sleep 600"
    name = engine.detached(IMAGE, "sh", "-c", script)
    until(lambda: "ready" in engine.ok("logs", name), "it is ready")
    until(lambda: len(engine.ok("exec", name, "pidof", "sleep").split()) == 6, "all have become sleep")
    engine.ok("rm", "-f", name)


def test_many_in_a_row(other_engine: Engine) -> None:
    """Two hundred containers, one after the other, leave nothing."""
    engine = other_engine
    engine.ok("run", "--rm", "-p", "127.0.0.1:18080:80", IMAGE, "true")
    before = picture(engine)
    for i in range(10 if SLOW else 200):
        done = engine.do("run", "--rm", *(("-p", "127.0.0.1:18080:80") if i % 2 else ("--network", "none")), IMAGE, "true")
        assert done.code == 0, (i, done)
    nothing_is_left(engine, before, "after all")


def test_many_at_once(other_engine: Engine) -> None:
    """Fifty containers started at once have fifty addresses, and leave nothing."""
    engine = other_engine
    engine.ok("run", "--rm", "-p", "127.0.0.1:18080:80", IMAGE, "true")
    before = picture(engine)
    count = 6 if SLOW else 50
    running = [
        engine.spawn(
            "run",
            "-d",
            "--rm",
            "-p",
            f"127.0.0.1:{20000 + i}:80",
            IMAGE,
            "sleep",
            "600",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(count)
    ]
    results = [p.communicate(timeout=240) for p in running]
    assert [p.returncode for p in running] == [0] * count, [r for r in results if r[1]]
    names = [out.decode().strip() for out, _ in results]
    assert len(engine.ok("ps", "-q").split()) == count
    addresses = engine.ok("inspect", "--format", "{{.NetworkSettings.IPAddress}}", *names).split()
    assert len(set(addresses)) == count
    engine.ok("rm", "-f", *names)
    nothing_is_left(engine, before, "after all")


def test_same_name_at_once(engine: Engine) -> None:
    """Of many that want one name one gets it; the others are told, and leave nothing."""
    running = [
        engine.spawn("create", "--name", "wanted", IMAGE, "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)
    ]
    results = [p.communicate(timeout=120) for p in running]
    assert sorted(p.returncode for p in running) == [0] + [1] * 7
    assert all(b"is already in use" in err for out, err in results if not out)
    assert len(engine.ok("ps", "-aq").split()) == 1


def test_state_of_a_machine_that_rebooted(other_engine: Engine) -> None:
    """When the state folder is gone (a reboot empties /run), containers are `exited` or `created` and start again."""
    engine = other_engine
    name = engine.detached(IMAGE, "sh", "-c", "echo once >>/kept; exec sleep 600")
    until(lambda: engine.do("exec", name, "cat", "/kept").code == 0, "it has written")
    engine.ok("kill", name)
    assert engine.ok("wait", name) == "137\n"
    until(lambda: not os.listdir(f"{engine.directory}/state/containers"), "it is cleaned up")
    shutil.rmtree(f"{engine.directory}/state")
    engine.ok("start", name)
    until(lambda: engine.ok("exec", name, "cat", "/kept") == "once\nonce\n", "it runs again with what it wrote")


def test_broken_files_are_told(other_engine: Engine) -> None:
    """A record that a crash of the machine left broken does not stop the other containers, and its folder can be removed."""
    engine = other_engine
    good = engine.ok("create", "--name", "good", IMAGE, "true").strip()
    bad = engine.ok("create", "--name", "bad", IMAGE, "true").strip()
    with open(f"{engine.directory}/root/containers/{bad}/container.json", "w") as f:
        f.write('{"id": "')
    assert engine.ok("ps", "-aq", "--no-trunc").split() == [good]
    done = engine.do("start", "bad")
    assert done.code != 0
    assert "Traceback" not in done.err
