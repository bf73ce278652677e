"""linux.seccomp for real: every action, a listener that answers for a container and for exec, and the cache of programs."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.oci import Oci

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND: seccomp_unotify(2)
CALLS = ["mkdir", "mkdirat"]
SIGSYS = 128 + 31


def rule(action: str, **more: object) -> dict:
    return {"names": CALLS, "action": action, **more}


def profile(*rules: dict, **more: object) -> dict:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


# -- actions -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nnp", [False, True], ids=["early", "late"])
@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (rule("SCMP_ACT_ERRNO"), 1, os.strerror(errno.EPERM)),
        (rule("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV), 1, "Invalid cross-device link"),
        (rule("SCMP_ACT_TRACE"), 1, "Function not implemented"),
        (rule("SCMP_ACT_KILL"), SIGSYS, ""),
        (rule("SCMP_ACT_KILL_THREAD"), SIGSYS, ""),
        (rule("SCMP_ACT_KILL_PROCESS"), SIGSYS, ""),
        (rule("SCMP_ACT_TRAP"), SIGSYS, ""),
        (rule("SCMP_ACT_LOG"), 0, ""),
        (rule("SCMP_ACT_ALLOW"), 0, ""),
    ],
    ids=lambda value: value["action"].removeprefix("SCMP_ACT_") if isinstance(value, dict) else "",
)
def test_action(oci: Oci, made: dict, code: int, words: str, nnp: bool) -> None:
    oci.config["linux"]["seccomp"] = profile(made)
    out = oci.sh("busybox mkdir /new; echo $?", noNewPrivileges=nnp)
    assert out == f"{code}\n"
    if words:
        assert words in oci.run("sh", "-c", "busybox mkdir /new", noNewPrivileges=nnp).err


def test_the_default_action_with_its_errno(oci: Oci) -> None:
    """Nothing but what a shell needs is allowed; that the filter comes last lets our own steps need nothing of it."""
    names = """execve brk mmap mprotect munmap read write close rt_sigaction rt_sigprocmask rt_sigreturn exit_group arch_prctl getpid
    getppid geteuid getuid set_tid_address prlimit64 ioctl fstat newfstatat open openat fcntl dup2 uname getcwd rseq set_robust_list getrandom
    readlink readlinkat stat lseek""".split()
    oci.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOTTY,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] if os.uname().machine == "x86_64" else ["SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }
    out = oci.sh("umask 77; echo shell; kill -0 1 || echo $?", noNewPrivileges=True)
    assert out.startswith("shell\n")


@pytest.mark.parametrize(
    ("seccomp", "words"),
    [
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "SCMP_ACT_MAYBE"),
        (profile(rule("SCMP_ACT_PERHAPS")), "SCMP_ACT_PERHAPS"),
        (profile(architectures=["SCMP_ARCH_PDP11"]), "SCMP_ARCH_PDP11"),
        (profile(rule("SCMP_ACT_ERRNO", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_ABOUT"}])), "SCMP_CMP_ABOUT"),
        (profile(flags=["SECCOMP_FILTER_FLAG_NONE"]), "SECCOMP_FILTER_FLAG_NONE"),
        (profile(rule("SCMP_ACT_NOTIFY")), "listenerPath"),
        (profile(listenerMetadata="x"), "listenerPath"),
        (profile({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}, listenerPath="/x"), "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}, "SCMP_ACT_NOTIFY cannot be used as default action"),
        (profile(rule("SCMP_ACT_NOTIFY"), listenerPath="/no/such/socket"), "/no/such/socket"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(oci: Oci, seccomp: dict, words: str) -> None:
    oci.config["linux"]["seccomp"] = seccomp
    done = oci.run("true")
    assert done.code == 1 and words in done.err and "Traceback" not in done.err
    assert not oci.left()


# -- listener ------------------------------------------------------------------------------------------------------------------


class Agent:
    """Listens at a socket, and lets system calls of whoever is handed to it fail with EDOM. states: what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.states: list[dict] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                text, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
                fds = array.array("i")
                fds.frombytes(control[0][2])
                assert connection.recv(1) == b"", "one message, then the end"
            self.states.append(json.loads(text))
            threading.Thread(target=self._answer, args=(fds[0],), daemon=True).start()

    def _answer(self, fd: int) -> None:
        while True:
            request = bytearray(80)
            try:
                fcntl.ioctl(fd, RECEIVE, request)
                (ident,) = struct.unpack_from("Q", request)
                fcntl.ioctl(fd, SEND, struct.pack("QqiI", ident, 0, -errno.EDOM, 0))
            except OSError:
                os.close(fd)
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def agent(oci: Oci) -> Iterator[Agent]:
    agent = Agent(oci.folder / "agent")
    yield agent
    agent.close()


@pytest.mark.parametrize("nnp", [False, True], ids=["early", "late"])
def test_a_listener_is_handed_over_with_the_state_and_answers_for_create_and_exec(oci: Oci, agent: Agent, nnp: bool) -> None:
    oci.config["annotations"] = {"a": "b"}
    oci.config["linux"]["seccomp"] = profile(rule("SCMP_ACT_NOTIFY"), listenerPath=agent.path, listenerMetadata="meta")
    pid = oci.running("sh", "-c", "busybox mkdir /new 2>/err; sleep 600", noNewPrivileges=nnp)
    done = oci.do("exec", "one", "mkdir", "/exec")
    assert done.code == 1 and "Numerical argument out of domain" in done.err
    assert "Numerical argument out of domain" in (oci.rootfs / "err").read_text()
    created, executed = agent.states
    state = {"ociVersion": "1.2.0", "id": "one", "bundle": str(oci.bundle), "annotations": {"a": "b"}, "pid": pid}
    assert created == {
        "ociVersion": "1.2.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "meta",
        "state": {**state, "status": "creating"},
    }
    assert executed["state"] == {**state, "status": "running"} and executed["pid"] not in (0, pid)


def test_a_listener_may_answer_for_what_the_start_itself_calls(oci: Oci, agent: Agent) -> None:
    """read, which waits for `start`; it is notified, and fails as the agent says: no start waits for ever."""
    oci.config["linux"]["seccomp"] = profile({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=agent.path)
    oci.write("true")
    done = oci.do("create", "one")
    assert "Traceback" not in done.err
    oci.ok("delete", "--force", "one")


# -- cache ---------------------------------------------------------------------------------------------------------------------


def test_a_program_is_made_once(oci: Oci) -> None:
    oci.config["linux"]["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    for _ in range(2):
        assert oci.run("true").code == 0
    folder = oci.root / "@seccomp"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    (program,) = folder.iterdir()
    allow = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    program.write_bytes(allow)
    assert oci.sh("busybox mkdir /new; echo $?") == "0\n", "it is read from there"
    assert json.loads(oci.ok("list", "--format", "json") or "null") in (None, [])


def test_a_cache_that_others_can_write_is_not_read(oci: Oci) -> None:
    oci.config["linux"]["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    assert oci.run("true").code == 0
    folder = oci.root / "@seccomp"
    (program,) = folder.iterdir()
    program.write_bytes(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
    folder.chmod(0o777)
    assert oci.sh("busybox mkdir /new; echo $?") == "1\n"
