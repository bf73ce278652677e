"""System calls that Python's os module lacks: one call, one check, the kernel's names and argument order.

Each raises KernelError with the call, the path and the errno. See the man page of the same name in section 2.
"""

from __future__ import annotations

import os

from minicontainer.errors import KernelError
from minicontainer.kernel import syscalls
from minicontainer.kernel._kernel import ffi, lib
from minicontainer.kernel.flags import F_ADD_SEALS, F_SEALS_ALL, MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_EXEC

__all__ = [
    "bpf",
    "ffi",
    "lib",
    "memfd_create",
    "mount",
    "open_tree",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "sealed_memfd",
    "setns",
    "syncfs",
    "syscall",
    "umount2",
    "unshare",
]


def syscall(name: str, *args: int | bytes | bytearray, path: str = "", hint: str = "") -> int:
    """Any system call by name: ints as they are, bytes by pointer. The result, or KernelError."""
    keep = [ffi.from_buffer(a) if isinstance(a, (bytes, bytearray)) else None for a in args]
    words = [int(ffi.cast("long", k)) if k is not None else a for k, a in zip(keep, args)]
    words += [0] * (6 - len(words))
    result = lib.mc_syscall(syscalls.number(name), *words)
    if -4096 < result < 0:
        raise KernelError(name, path, -result, hint)
    return result


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """A descriptor (always close-on-exec) of path relative to dirfd, resolved under RESOLVE_* rules (Linux 5.6)."""
    raw = os.fsencode(path)
    result = lib.mc_openat2(dirfd, raw, flags, mode, resolve)
    if result < 0:
        raise KernelError("openat2", os.fsdecode(path), -result)
    return result


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    syscall(
        "mount",
        os.fsencode(source) + b"\0",
        os.fsencode(target) + b"\0",
        fstype.encode() + b"\0",
        flags,
        os.fsencode(data) + b"\0",
        path=target,
    )


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    syscall("umount2", os.fsencode(target) + b"\0", flags, path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    syscall("pivot_root", os.fsencode(new_root) + b"\0", os.fsencode(put_old) + b"\0", path=new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2): a descriptor of a mount, with OPEN_TREE_CLONE of a detached copy (Linux 5.2)."""
    return syscall("open_tree", dirfd, os.fsencode(path) + b"\0", flags, path=path)


def setns(fd: int, nstype: int) -> None:
    """setns(2): join the namespace(s) of fd, a /proc/PID/ns file or a pidfd (Linux 5.8)."""
    syscall("setns", fd, nstype)


def unshare(flags: int) -> None:
    """unshare(2)."""
    syscall("unshare", flags)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2): a descriptor that means this process for ever, close-on-exec (Linux 5.3)."""
    return syscall("pidfd_open", pid, 0, path=f"pid {pid}")


def pidfd_send_signal(pidfd: int, sig: int) -> None:
    """pidfd_send_signal(2) (Linux 5.1)."""
    syscall("pidfd_send_signal", pidfd, sig, 0, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a copy of another process' descriptor, close-on-exec (Linux 5.6)."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


def bpf(cmd: int, attr: bytes | bytearray) -> int:
    """bpf(2): attr is union bpf_attr as bytes."""
    return syscall("bpf", cmd, attr, len(attr))


def syncfs(fd: int) -> None:
    """syncfs(2): everything of the file system of fd is on disk."""
    syscall("syncfs", fd)


def memfd_create(name: str, flags: int) -> int:
    """memfd_create(2)."""
    return syscall("memfd_create", name.encode() + b"\0", flags, path=name)


def sealed_memfd(name: str, content: bytes) -> int:
    """An executable memfd with this content that nobody can change any more (F_SEAL_*, fcntl(2))."""
    import fcntl

    try:
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC)
    except KernelError as e:
        if e.errno != 22:  # EINVAL: MFD_EXEC came with Linux 6.3
            raise
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEALS_ALL)
    return fd
