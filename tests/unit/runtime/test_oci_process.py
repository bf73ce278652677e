"""Parts of an OCI process that need no container: environment, CPU lists, capability sets, hooks' failures, descriptors, states."""

from __future__ import annotations

import errno
import json
import os
import socket
from fcntl import LOCK_EX, flock
from pathlib import Path
from struct import unpack

import pytest

from minicontainer.errors import Conflict, MinicontainerError, NotFound, UsageError
from minicontainer.kernel.flags import CAPABILITIES
from minicontainer.runtime import capabilities, environment, hooks, listener, passing, scheduling, state
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.process import candidates, foreign_streams
from minicontainer.runtime.seccomp import check_listener
from minicontainer.stub import ops as op

STATE = {"ociVersion": "1.2.0", "bundle": "/b", "rootfs": "/b/r", "created": "", "annotations": {}, "cgroup": "/c", "freezers": [], "pid": 0,
         "own_pids": True, "hooks": False, "start_hook": 0}  # fmt: skip


# -- environment ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "uid", "expected"),
    [
        (["A=1", "B=2", "A=3", "HOME=/x"], 0, ["B=2", "A=3", "HOME=/x"]),
        (["A=1", "HOME="], 0, ["A=1", "HOME=/root"]),
        (None, 7, ["HOME=/home/seven"]),
        ([], 8, ["HOME=/"]),
        ([], 9, ["HOME=/"]),
        (["HOME=/a", "HOME="], 0, ["HOME=/root"]),
    ],
)
def test_environment(tmp_path: Path, env: list[str] | None, uid: int, expected: list[str]) -> None:
    """The last of a name in its place; HOME of the user if it is missing or empty, else /."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        "root:x:0:0::/root:\n#7:x\n\nseven:x:7:7:me:/home/seven:/bin/sh\nnine:x:9:9::\n:::::\nx:x:y:0:::\n"
    )
    process = {"user": {"uid": uid}, **({"env": env} if env is not None else {})}
    assert environment.complete(process, str(tmp_path)) == expected


def test_a_root_that_is_not_there_has_no_home(tmp_path: Path) -> None:
    """The plan tells what is wrong with it, not this."""
    assert environment.home(str(tmp_path / "none"), 0) == "/"


def test_where_a_program_is_looked_for_without_path() -> None:
    """The usual folders."""
    assert candidates("x", [])[0] == "/usr/local/sbin/x"


# -- scheduling ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", {0}), ("0-3,7", {0, 1, 2, 3, 7}), (" 1 , 3-3 ", {1, 3}), ("70", {70}), ("63-64", {63, 64})]
)
def test_bits(text: str, numbers: set[int]) -> None:
    """Whole 64-bit words, little end first."""
    mask = scheduling.bits(text, "f")
    assert len(mask) % 8 == 0
    assert {i for i in range(8 * len(mask)) if mask[i // 8] >> i % 8 & 1} == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1,,2", "99999", "123456789", "0-1-2", "٣"])
def test_what_is_no_list(text: str) -> None:
    """Refused by the field's name."""
    with pytest.raises(UsageError, match="linux.field"):
        scheduling.bits(text, "linux.field")


def test_sched_attr() -> None:
    """struct sched_attr, as sched_setattr(2) has it."""
    ops = Ops()
    scheduling.urgency(
        ops,
        {
            "scheduler": {"policy": "SCHED_DEADLINE", "nice": -5, "priority": 9, "runtime": 1, "deadline": 2, "period": 3,
                          "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_RECLAIM"]},
            "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 4},
        },
    )  # fmt: skip
    assert unpack("IIQiIQQQII", ops[0].args[1].data) == (56, 6, 3, -5, 9, 1, 2, 3, 0, 0)
    assert ops[1].args == (1, 0, 1 << 13 | 4)


def test_memory_policy_counts_its_bits() -> None:
    """maxnode is one more than there are bits; a policy without nodes has none."""
    ops = Ops()
    scheduling.memory_policy(ops, {"memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1", "flags": ["MPOL_F_RELATIVE_NODES"]}})
    scheduling.memory_policy(ops, {"memoryPolicy": {"mode": "MPOL_LOCAL"}})
    scheduling.memory_policy(ops, {})
    assert [(o.args[0], o.args[2]) for o in ops] == [(3 | 1 << 14, 65), (4, 0)]


# -- capabilities --------------------------------------------------------------------------------------------------------------


def test_sets() -> None:
    """What is not known, or not ours to give, is left out and said once."""
    warnings: list[str] = []
    given = next(c for i, c in enumerate(CAPABILITIES) if capabilities.held() >> i & 1)
    sets = capabilities.Sets({"capabilities": {"bounding": [given, "CAP_X"], "ambient": ["CAP_X", "CAP_Y"]}}, warnings)
    assert sets.masks == {**dict.fromkeys(capabilities.SETS, 0), "bounding": 1 << CAPABILITIES.index(given)}
    assert warnings == ["ignoring unknown or unavailable capabilities: [CAP_X CAP_Y]"]


# -- hooks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "fork/exec /h: no such file or directory"),
        (errno.ETIMEDOUT, "hook ran past specified timeout of 2.0s"),
        (op.EXITED + 7, "error running hook: exit status 7, stdout: o, stderr: e"),
        (op.SIGNALLED + 9, "error running hook: signal: killed, stdout: o, stderr: e"),
    ],
)
def test_how_a_hook_failed(code: int, words: str) -> None:
    """runc's words."""
    error = hooks.failure("poststop", 3, {"path": "/h", "timeout": 2}, code, ["o", "e"])
    assert error.message == f"error running poststop hook #3: {words}"


def test_hooks_run_here_up_to_the_first_that_fails(tmp_path: Path) -> None:
    """Or all of them, with go_on; each reads the state from its beginning."""

    def hook(text: str) -> dict:
        return {"path": "/bin/sh", "args": ["sh", "-c", text]}

    spec = {"hooks": {"poststop": [hook(f"cat >{tmp_path}/1; exit 4"), hook(f"cat >{tmp_path}/2")]}}
    with pytest.raises(MinicontainerError, match="error running poststop hook #0: error running hook: exit status 4"):
        hooks.run(spec, "poststop", {"bundle": str(tmp_path)})
    assert not (tmp_path / "2").exists()
    assert len(hooks.run(spec, "poststop", {"bundle": str(tmp_path)}, go_on=True)) == 1
    assert json.loads((tmp_path / "2").read_text()) == {"bundle": str(tmp_path)}
    assert hooks.run({}, "poststop", {}) == []


# -- descriptors ---------------------------------------------------------------------------------------------------------------


def test_passed_descriptors_have_to_be_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that we opened is close-on-exec, and is not passed on."""
    monkeypatch.setenv("LISTEN_FDS", "7")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert passing.passed(0) == ([], []), "LISTEN_FDS is not meant for us"
    with open("/dev/null") as null:
        high = os.dup2(null.fileno(), 45, inheritable=False)
    try:
        with pytest.raises(UsageError, match="unable to stat preserved-fd"):
            passing.passed(high - 2)
    finally:
        os.close(high)
    for number in (-1, 400):
        with pytest.raises(UsageError, match="can't be passed on"):
            passing.passed(number)


def test_whose_the_streams_are(tmp_path: Path) -> None:
    """The host's /dev/null stays whose it is, whoever that is; a terminal's streams are its own."""
    with open("/dev/null") as null, open(tmp_path / "f", "w") as file:
        fds = (null.fileno(), file.fileno(), null.fileno())
        other = {"user": {"uid": os.getuid() + 1}}
        assert foreign_streams(fds, other) == [1]
        assert foreign_streams(fds, {"user": {"uid": os.getuid()}}) == []
        assert foreign_streams(fds, {**other, "terminal": True}) == []


# -- seccomp's listener --------------------------------------------------------------------------------------------------------


def test_a_listener_is_named_if_and_only_if_something_is_for_it() -> None:
    """A path without a rule that notifies does no harm."""
    check_listener({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"})
    for profile in ({"syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]}, {"listenerMetadata": "m"}):
        with pytest.raises(UsageError, match="listenerPath"):
            check_listener(profile)


def test_what_a_listener_is_told(tmp_path: Path) -> None:
    """config-linux.md, "The Container Process State"."""
    with socket.socket(socket.AF_UNIX) as server, open("/dev/null") as null:
        server.bind(str(tmp_path / "s"))
        server.listen()
        listener.hand_over({"listenerPath": str(tmp_path / "s")}, null.fileno(), 5, {"ociVersion": "1.0.2", "id": "i"})
        client, _ = server.accept()
        with client:
            text, fds, _, _ = socket.recv_fds(client, 4096, 2)
        assert json.loads(text) == {
            "ociVersion": "1.0.2",
            "fds": ["seccompFd"],
            "pid": 5,
            "state": {"ociVersion": "1.0.2", "id": "i"},
        }
        assert os.fstat(fds[0]).st_rdev == os.fstat(null.fileno()).st_rdev
        os.close(fds[0])


# -- state ---------------------------------------------------------------------------------------------------------------------


def test_a_container_without_a_process_is_creating_while_its_create_lives(tmp_path: Path) -> None:
    """The lock tells, not the age."""
    container, lock = state.make(str(tmp_path), "one", dict(STATE))
    assert state.load(str(tmp_path), "one").status() == "creating"
    os.close(lock)
    assert container.status() == "stopped" and container.describe()["pid"] == 0


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    """Also by half a container."""
    (tmp_path / "half").mkdir()
    for make in (lambda: state.make(str(tmp_path), "half", {}), lambda: state.check_free(str(tmp_path), "half")):
        with pytest.raises(Conflict, match="container with given ID already exists"):
            make()


def test_what_is_no_container_is_not_listed(tmp_path: Path) -> None:
    """The cache of filters, a stray file; half a container is listed."""
    (tmp_path / "@seccomp").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "half").mkdir()
    assert [c.ident for c in state.every(str(tmp_path), state.silently)] == ["half"]
    assert state.every(str(tmp_path / "none"), state.silently) == []
    with pytest.raises(NotFound, match="container does not exist"):
        state.load(str(tmp_path), "file")


@pytest.mark.parametrize("ident", ["", ".", "..", "a/b", "a b", "é", "a\n", "x" * 256, "@seccomp"])
def test_what_is_no_id(ident: str) -> None:
    """It names a folder and a cgroup."""
    with pytest.raises(UsageError, match="invalid container id format"):
        state.check_id(ident)


def test_a_process_that_lives_is_created_until_its_fifo_is_gone(tmp_path: Path) -> None:
    """new.fifo, then exec.fifo, then none."""
    from minicontainer.runtime.processes import start_time

    container, lock = state.make(str(tmp_path), "one", {**STATE, "pid": os.getpid(), "pid_start": start_time(os.getpid())})
    flock(lock, LOCK_EX)
    os.mkfifo(tmp_path / "one" / "new.fifo")
    assert container.status() == "creating"
    (tmp_path / "one" / "new.fifo").rename(tmp_path / "one" / "exec.fifo")
    assert container.status() == "created"
    container.state["pid_start"] -= 1
    assert container.status() == "stopped", "the pid is another process' now"
    os.close(lock)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0\0\0"])
def test_a_damaged_state_is_told_and_hides_no_other_container(tmp_path: Path, text: str) -> None:
    """As a loss of power may leave it where the root is on a disk."""
    for ident in ("bad", "good"):
        _, lock = state.make(str(tmp_path), ident, dict(STATE))
        os.close(lock)
    (tmp_path / "bad" / "state.json").write_text(text)
    with pytest.raises(MinicontainerError, match="the state of container bad can't be read"):
        state.load(str(tmp_path), "bad")
    told: list[str] = []
    assert [c.ident for c in state.every(str(tmp_path), told.append)] == ["good"]
    assert len(told) == 1 and "bad/state.json is damaged" in told[0]
