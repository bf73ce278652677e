"""Ops: a container start as data. One op is one system call, or one file write, with its arguments and its reason.

Constructors only; nothing happens here. program.py turns ops into bytes, describe.py into sentences.
"""

from __future__ import annotations

import os

from minicontainer.kernel.flags import AT_FDCWD

# enum op_kind of plan.h; tests/unit/stub holds the two equal.
SYSCALL, WRITE, MAKE, RTNL, WAIT, SENDFD, EXEC, STORE, RUN, FIND, CLONE, NODE, FSTYPE = range(1, 14)

# Why a RUN failed, beside errnos: + exit status, + signal.
EXITED, SIGNALLED = 1000, 1300

O_WRONLY = 1

UNKNOWN_PID = 0x77777777  # stands for a pid while there is none: more than any kernel hands out


class Slot:
    """A file descriptor that an op yields and later ops use. A forgiven failure leaves it empty, and its users skip."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Blob:
    """Bytes passed by pointer, with the text that explains them."""

    __slots__ = ("data", "text")

    def __init__(self, data: bytes, text: str = "") -> None:
        self.data = data
        self.text = text

    def __repr__(self) -> str:
        return self.text or f"{len(self.data)} bytes"


class PointerTo(Blob):
    """A struct in which the word at offset points to target (struct sock_fprog of seccomp(2)).

    more: further pairs of offset and target (union bpf_attr has several).
    """

    __slots__ = ("more", "offset", "target")

    def __init__(self, data: bytes, offset: int, target: bytes, text: str = "", more: tuple = ()) -> None:
        super().__init__(data, text)
        self.offset = offset
        self.target = target
        self.more = more


class Op:
    """One step.

    kind: SYSCALL … EXEC; call: the name people know; args: as passed; out: the Slot that takes the result;
    ok: errnos (at most two) that are no failure; why: one line.
    """

    __slots__ = ("args", "call", "kind", "ok", "out", "why")

    def __init__(self, kind: int, call: str, args: tuple, why: str, out: Slot | None = None, ok: tuple = ()) -> None:
        self.kind = kind
        self.call = call
        self.args = args
        self.why = why
        self.out = out
        self.ok = ok


def syscall(name: str, *args: object, out: Slot | None = None, ok: tuple = (), why: str = "") -> Op:
    """Any system call: int by value, str and bytes by pointer (NUL added to str), Blob by pointer, Slot as its fd."""
    return Op(SYSCALL, name, args, why, out, ok)


def write_file(
    path: str, data: bytes | str, *, why: str, ok: tuple = (), dir: Slot | None = None, flags: int = O_WRONLY, resolve: int = 0
) -> Op:
    """Opens a file that is there (flags, resolve: openat2(2)), writes data in one write, closes."""
    raw = data.encode() if isinstance(data, str) else data
    return Op(WRITE, "write_file", (AT_FDCWD if dir is None else dir, path, raw, len(raw), flags, resolve), why, None, ok)


def mkdir(path: str, mode: int = 0o755, *, why: str, ok: tuple = (), dir: Slot | None = None) -> Op:
    """mkdirat(2)."""
    return Op(SYSCALL, "mkdirat", (AT_FDCWD if dir is None else dir, path, mode), why, None, ok)


def openat2(dir: Slot | None, path: str, flags: int, *, out: Slot, why: str, resolve: int = 0, mode: int = 0, ok: tuple = ()) -> Op:
    """openat2(2); the descriptor is always close-on-exec."""
    from struct import pack

    how = Blob(pack("QQQ", flags | 0o2000000, mode, resolve))
    return Op(SYSCALL, "openat2", (AT_FDCWD if dir is None else dir, path, how, 24), why, out, ok)


def make(root: Slot, path: str, *, out: Slot, why: str, mode: int = 0o755, file: bool = False, resolve: int = 0) -> Op:
    """An O_PATH descriptor of a path below root, made where it is missing; no symlink leads out of it. resolve: more RESOLVE_*."""
    return Op(MAKE, "make", (root, path, mode, int(file), resolve), why, out)


def rtnl(sock: Slot, message: bytes, text: str, *, why: str, ok: tuple = ()) -> Op:
    """Sends one rtnetlink message (nlmsghdr included) and waits for its acknowledgement; text as ip(8) says it."""
    return Op(RTNL, "rtnetlink", (sock, Blob(message, text), len(message)), why, None, ok)


def wait(sync: Slot, *, why: str) -> Op:
    """Waits for the parent's go."""
    return Op(WAIT, "wait", (sync,), why)


def send_fd(sock: Slot, fd: Slot, text: str, *, why: str) -> Op:
    """Sends a descriptor over a unix socket (SCM_RIGHTS, unix(7)) with text as its payload."""
    raw = text.encode()
    return Op(SENDFD, "sendmsg", (sock, fd, raw, len(raw)), why)


def execute(paths: list[str], argv: list[str], env: list[str], *, why: str) -> Op:
    """execve(2) of the first path that is there; ends the plan."""
    return Op(EXEC, "execve", (paths, argv, env), why)


def run(
    path: str, argv: list[str], env: list[str], fds: tuple[Slot, Slot, Slot], *, cwd: str = "", timeout_seconds: float = 0, why: str
) -> Op:
    """A child runs a program, and fds are its standard streams (the first from its beginning); the op waits for its end.

    It fails with EXITED + status, SIGNALLED + signal, ETIMEDOUT after timeout_seconds (0: never), or the errno of execve.
    """
    from struct import pack

    words = pack("QQQ", 0, 0, int(timeout_seconds * 1000))
    more = ((8, os.fsencode(cwd) + b"\0"),) if cwd else ()
    return Op(RUN, "run", (PointerTo(words, 0, os.fsencode(path) + b"\0", path, more), argv, env, *fds), why)


def find(paths: list[str], argv: list[str], *, why: str) -> Op:
    """Fails as execute() of the same would, because none of the paths is there or may be executed."""
    return Op(FIND, "find", (paths, argv), why)


def store(fd: Slot, struct: Blob, offset: int, *, why: str) -> Op:
    """Puts a descriptor into a struct that a later op passes: the same Blob, and no PointerTo (its place is its own)."""
    return Op(STORE, "store", (fd, struct, offset), why)


def clone(sync: Slot, flags: int, text: str, *, why: str) -> Op:
    """Another process goes on with the plan, in new namespaces (CLONE_NEW*); its pidfd is sent over sync with text.

    It is a child of the parent of the process that was, which ends: pid_namespaces(7) and time_namespaces(7) take only children.
    """
    raw = text.encode()
    return Op(CLONE, "clone3", (sync, flags, raw, len(raw)), why)


def check_node(dir: Slot, name: str, kind: int, device: int, *, why: str) -> Op:
    """Fails with EEXIST unless what is there is of this kind (S_IF*) and this device (os.makedev; 0 for a FIFO)."""
    return Op(NODE, "statx", (dir, name, kind, device), why)


def check_filesystem(fd: Slot, magic: int, *, other: bool = False, why: str) -> Op:
    """Fails with EXDEV unless the descriptor is on a file system with this magic (statfs(2)); with other, if it is on one."""
    return Op(FSTYPE, "fstatfs", (fd, magic, int(other)), why)
