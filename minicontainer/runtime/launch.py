"""Carries out a plan: host ops, clone3, host ops, go; and tells what became of each step.

this process                                   the stub
────────────                                   ────────
run the ops before
clone3 ──────────────────────────────────────▶ runs its ops
(two births, if the plan has meetings ◀──────▶ user and time namespaces: namespaces.py)
run the ops after (pid is known)               …
(copy for it ◀───────────────────────────────▶ tmpcopyup, by descriptors that it hands over)
write one byte ──────────── sync ────────────▶ (waits for it once)
receive the terminal's master, if any ◀─────── sends it
end of file ◀───────────────────────────────── execve closed its end, or it died
read the shared results
"""

from __future__ import annotations

import _socket
import os
from time import clock_gettime_ns

from minicontainer.errors import KernelError, StartError
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE
from minicontainer.runtime.namespaces import BORN, COPY_UP
from minicontainer.runtime.plan import Plan
from minicontainer.stub import program as prog
from minicontainer.stub.ops import EXEC, FIND, WAIT, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

_SOCK_SEQPACKET_CLOEXEC = 5 | 0o2000000
_SCM_RIGHTS = (1, 1)
_MSG_CMSG_CLOEXEC = 0x40000000
_SYNC_FD, _CONSOLE_FD = 4, 5
STUB = os.path.join(os.path.dirname(prog.__file__), "stub")


class Launch:
    """A plan being carried out, step by step, so that whoever explains it sees each result.

    After start(): pid, pidfd, console (the pty master's descriptor, or -1). `steps` pairs every op with its result as far as
    it got; the clone itself is `clone_begin_ns` and `clone_ns`.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pid = 0
        self.created = False  # it waits for OCI's start
        self.pidfd = self.console = -1
        self.clone_begin_ns = self.clone_ns = 0
        self._ran: list[tuple[str, prog.Program, mmap | None]] = []
        self._program: prog.Program | None = None
        self._shared: spawn.SharedMemory | None = None

    @property
    def steps(self) -> list[tuple[str, Op, prog.Result]]:
        """What ran, where, and its result; made when somebody asks: for 240 ops it takes 0.12 ms, a hundredth of a `create`."""
        return [
            (where, op, result)
            for where, program, shared in self._ran
            for op, result in zip(program.ops, program.results(shared))
            if result.state != prog.PENDING
        ]

    def start(
        self,
        stdio: tuple[int, int, int] = (0, 1, 2),
        *,
        console_socket: int = -1,
        plan_file: str = "",
        born: Callable[[int], None] | None = None,
        ready: Callable[[], None] | None = None,
        mounted: Callable[[], None] | None = None,
        listening: Callable[[int], None] | None = None,
    ) -> None:
        """The whole start. stdio: descriptors for 0, 1, 2; born(pid) is called as soon as there is a process to remember,
        ready() before the container is let go; mounted() then, if the plan tells; listening(fd) with a seccomp listener;
        plan_file: a path for the shared plan, for who wants to read it later (OCI's start).

        StartError names the step that failed; the process is gone then, the cgroup is the caller's to remove.
        """
        self._host("host", self.plan.before)
        ours, theirs = _socket.socketpair(1, _SOCK_SEQPACKET_CLOEXEC)
        try:
            self._clone(stdio, theirs, console_socket, plan_file)
            theirs.close()
            if self.plan.meetings is not None:
                self._born_again(ours, self.plan.meetings)
            if born:
                born(self.pid)
            self._host("host", self.plan.after(self.pid))
            if ready:
                ready()
            for _ in range(self.plan.copy_ups):
                self._copy_up(ours)
            if mounted and self.plan.tells:
                if not _receive(ours)[0]:
                    self._collect()  # it failed: this raises
                mounted()
            self._go(ours, listening)
        except BaseException:
            self.kill()
            raise
        finally:
            ours.close()
            theirs.close()

    def _host(self, where: str, ops: list[Op]) -> None:
        if not ops:
            return
        program = prog.Program(ops, {})
        failed = spawn.run_here(program.code)
        self._ran.append((where, program, None))
        if failed >= 0:
            raise start_error(ops[failed], program.result(failed).errno)

    def _clone(self, stdio: tuple[int, int, int], sync: _socket.socket, console_socket: int, plan_file: str) -> None:
        plan = self.plan
        fds = [*stdio, -1, sync.fileno(), console_socket if console_socket >= 0 else sync.fileno()]
        slots = {plan.sync: _SYNC_FD}
        if plan.console:
            slots[plan.console] = _CONSOLE_FD
        given = dict(plan.inherit)
        if plan.idmaps:
            from minicontainer.runtime import userns

            given.update((slot, userns.made(*maps)) for slot, maps in plan.idmaps.items())
        for slot, fd in given.items():
            slots[slot] = len(fds)
            fds.append(fd)
        self._program = prog.Program(list(plan.container), slots)
        self._shared = spawn.SharedMemory(self._program.code, plan_file)
        fds[3] = self._shared.fd
        with open(STUB, "rb") as f:
            stub = calls.sealed_memfd("minicontainer", f.read())
        cgroup_fd = os.open(plan.unified_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if plan.unified_dir else -1
        back = self._join_pid_namespace()
        self.clone_begin_ns = clock_gettime_ns(1)
        try:
            self.pid, self.pidfd = spawn.spawn(stub, fds, plan.flags, cgroup_fd=cgroup_fd)
        except KernelError as e:
            few = e.call == "execveat" and e.errno in (22, 24)  # fcntl(2), F_DUPFD: above RLIMIT_NOFILE
            raise StartError(
                e.call, "", e.errno, "raise the limit of open files: ulimit -n 1024" if few else clone_hint(e.errno)
            ) from None
        finally:
            self.clone_ns = clock_gettime_ns(1) - self.clone_begin_ns
            for fd in (stub, cgroup_fd, *(given[slot] for slot in plan.idmaps)):
                if fd >= 0:
                    os.close(fd)
            self._shared.close()
            if back >= 0:
                calls.setns(back, CLONE["CLONE_NEWPID"])
                os.close(back)

    def _born_again(self, sync: _socket.socket, meetings: dict[bytes, Callable[[int], list[Op]]]) -> None:
        """What the stub asks for between its two births; then the second is the process, and the first one ends (namespaces.py)."""
        while True:
            said, fds = _receive(sync)
            if said == BORN:
                break
            if said not in meetings:
                self._collect()  # it failed: this raises
            self._host("host", meetings[said](self.pid))
            sync.send(b"g")
        first, self.pidfd = self.pidfd, fds[0]
        os.waitid(os.P_PIDFD, first, os.WEXITED)
        os.close(first)
        with open(f"/proc/self/fdinfo/{self.pidfd}", "rb") as f:
            self.pid = next(int(line[4:]) for line in f if line.startswith(b"Pid:"))

    def _copy_up(self, sync: _socket.socket) -> None:
        """tmpcopyup: the stub hands us two directories, and waits until the second has what the first has."""
        fds: list[int] = []
        said = b""
        while said != COPY_UP:
            said, more = _receive(sync)
            if not said:
                self._collect()  # it failed: this raises
            fds += more
        from minicontainer.runtime.copyup import copy

        copy(*fds)
        for fd in fds:
            os.close(fd)
        sync.send(b"g")

    def _join_pid_namespace(self) -> int:
        """setns(CLONE_NEWPID) moves only the children of who calls it, so the parent does it; a descriptor to go back."""
        path = self.plan.pid_namespace
        if not path:
            return -1
        back = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        calls.setns(fd, CLONE["CLONE_NEWPID"])
        os.close(fd)
        return back

    def _hand_over(self, listening: Callable[[int], None]) -> None:
        """The seccomp listener's descriptor is taken out of the stub: to send it would be a call that may be listened for."""
        assert self._program and self._shared and self.plan.listener
        fd = calls.pidfd_getfd(self.pidfd, self._program.descriptor(self.plan.listener, self._shared.view))
        try:
            listening(fd)
        finally:
            os.close(fd)

    def _go(self, sync: _socket.socket, listening: Callable[[int], None] | None) -> None:
        try:
            sync.send(b"g")
        except BrokenPipeError:
            pass  # it failed before it came to wait: the results below say where
        while True:
            said, fds = _receive(sync)
            if not said or said == b"c":
                self.created = said == b"c"
                break
            if said == b"n" and listening:
                self._hand_over(listening)
                sync.send(b"g")
            if fds:
                self.console = fds[0]
        self._collect()

    def _collect(self) -> None:
        """Reads what the stub left in the shared memory."""
        if self._program is None or self._shared is None:
            return
        view = self._shared.view
        self._ran.append(("container", self._program, view))
        failed = self._program.failed(view)
        if failed >= 0:
            op = self._program.ops[failed]
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
            raise start_error(op, self._program.result(failed, view).errno)
        if self.created or self._program.result(len(self._program.ops) - 1, view).state == prog.ENTERED:
            return
        results = self._program.results(view)
        at = next((i for i, r in enumerate(results) if r.state in (prog.PENDING, prog.ENTERED)), 0)
        died = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        status = died.si_status if died else 0
        op = self._program.ops[at]
        raise StartError(
            op.call,
            "",
            0,
            "a memory limit too small to start in does this; see dmesg" if status == 9 else "",
            message=f"the container's first process ended (status {status}) before its program ran, at: {op.call}, {op.why}",
        )

    def phases(self) -> dict[str, float]:
        """Seconds by phase of a start, from the ops' own times."""
        spent = {"host": 0, "container": 0}
        steps = self.steps
        for where, _, result in steps:
            spent[where] += result.duration_ns
        waited = sum(r.duration_ns for _, op, r in steps if op.kind == WAIT)
        return {
            "host": spent["host"] / 1e9,
            "clone": self.clone_ns / 1e9,
            "container": (spent["container"] - waited) / 1e9,
            "wait": waited / 1e9,
        }

    def kill(self) -> None:
        """Nothing half-made stays: the child dies, and with it its namespaces and mounts."""
        if self.pidfd < 0:
            return
        try:
            calls.pidfd_send_signal(self.pidfd, 9)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except (KernelError, ChildProcessError):
            pass  # it is gone already
        os.close(self.pidfd)
        self.pidfd = -1


def _receive(sync: _socket.socket) -> tuple[bytes, list[int]]:
    """What the stub says, with descriptors; b"" when it has ended."""
    try:
        said, control, _, _ = sync.recvmsg(64, 64, _MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    return said, [int.from_bytes(data[:4], "little") for level, kind, data in control if (level, kind) == _SCM_RIGHTS]


def start_error(op: Op, errno: int) -> StartError:
    """The error for a failed op: the call with its arguments decoded, why it is done, errno, and what to try."""
    from minicontainer.stub import describe

    if op.kind == FIND:
        return find_error(op.args[1][0], errno)
    if op.kind == EXEC:
        return exec_error(op.args[1][0], errno)
    call = describe.call(op)
    message = f"{call}: {describe.outcome(errno)}, at the step: {op.why}"
    return StartError(op.call, "", errno, describe.hint(op, errno), message=message)


def exec_error(program: str, errno: int) -> StartError:
    """The error for a program that was found, in runc's words: its interpreter is missing, or it is no program."""
    message = f"exec {program}: {os.strerror(errno).lower()}"
    return StartError("execve", program, errno, "", message=message, exit_code=127 if errno == 2 else 126)


def find_error(program: str, errno: int) -> StartError:
    """docker's words and exit codes: 127 not found, 126 found but not to be executed."""
    if errno in (2, 20) or not program:
        what = "executable file not found in $PATH" if "/" not in program else f"stat {program}: {os.strerror(errno).lower()}"
        return StartError("execve", program, errno, "", message=f'exec: "{program}": {what}', exit_code=127)
    return StartError("execve", program, errno, "", message=f'exec: "{program}": {os.strerror(errno).lower()}', exit_code=126)


def clone_hint(errno: int) -> str:
    """What clone3's errnos mean (clone(2)); some mislead."""
    return {
        1: "run it as root (sudo minicontainer …)",
        28: "a limit on namespaces is reached: see /proc/sys/user/max_*_namespaces",
        11: "too many processes: see ulimit -u and the pids limit of the cgroup",
        12: "no memory, or the pid namespace's first process is gone",
        22: "this kernel lacks one of the namespaces",
        38: "this kernel has no clone3 (Linux 5.3)",
    }.get(errno, "")
