"""checkpoint and restore by the real criu: runc first, and then minicontainer-oci, with the same script.

Where runc can't, there is nothing to compare with: such a machine's criu does not work (Debian 12's wants a kernel before 6.13).
MINICONTAINER_CRIU names a folder with another criu.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.clients.oci_peer import Peer, oci_peer, rootfs, tarball  # noqa: F401  # fixtures
from tests.integration.engine import until
from tests.integration.oci import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

PATH = os.pathsep.join(filter(None, (os.environ.get("MINICONTAINER_CRIU"), os.environ["PATH"])))
ENVIRONMENT = {**os.environ, "PATH": PATH}
COUNT = 'trap "exit 7" TERM; n=0; while :; do n=$((n+1)); echo $n >/shared/n; sleep 0.1; done'
CRIU = shutil.which("criu", path=PATH)
needs_criu = pytest.mark.skipif(not CRIU, reason="criu is not installed")


def broken() -> str:
    """Why criu does not work here, in its own words; "" if it does."""
    if not CRIU:
        return "criu is not installed"
    done = subprocess.run([CRIU, "check"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"criu check: {(done.stderr.strip() or f'status {done.returncode}').splitlines()[0]}"


class Box:
    """A container that counts into a file of the host's, and where its checkpoints go."""

    def __init__(self, oci: Peer, folder: Path) -> None:
        self.oci = oci
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.images = folder / "images"
        self.paths = ("--image-path", str(self.images), "--work-path", str(folder / "work"))
        oci.mount("/shared", self.shared, "rw")
        oci.write("sh", "-c", COUNT)

    def ok(self, *words: str) -> str:
        return self.oci.ok(*words, env=ENVIRONMENT)

    def quiet(self, *words: str) -> None:
        """A command whose streams the container keeps. runc can save one only if they are pipes or /dev/null."""
        subprocess.run(
            self.oci.command(*words),
            check=True,
            cwd=self.oci.bundle,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self) -> None:
        self.quiet("create", "one")
        self.quiet("start", "one")
        self.counts()

    def count(self) -> int:
        """How far it has come."""
        text = (self.shared / "n").read_text() if (self.shared / "n").exists() else ""
        return int(text or 0)

    def counts(self) -> None:
        before = self.count()
        until(lambda: self.count() > before, "it to count on")

    def state(self) -> dict:
        return json.loads(self.ok("state", "one"))

    def checkpoint(self, *words: str) -> None:
        self.ok("checkpoint", *self.paths, *words, "one")

    def restore(self, *words: str) -> None:
        self.quiet("restore", "--detach", *self.paths, *words, "one")


@pytest.fixture
def box(oci_peer: Peer, tmp_path: Path) -> Box:  # noqa: F811
    if reason := broken():
        pytest.skip(reason)
    return Box(oci_peer, tmp_path)


def test_a_restored_container_goes_on_where_it_was(box: Box) -> None:
    """Gone after the checkpoint; restored with the memory that it had, its pid file, cgroup and exec; and again from the same images."""
    box.run()
    box.checkpoint()
    assert "state" not in box.oci.left()
    saved = box.count()
    assert saved > 0
    pid_file = box.oci.folder / "pid"
    for _ in range(2):
        (box.shared / "n").unlink()
        box.restore("--pid-file", str(pid_file))
        box.counts()
        assert box.count() >= saved
        state = box.state()
        assert state["status"] == "running"
        assert state["pid"] == int(pid_file.read_text())
        with open(f"/proc/{state['pid']}/cgroup") as f:
            assert box.oci.cgroup in f.read()
        assert box.ok("exec", "one", "hostname") == "oci\n"
        box.ok("kill", "one", "TERM")
        until(lambda: box.state()["status"] == "stopped", "it to end")
        box.ok("delete", "one")


def test_left_running(box: Box) -> None:
    box.run()
    box.checkpoint("--leave-running")
    assert box.state()["status"] == "running"
    box.counts()


def test_a_restore_in_the_foreground_ends_with_its_status(box: Box) -> None:
    box.run()
    box.checkpoint()
    (box.shared / "n").unlink()
    words = box.oci.command("restore", *box.paths, "one")
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    restore = subprocess.Popen(words, cwd=box.oci.bundle, env=ENVIRONMENT, **streams)
    until(lambda: restore.poll() is not None or box.count() > 0, "it to count on")
    restore.terminate()
    assert restore.wait(20) == 7
    assert not box.oci.left()


def test_what_it_writes_goes_to_who_restores_it(box: Box) -> None:
    """A pipe that it had is one to the new caller."""
    box.oci.write("sh", "-c", "while :; do echo on; echo 1 >/shared/n; sleep 0.1; done")
    first, second = os.pipe(), os.pipe()
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": box.oci.bundle, "env": ENVIRONMENT}
    try:
        subprocess.run(box.oci.command("run", "--detach", "one"), check=True, stdout=first[1], **streams)  # type: ignore[call-overload]
        assert os.read(first[0], 3) == b"on\n"
        box.checkpoint()
        words = box.oci.command("restore", "--detach", *box.paths, "one")
        subprocess.run(words, check=True, stdout=second[1], **streams)  # type: ignore[call-overload]
        assert os.read(second[0], 3) == b"on\n"
    finally:
        for fd in (*first, *second):
            os.close(fd)


def test_the_hosts_hooks_run_at_a_restore(box: Box) -> None:
    said = box.shared / "hooks"
    for name in ("prestart", "createRuntime", "poststop"):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo {name} >>{said}"]}
        box.oci.config.setdefault("hooks", {})[name] = [hook]
    box.oci.write()
    box.run()
    box.checkpoint()
    assert said.read_text().split() == ["prestart", "createRuntime", "poststop"]
    box.restore()
    assert said.read_text().split() == ["prestart", "createRuntime", "poststop", "prestart", "createRuntime"]


def test_a_hook_that_fails_ends_the_restore(box: Box) -> None:
    box.run()
    box.checkpoint()
    box.oci.config["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}
    box.oci.write()
    done = box.oci.do("restore", "--detach", *box.paths, "one", env=ENVIRONMENT)
    assert done.code == 1
    assert not box.oci.left().get("processes")


def test_a_created_or_stopped_container_can_not_be_checkpointed(box: Box) -> None:
    box.ok("create", "one")
    done = box.oci.do("checkpoint", *box.paths, "one", env=ENVIRONMENT)
    assert done.code == 1
    assert "Container cannot be checkpointed in created state" in done.err


@pytest.mark.parametrize("words", [("--manage-cgroups-mode", "x"), ("--empty-ns", "mount"), ("--page-server", "x")])
def test_values_that_are_none(box: Box, words: tuple[str, str]) -> None:
    box.run()
    done = box.oci.do("checkpoint", *box.paths, *words, "one", env=ENVIRONMENT)
    assert done.code == 1, done
    assert box.state()["status"] == "running"


@pytest.mark.parametrize("oci_peer", [PROGRAM], indirect=True)
class TestOurs:
    """What runc has no part in."""

    def test_files_of_the_hosts_are_streams_too(self, box: Box) -> None:
        """Which runc can't save: what it writes goes to the new caller's file."""
        box.oci.write("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; echo $n >/shared/n; sleep 0.1; done")
        for name, words in (("a", ("run", "--detach", "one")), ("b", ("restore", "--detach", *box.paths, "one"))):
            with open(box.oci.folder / name, "ab") as out:
                streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.DEVNULL}
                subprocess.run(box.oci.command(*words), check=True, cwd=box.oci.bundle, env=ENVIRONMENT, **streams)
            box.counts()
            if name == "a":
                box.checkpoint()
        last, first = (box.oci.folder / "a").read_text().split()[-1], (box.oci.folder / "b").read_text().split()[0]
        assert int(first.strip(chr(0))) >= int(last)

    def test_a_terminal_is_refused(self, box: Box) -> None:
        box.oci.write(terminal=True)
        done = box.oci.do("restore", "--detach", *box.paths, "one", env=ENVIRONMENT)
        assert done.code == 1
        assert "a container with a terminal can't be" in done.err
        assert not box.oci.left()


@pytest.mark.parametrize("oci_peer", [PROGRAM], indirect=True)
def test_without_criu_it_is_said_and_nothing_happens(oci_peer: Peer) -> None:  # noqa: F811
    oci_peer.running()
    done = oci_peer.do("--criu", "/nonexistent/criu", "checkpoint", "one")
    assert done.code == 1
    assert 'CRIU version check failed: exec: \\"/nonexistent/criu\\": executable file not found in $PATH' in done.err
    assert json.loads(oci_peer.ok("state", "one"))["status"] == "running"


@needs_criu
@pytest.mark.parametrize("oci_peer", [PROGRAM], indirect=True)
def test_where_criu_does_not_work_its_reason_is_told(oci_peer: Peer) -> None:  # noqa: F811
    """Here by a process that criu can't take: one that is traced already."""
    pid = oci_peer.running()
    tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", str(pid)])
    try:
        until(lambda: "TracerPid:\t0" not in open(f"/proc/{pid}/status").read(), "it to be traced")
        with tempfile.TemporaryDirectory() as images:
            done = oci_peer.do("checkpoint", "--image-path", images, "one", env=ENVIRONMENT)
            assert done.code == 1
            assert "criu failed: dump status 1: (criu/" in done.err
            assert f"log file: {images}/dump.log" in done.err
        assert json.loads(oci_peer.ok("state", "one"))["status"] == "running"
    finally:
        tracer.terminate()
        tracer.wait()
