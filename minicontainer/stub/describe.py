"""Ops in words: the real call with decoded flags, for --explain, --dry-run and errors. Imported only by those."""

from __future__ import annotations

import os
from errno import errorcode as ERRNO
from struct import unpack

from minicontainer.kernel import flags as f
from minicontainer.stub.ops import (
    CLONE,
    EXEC,
    EXITED,
    FIND,
    FSTYPE,
    MAKE,
    NODE,
    RTNL,
    RUN,
    SENDFD,
    SIGNALLED,
    STORE,
    UNKNOWN_PID,
    WAIT,
    WRITE,
    Blob,
    Op,
    PointerTo,
    Slot,
)

_AT = {"AT_SYMLINK_NOFOLLOW": 0x100, "AT_EMPTY_PATH": 0x1000, "AT_RECURSIVE": 0x8000}
_SECCOMP = {"SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}
# call: what each argument is; None prints it as it is.
_DECODE: dict[str, tuple] = {
    "mount": (None, None, None, f.MS, None),
    "umount2": (None, f.MNT),
    "fsopen": (None, f.FSOPEN),
    "fsconfig": (None, "fsconfig", None, None, None),
    "fsmount": (None, f.FSMOUNT, f.MOUNT_ATTR),
    "open_tree": ("dir", None, f.OPEN_TREE),
    "move_mount": (None, None, None, None, f.MOVE_MOUNT),
    "mount_setattr": (None, None, _AT, "mount_attr", None),
    "unshare": (f.CLONE,),
    "setns": (None, f.CLONE),
    "mkdirat": ("dir", None, "octal"),
    "mknodat": ("dir", None, "mode", "device"),
    "umask": ("octal",),
    "openat2": ("dir", None, "how", None),
    "prctl": ("prctl", "prctl1", "prctl2"),
    "seccomp": ("seccomp", _SECCOMP, None),
    "keyctl": ("keyctl", None),
    "prlimit64": (None, "rlimit", None, None),
    "close_range": (None, "max", {"CLOSE_RANGE_CLOEXEC": 4}),
    "fcntl": (None, {"F_DUPFD_CLOEXEC": 1030}, None),
    "dup3": (None, None, f.O),
    "rt_sigprocmask": ("sigmask", None, None, None),
    "ioctl": (None, "ioctl", None),
    "socket": ("socket", "socktype", "netlink"),
    "bpf": ("bpf", None, None),
    "setgroups": (None, None),
    "symlinkat": (None, "dir", None),
    "fchown": (None, "id", "id"),
    "fchownat": ("dir", None, "id", "id", _AT),
    "write_file": ("dir", None, None, f.O, f.RESOLVE),
}
# What a refused write to a cgroup file means. Sources: cgroup-v1/{memory,cpusets}.rst, cgroup-v2.rst, sched-bwc.rst.
_CGROUP_HINTS = {
    "EINVAL": "the kernel refuses this value; a limit of the cgroup above may be lower",
    "EBUSY": "it uses more than that now, or processes are where the kernel wants none",
    "EACCES": "the cgroup above does not have this (cpusets lie within their parent's)",
    "ENOENT": "this kernel has no such limit, or its controller is not enabled",
    "ENODEV": "no such device (block limits name whole disks as MAJ:MIN)",
    "EOPNOTSUPP": "this kernel no longer does this",
    "ENOSPC": "a cpuset needs CPUs and memory nodes before a process can enter",
}
_IOCTL = {0x40045431: "TIOCSPTLCK", 0x5441: "TIOCGPTPEER", 0x540E: "TIOCSCTTY", 0x5414: "TIOCSWINSZ"}


def call(op: Op, pid_text: str = "PID") -> str:
    """One line: the call as strace(1) would print it."""
    if op.kind == WRITE:
        where, path, data = op.args[:3]
        prefix = "" if type(where) is int else f"{where!r}/"
        return f'write({prefix}{path}, "{_text(data)}")'.replace(str(UNKNOWN_PID), pid_text)
    if op.kind == MAKE:
        root, path, _, is_file, resolve = op.args
        made = "a file" if is_file else "mkdirat"
        more = f"|{f.names(resolve, f.RESOLVE)}" if resolve else ""
        return f'openat2({root!r}, "{path}", O_PATH, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS{more}), {made} where missing'
    if op.kind == RTNL:
        return f"sendto(rtnetlink, {op.args[1].text})".replace(str(UNKNOWN_PID), pid_text)
    if op.kind == WAIT:
        return f"read({op.args[0]!r}, 1 byte)"
    if op.kind == SENDFD:
        return f"sendmsg({op.args[0]!r}, SCM_RIGHTS {op.args[1]!r})"
    if op.kind == STORE:
        fd, struct, offset = op.args
        return f"{{{struct!r}}}: the word at {offset} = {fd!r}"
    if op.kind == CLONE:
        return f"clone3({{flags={f.names(op.args[1] | f.CLONE['CLONE_PARENT'] | f.CLONE['CLONE_PIDFD'], f.CLONE)}}})"
    if op.kind == NODE:
        where, name, kind, device = op.args
        return f"statx({where!r}, {_quote(name)}): {_argument(op, kind, 'type')}, {_argument(op, device, 'device')}"
    if op.kind == FSTYPE:
        return f"fstatfs({op.args[0]!r}): {'not ' if op.args[2] else ''}{f.MAGIC.get(op.args[1], hex(op.args[1]))}"
    if op.kind == RUN:
        return f'run "{op.args[0]!r}" [{", ".join(map(_quote, op.args[1]))}]'
    if op.kind == FIND:
        return f'faccessat2("{op.args[0][0]}", X_OK)'
    if op.kind == EXEC:
        paths, argv, env = op.args
        more = f" (or {len(paths) - 1} more folders of PATH)" if len(paths) > 1 else ""
        return f'execve("{paths[0]}"{more}, [{", ".join(map(_quote, argv))}], {len(env)} variables)'
    kinds = (*_DECODE.get(op.call, ()), *(None,) * 6)
    return f"{op.call}({', '.join(_argument(op, a, k) for a, k in zip(op.args, kinds))})".replace(str(UNKNOWN_PID), pid_text)


def arguments(op: Op, pid_text: str = "PID") -> list[object]:
    """The arguments as JSON values, whole: decoded text for flags and structs, numbers and strings as they are."""
    if op.kind == EXEC:
        return [list(a) for a in op.args]
    args = op.args
    if op.kind == WRITE:
        where, path, data, _, flags, resolve = args  # the length is data's own
        args = (where, path, data, flags, resolve)
    kinds = (*_DECODE.get(op.call, ()), *(None,) * 6)
    return [_value(op, a, k, pid_text) for a, k in zip(args, kinds)]


def _value(op: Op, value: object, kind: object, pid_text: str) -> object:
    if type(value) is str:
        return value
    if type(value) is list:
        return list(value)
    if type(value) is bytes:
        return value.decode(errors="replace").replace(str(UNKNOWN_PID), pid_text)
    if type(value) is int and kind is None:
        return pid_text if value == UNKNOWN_PID else value
    return _argument(op, value, kind).replace(str(UNKNOWN_PID), pid_text)


def _argument(op: Op, value: object, kind: object) -> str:
    if type(value) is str:
        return _quote(value)
    if type(value) is Slot:
        return repr(value)
    if kind == "how":
        flags, mode, resolve = unpack("QQQ", value.data)  # type: ignore[attr-defined]
        return (
            f"{{{f.names(flags, f.O)}{f', mode={mode:#o}' if mode else ''}{', ' + f.names(resolve, f.RESOLVE) if resolve else ''}}}"
        )
    if kind == "mount_attr":
        on, off, propagation, _ = unpack("QQQQ", value.data)  # type: ignore[attr-defined]
        parts = [
            f"set {f.names(on, f.MOUNT_ATTR)}" if on else "",
            f"clear {f.names(off, f.MOUNT_ATTR)}" if off else "",
            f.names(propagation, f.MS) if propagation else "",
        ]
        return f"{{{', '.join(p for p in parts if p)}}}"
    if isinstance(value, (Blob, PointerTo)):
        return f"{{{value!r}}}"
    if type(value) is bytes:
        return f'"{_text(value)}"'
    assert isinstance(value, int)
    if isinstance(kind, dict):
        return f.names(value, kind)
    if kind == "dir":
        return "AT_FDCWD" if value == f.AT_FDCWD else str(value)
    if kind == "id":
        return "-1" if value == 0xFFFFFFFF else str(value)
    if kind == "octal":
        return f"{value:#o}"
    if kind == "mode":
        name = next((n for n, v in f.S_IF.items() if value & 0o170000 == v), "0")
        return f"{name}|{value & 0o7777:#o}"
    if kind == "type":
        return next(n for n, v in f.S_IF.items() if value == v)
    if kind == "device":
        return f"makedev({value >> 8 & 0xFFF}, {value & 0xFF | value >> 12 & 0xFFF00})"
    if kind == "max":
        return "~0"
    if kind == "prctl":
        return next(n for n, v in f.PR.items() if v == value)
    if kind == "prctl1" and op.args[0] == f.PR["PR_CAPBSET_DROP"]:
        return f.CAPABILITIES[value]
    if kind == "prctl1" and op.args[0] == f.PR["PR_CAP_AMBIENT"]:
        return next(n for n, v in f.PR_CAP_AMBIENT.items() if v == value)
    if kind == "prctl2" and op.args[:2] == (f.PR["PR_CAP_AMBIENT"], f.PR_CAP_AMBIENT["PR_CAP_AMBIENT_RAISE"]):
        return f.CAPABILITIES[value]
    if kind == "prctl1" and op.args[0] == f.PR["PR_SET_PDEATHSIG"]:
        return "SIGKILL" if value == 9 else str(value)
    single = {
        "fsconfig": {v: k for k, v in f.FSCONFIG.items()},
        "rlimit": dict(enumerate(f.RLIMIT)),
        "ioctl": _IOCTL,
        "seccomp": {1: "SECCOMP_SET_MODE_FILTER"},
        "keyctl": {1: "KEYCTL_JOIN_SESSION_KEYRING"},
        "bpf": {5: "BPF_PROG_LOAD", 8: "BPF_PROG_ATTACH", 9: "BPF_PROG_DETACH"},
        "sigmask": {2: "SIG_SETMASK"},
        "socket": {16: "AF_NETLINK"},
        "netlink": {0: "NETLINK_ROUTE", 12: "NETLINK_NETFILTER"},
        "socktype": {3 | 0o2000000: "SOCK_RAW|SOCK_CLOEXEC"},
    }
    if isinstance(kind, str) and kind in single:
        return single[kind].get(value, str(value))
    return "NULL" if value == 0 and op.call in ("mount", "fsconfig") else str(value)


def outcome(code: int) -> str:
    """Why an op failed: an errno, or what became of the program that it ran (plan.h)."""
    if code >= SIGNALLED:
        return f"killed by signal {code - SIGNALLED}"
    if code >= EXITED:
        return f"exit status {code - EXITED}"
    return f"{os.strerror(code)} ({ERRNO.get(code, code)})"


def hint(op: Op, errno: int) -> str:
    """What a failure of this call with this errno means for a person, where that is known."""
    name = ERRNO.get(errno, "")
    table = {
        ("mount_setattr", "ENOSYS"): "this kernel is older than Linux 5.12",
        ("openat2", "ENOSYS"): "this kernel is older than Linux 5.6",
        ("fsopen", "ENODEV"): "this kernel has no such file system: load its module, or leave the mount out",
        ("mount", "ENODEV"): "this kernel has no such file system: modprobe it (overlay for images), or use --rootfs DIR",
        ("mount", "EINVAL"): "overlayfs can't write there (an overlay itself, or a network's): choose a local disk with --root",
        ("fsconfig", "EINVAL"): "the file system refuses this option; dmesg may say why",
        (
            "prlimit64",
            "EPERM",
        ): "raising a hard limit takes CAP_SYS_RESOURCE, which this process lacks: ask for no more than `ulimit -H` shows",
        ("move_mount", "EINVAL"): "a file can be mounted on a file only, and a folder on a folder",
        ("mount_setattr", "EINVAL"): "nothing is mounted there (a remount needs that), or its file system can't map ids",
        ("mount_setattr", "EPERM"): "the file system can't map ids, or the host's options for it are locked in a user namespace",
        ("run", ""): "newuidmap and newgidmap map what /etc/subuid and /etc/subgid grant to the user, no more",
        ("openat2", "ELOOP"): "a symbolic link of the image is in the way",
        ("make", "ELOOP"): "a symbolic link of the image is in the way",
        ("fstatfs", "EXDEV"): "a symbolic link of the image leads there, or its own files are in the place of a file system",
        ("statx", "EEXIST"): "the image has something else at this path: take it out",
        ("rtnetlink", "EEXIST"): "the container's network namespace has one of that name already",
        ("write_file", "EACCES"): "the host refuses this value",
        ("write_file", "ENOENT"): "this kernel has no such setting",
        ("write_file", "EBUSY"): "the cgroup is in use",
        ("pivot_root", "EINVAL"): "the new root must be a mount and not on rootfs (pivot_root(2))",
        ("seccomp", "EINVAL"): "the filter is not one this kernel takes",
        ("setgroups", "EPERM"): "cannot set any additional groups in a rootless container",
        ("setresuid", "EINVAL"): "the uid is not mapped in the user namespace",
        ("setresgid", "EINVAL"): "the gid is not mapped in the user namespace",
        ("sched_setattr", "EINVAL"): "this kernel does not have this policy, or not with these parameters",
        ("sched_setattr", "EPERM"): "it takes CAP_SYS_NICE, a cgroup with cpu.rt_runtime_us, or (SCHED_DEADLINE) every CPU:"
        " the process scheduler can't be used together with AllowedCPUs",
        ("sched_setattr", "EBUSY"): "there is not as much time to be given away (sched(7), SCHED_DEADLINE)",
        ("sched_setaffinity", "EINVAL"): "none of these CPUs can be used here",
        ("set_mempolicy", "EINVAL"): "the kernel does not have this mode, or the host not these nodes",
        ("set_mempolicy", "ENOSYS"): "this kernel has no NUMA",
        ("mount", "EPERM"): "run it as root (sudo minicontainer …)",
        ("mkdirat", "EROFS"): "this file system is read only: choose another place with --root",
        ("mkdirat", "EACCES"): "run it as root (sudo minicontainer …)",
    }
    if op.call == "mkdirat" and "/cgroup/" in str(op.args[1]) and name in ("EROFS", "EACCES", "EPERM"):
        return "no cgroup can be made here: minicontainer-oci --rootless true goes without one, and without limits"
    if op.call == "fsconfig" and "pidns" in op.args:
        return "to show a joined pid namespace in a new user namespace, from within another one, takes this option of Linux 6.17"
    if op.kind == WRITE and "/cgroup/" in op.args[1]:
        return _CGROUP_HINTS.get(name, "")
    if op.kind == WRITE and op.args[1].endswith("/oom_score_adj"):
        return "a lower oom_score_adj than our own takes CAP_SYS_RESOURCE (containerd's CRI: restrict_oom_score_adj = true)"
    if op.kind == WRITE and "/attr/" in op.args[1]:
        return "is the profile or label loaded on this host?"
    if name == "ENOSPC" and op.call in ("move_mount", "open_tree"):
        return "there are too many mounts: see /proc/sys/fs/mount-max, and whether a bind holds itself"
    if name == "ENOSPC":
        return "the disk is full: free some space (`df`), or choose another data root with --root"
    if op.kind == MAKE and name == "EROFS":
        return "the root is read only and lacks this mount point"
    return table.get((op.call, name), "")


def _quote(text: str) -> str:
    return '"' + (text if len(text) <= 240 else text[:240] + "…") + '"'


def _text(data: bytes) -> str:
    return data[:120].decode(errors="replace").replace("\n", "\\n") + ("…" if len(data) > 120 else "")
