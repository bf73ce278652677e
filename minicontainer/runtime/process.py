"""The container's process as ops: limits, terminal, identity, capabilities, seccomp, and the execve that ends the plan.

The order is the one that lets each step still do its work: bounding set before the user is changed (it needs
CAP_SETPCAP), capabilities after (setresuid clears them), seccomp as late as no_new_privs lets it be.
"""

from __future__ import annotations

import os
from stat import S_ISCHR
from struct import pack

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import NEW_LISTENER, PR, RLIMIT, O
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.capabilities import Sets
from minicontainer.stub.ops import Blob, Op, PointerTo, Slot, execute, find, syscall, wait, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIOCSCTTY = 0x540E
SIGKILL = 9
EPERM, EINVAL, EROFS = 1, 22, 30
_F_DUPFD_CLOEXEC = 1030
_SECCOMP_SET_MODE_FILTER = 1
_ALL_SIGNALS_FREE = bytes(8)
_EVERY_CPU = b"\xff" * 1024  # CONFIG_NR_CPUS is at most 8192


def first(ops: Ops, *, keyring: str) -> None:
    """What comes before everything: the container dies with a start that dies, and shares no keys (keyring "": it does)."""
    ops.call("prctl", PR["PR_SET_PDEATHSIG"], SIGKILL, why="if the command that starts us dies half-way, so do we")
    ops.call("prctl", PR["PR_SET_DUMPABLE"], 0, why="nobody may trace us or read our descriptors until we are the user's program")
    ops.call("setsid", why="a session of our own: no terminal of the caller can be reached (TIOCSTI)")
    if keyring:
        ops.call("keyctl", 1, keyring, why="a session keyring of our own (KEYCTL_JOIN_SESSION_KEYRING)", ok=(38,))


def every_cpu() -> Op:
    """Once in the cgroup: the CPUs are its, not those that the caller was bound to (taskset(1))."""
    mask = Blob(_EVERY_CPU, "all")
    return syscall("sched_setaffinity", 0, len(_EVERY_CPU), mask, ok=(EINVAL,), why="every CPU that the cgroup has")


def limits(ops: Ops, process: dict, proc: Slot) -> None:
    """rlimits and oom_score_adj."""
    for r in process.get("rlimits") or ():
        if r["type"] not in RLIMIT:
            raise UsageError(f'unknown rlimit "{r["type"]}"', f"one of {', '.join(RLIMIT)}")
        soft, hard = r["soft"] & (1 << 64) - 1, r["hard"] & (1 << 64) - 1
        ops.call(
            "prlimit64",
            0,
            RLIMIT.index(r["type"]),
            Blob(pack("QQ", soft, hard), f"soft={r['soft']} hard={r['hard']}"),
            0,
            why=f"{r['type']}: asked for",
        )
    adjust = process.get("oomScoreAdj")
    if adjust is not None:
        ops.append(write_file("self/oom_score_adj", str(adjust), dir=proc, why="who the OOM killer takes first (proc(5))"))


def labels(ops: Ops, process: dict, proc: Slot) -> None:
    """apparmorProfile and selinuxLabel: what the execve at the end changes to. That the host has them is checked before."""
    if profile := process.get("apparmorProfile"):
        own = os.path.isdir("/proc/self/attr/apparmor")  # Linux 5.8; with other modules beside it the old name is not its
        path = f"self/attr/{'apparmor/' if own else ''}exec"
        ops.append(write_file(path, f"exec {profile}", dir=proc, why=f"the AppArmor profile {profile}, from the execve on"))
    if label := process.get("selinuxLabel"):
        ops.append(write_file("self/attr/exec", label, dir=proc, why=f"the SELinux label {label}, from the execve on"))


def stdio(ops: Ops, peer: Slot) -> None:
    """The terminal becomes the standard streams and the controlling terminal."""
    for fd in (0, 1, 2):
        ops.call("dup3", peer, fd, 0, why=("stdin", "stdout", "stderr")[fd] + " is the terminal")
    ops.call("ioctl", 0, TIOCSCTTY, 0, why="the session's controlling terminal: ctrl-c reaches it")


def foreign_streams(stdio: Sequence[int], process: dict) -> list[int]:
    """Which of 0, 1, 2 belong to somebody else than the process' user, as runc finds them.

    Such a pipe could not be opened again by /dev/stdout. The host's /dev/null and other devices stay whose they are.
    """
    if process.get("terminal"):
        return []
    uid, found = (process.get("user") or {}).get("uid", 0), []
    for number, fd in enumerate(stdio):
        info = os.fstat(fd)
        if info.st_uid != uid and not (S_ISCHR(info.st_mode) and not os.isatty(fd)):
            found.append(number)
    return found


def descriptors(ops: Ops, passed: Sequence[Slot], needed: Sequence[Slot]) -> None:
    """Descriptors from 3 on: passed become 3, 4, …, needed follow and stay until the execve, all others are closed.

    At once, and not by the execve: between OCI's `create` and `start` a process that waits as the container's user holds
    nothing of the host. It comes before seccomp: few filters know close_range.
    """
    first, free = 3 + len(passed), 3 + len(passed) + len(needed)
    for slot in (*needed, *passed):
        ops.call("fcntl", slot, _F_DUPFD_CLOEXEC, free, out=slot, why="out of the way of those that get a place")
    for number, slot in enumerate(passed, 3):
        ops.call("dup3", slot, number, 0, why=f"passed on as {number}")
    for number, slot in enumerate(needed, first):
        ops.call("dup3", slot, number, O["O_CLOEXEC"], out=slot, why="needed until the execve")
    ops.call(
        "close_range",
        free,
        0xFFFFFFFF,
        0,
        why=f"only stdin, stdout, stderr{f' and {len(passed)} more' if passed else ''} cross into the container (CVE-2024-21626)",
    )


def identity(
    ops: Ops,
    process: dict,
    *,
    seccomp: bytes | None,
    seccomp_flags: int = 0,
    die_with_parent: bool,
    warnings: list[str],
    sync: Slot,
    foreign: Sequence[int] = (),
    denied_groups: bool = False,
) -> Slot | None:
    """User, groups, capabilities, no_new_privs, and seccomp unless it can come later; the seccomp listener's slot if there is one.

    foreign: see foreign_streams; denied_groups: in a user namespace that may not change groups nothing is said if none are asked.
    """
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = user.get("additionalGids") or []
    sets = Sets(process, warnings)
    listener = None
    ops.call("umask", user.get("umask", 0o022), why="what new files may not have")
    for fd in foreign:
        ops.call("fchown", fd, uid, 0xFFFFFFFF, ok=(EPERM, EROFS), why="so that the user can open /dev/stdin, stdout, stderr")
    if seccomp and not process.get("noNewPrivileges"):
        when = "now, while we have the CAP_SYS_ADMIN that it takes without no_new_privs"
        listener = _seccomp(ops, seccomp, seccomp_flags, when, sync)
    sets.bound(ops)
    if uid:
        sets.keep(ops)
    ops.call(
        "setgroups",
        len(groups),
        Blob(pack(f"{len(groups)}I", *groups), str(groups)) if groups else 0,
        ok=(EPERM,) if denied_groups and not groups else (),
        why="supplementary groups: those of the image's user, none of the caller's",
    )
    ops.call("setresgid", gid, gid, gid, why="the group")
    ops.call("setresuid", uid, uid, uid, why="the user")
    sets.set(ops, kept=bool(uid))
    if process.get("noNewPrivileges"):
        ops.call("prctl", PR["PR_SET_NO_NEW_PRIVS"], 1, 0, 0, 0, why="no setuid program gives more than this")
    # A change of credentials clears it (prctl(2)), so it is said again.
    ops.call(
        "prctl",
        PR["PR_SET_PDEATHSIG"],
        SIGKILL if die_with_parent else 0,
        0,
        0,
        0,
        why="the container ends with the command that watches it"
        if die_with_parent
        else "from here on it may outlive who started it",
    )
    return listener


def seccomp_of(spec: dict, cache: str) -> tuple[bytes | None, int]:
    """The filter of linux.seccomp and its flags; (None, 0) without one. cache: the folder of programs made before."""
    seccomp = spec.get("linux", {}).get("seccomp")
    if not seccomp:
        return None, 0
    from minicontainer.runtime.seccomp import check_listener, filter_for, flags_for

    check_listener(seccomp)
    return filter_for(seccomp, (spec["process"].get("capabilities") or {}).get("bounding") or [], cache), flags_for(seccomp)


def _seccomp(ops: Ops, program: bytes, flags: int, when: str, sync: Slot) -> Slot | None:
    """The filter; the slot of its listener, which the caller has taken before the next op, if there is one."""
    count = len(program) // 8
    prog = PointerTo(pack("HxxxxxxQ", count, 0), 8, program, f"{count} BPF instructions")
    listener = Slot("seccomp listener") if flags & NEW_LISTENER else None
    ops.call("seccomp", _SECCOMP_SET_MODE_FILTER, flags, prog, out=listener, why=f"the system call filter, {when}")
    if listener:
        ops.call("write", sync, Blob(b"n", "notify"), 1, why="the caller takes the listener's descriptor out of us")
        ops.append(wait(sync, why="until it has handed it over: whoever listens may have to answer from here on"))
    return listener


def execute_user(
    ops: Ops,
    process: dict,
    *,
    seccomp: bytes | None = None,
    seccomp_flags: int = 0,
    sync: Slot,
    fifo: Slot | None = None,
    hooks: Callable[[], None] | None = None,
) -> Slot | None:
    """The signal mask, the filter if it can be this late, and execve; the seccomp listener's slot if there is one.

    With fifo it waits before that until `start` writes into it, and hooks() may then add ops. A
    filter with a listener comes before the wait too: `create` is who hands it over.
    """
    args, env = process["args"], process.get("env") or []
    paths = candidates(args[0], env)
    late = seccomp if process.get("noNewPrivileges") else None
    listener = None
    ops.call("rt_sigprocmask", 2, Blob(_ALL_SIGNALS_FREE, "[]"), 0, 8, why="no signal is blocked")
    ops.append(find(paths, args, why="a program that is not there is told now: OCI's `create` tells it, not `start`"))
    if late and seccomp_flags & NEW_LISTENER:
        listener, late = _seccomp(ops, late, seccomp_flags, "with a listener", sync), None
    if fifo:
        ops.call("write", sync, Blob(b"c", "created"), 1, why="tell `create` that the container is there")
        ops.call("read", fifo, Blob(bytes(8), ""), 1, why="wait until `start` writes")
    if late:
        _seccomp(ops, late, seccomp_flags, "as late as can be: after it only execve, and hooks, which it is to hold as well", sync)
    if hooks:
        hooks()
    ops.append(execute(paths, args, env, why="the plan ends here: this process is the user's program now"))
    return listener


def candidates(program: str, env: list[str]) -> list[str]:
    """The paths that execve tries: program itself if it has a slash, else in each folder of PATH in env."""
    if "/" in program:
        return [program]
    path = next(
        (e[5:] for e in reversed(env) if e.startswith("PATH=")), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    return [f"{folder or '.'}/{program}" for folder in path.split(":")]
