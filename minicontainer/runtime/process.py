"""The container's process as ops: limits, terminal, identity, capabilities, seccomp, and the execve that ends the plan.

The order is the one that lets each step still do its work: bounding set before the user is changed (it needs
CAP_SETPCAP), capabilities after (setresuid clears them), seccomp as late as no_new_privs lets it be.
"""

from __future__ import annotations

from struct import pack

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CAPABILITIES, PR, PR_CAP_AMBIENT, RLIMIT
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob, PointerTo, Slot, execute, find, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIOCSCTTY = 0x540E
_CAP_VERSION_3 = 0x20080522
SIGKILL = 9
_SECCOMP_SET_MODE_FILTER = 1
_CLOSE_RANGE_CLOEXEC = 4
_ALL_SIGNALS_FREE = bytes(8)


def first(ops: Ops, *, keyring: str) -> None:
    """What comes before everything: the container dies with a start that dies, and shares no keys."""
    ops.call("prctl", PR["PR_SET_PDEATHSIG"], SIGKILL, why="if the command that starts us dies half-way, so do we")
    ops.call("prctl", PR["PR_SET_DUMPABLE"], 0, why="nobody may trace us or read our descriptors until we are the user's program")
    ops.call("setsid", why="a session of our own: no terminal of the caller can be reached (TIOCSTI)")
    ops.call("keyctl", 1, keyring, why="a session keyring of our own (KEYCTL_JOIN_SESSION_KEYRING)", ok=(38,))


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


def stdio(ops: Ops, peer: Slot) -> None:
    """The terminal becomes the standard streams and the controlling terminal."""
    for fd in (0, 1, 2):
        ops.call("dup3", peer, fd, 0, why=("stdin", "stdout", "stderr")[fd] + " is the terminal")
    ops.call("ioctl", 0, TIOCSCTTY, 0, why="the session's controlling terminal: ctrl-c reaches it")


def identity(ops: Ops, process: dict, *, seccomp: bytes | None, seccomp_flags: int = 0, die_with_parent: bool) -> None:
    """Descriptors that stay (before seccomp: few filters know close_range), user, groups, capabilities, no_new_privs, seccomp."""
    user = process.get("user", {})
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = user.get("additionalGids") or []
    capabilities = process.get("capabilities")
    nnp = process.get("noNewPrivileges", False)
    ops.call(
        "close_range",
        3,
        0xFFFFFFFF,
        _CLOSE_RANGE_CLOEXEC,
        why="only stdin, stdout and stderr cross into the container (CVE-2024-21626)",
    )
    ops.call("umask", user.get("umask", 0o022), why="what new files may not have")
    if seccomp and not nnp:
        _seccomp(ops, seccomp, seccomp_flags, "now, while we have the CAP_SYS_ADMIN that it takes without no_new_privs")
    if capabilities is not None:
        bounding = _mask(capabilities.get("bounding"))
        for number, name in enumerate(CAPABILITIES[: _last_capability() + 1]):
            if not bounding >> number & 1:
                ops.call("prctl", PR["PR_CAPBSET_DROP"], number, 0, 0, 0, why=f"{name} can't be had any more, by no program")
    if uid:
        ops.call("prctl", PR["PR_SET_KEEPCAPS"], 1, 0, 0, 0, why="keep the permitted set over setresuid, to set all sets as asked")
    ops.call(
        "setgroups",
        len(groups),
        Blob(pack(f"{len(groups)}I", *groups), str(groups)) if groups else 0,
        why="supplementary groups: those of the image's user, none of the caller's",
    )
    ops.call("setresgid", gid, gid, gid, why="the group")
    ops.call("setresuid", uid, uid, uid, why="the user")
    if capabilities is not None:
        _capabilities(ops, capabilities, keep=bool(uid))
    if nnp:
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


def seccomp_of(spec: dict, cache: str) -> tuple[bytes | None, int]:
    """The filter of linux.seccomp and its flags; (None, 0) without one. cache: the folder of programs made before."""
    seccomp = spec.get("linux", {}).get("seccomp")
    if not seccomp:
        return None, 0
    from minicontainer.runtime.seccomp import filter_for, flags_for

    return filter_for(seccomp, (spec["process"].get("capabilities") or {}).get("bounding") or [], cache), flags_for(seccomp)


def _capabilities(ops: Ops, capabilities: dict, *, keep: bool) -> None:
    effective, permitted, inheritable, ambient = (
        _mask(capabilities.get(s)) for s in ("effective", "permitted", "inheritable", "ambient")
    )
    if keep:
        ops.call("prctl", PR["PR_SET_KEEPCAPS"], 0, 0, 0, 0, why="no longer")
    low = 0xFFFFFFFF
    data = pack("6I", effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32)
    text = f"effective={effective:#x} permitted={permitted:#x} inheritable={inheritable:#x}"
    ops.call("capset", Blob(pack("Ii", _CAP_VERSION_3, 0), "version 3, self"), Blob(data, text), why="exactly these capabilities")
    ops.call(
        "prctl",
        PR["PR_CAP_AMBIENT"],
        PR_CAP_AMBIENT["PR_CAP_AMBIENT_CLEAR_ALL"],
        0,
        0,
        0,
        why="none survive an execve by themselves",
    )
    for number, name in enumerate(CAPABILITIES):
        if ambient >> number & 1:
            ops.call(
                "prctl",
                PR["PR_CAP_AMBIENT"],
                PR_CAP_AMBIENT["PR_CAP_AMBIENT_RAISE"],
                number,
                0,
                0,
                ok=(1,),
                why=f"but {name} does: asked for (it has to be permitted and inheritable as well)",
            )


def _seccomp(ops: Ops, program: bytes, flags: int, when: str) -> None:
    count = len(program) // 8
    prog = PointerTo(pack("HxxxxxxQ", count, 0), 8, program, f"{count} BPF instructions")
    ops.call("seccomp", _SECCOMP_SET_MODE_FILTER, flags, prog, why=f"the system call filter, {when}")


def execute_user(
    ops: Ops,
    process: dict,
    *,
    seccomp: bytes | None = None,
    seccomp_flags: int = 0,
    sync: Slot | None = None,
    fifo: Slot | None = None,
    hooks: Callable[[], None] | None = None,
) -> None:
    """The signal mask, the filter if it can be this late, and execve.

    With fifo it waits before that until `start` writes into it, and hooks() may then add ops; what can't be executed is told
    before the wait, as in runc.
    """
    args, env = process["args"], process.get("env") or []
    paths = candidates(args[0], env)
    ops.call("rt_sigprocmask", 2, Blob(_ALL_SIGNALS_FREE, "[]"), 0, 8, why="no signal is blocked")
    if sync and fifo:
        ops.append(find(paths, args, why="what is not there is told by `create`"))
        ops.call("write", sync, Blob(b"c", "created"), 1, why="tell `create` that the container is there")
        ops.call("read", fifo, Blob(bytes(8), ""), 1, why="wait until `start` writes")
    if hooks:
        hooks()
    if seccomp and process.get("noNewPrivileges"):
        _seccomp(ops, seccomp, seccomp_flags, "as late as can be: after it only execve")
    ops.append(execute(paths, args, env, why="the plan ends here: this process is the user's program now"))


def candidates(program: str, env: list[str]) -> list[str]:
    """The paths that execve tries: program itself if it has a slash, else in each folder of PATH in env."""
    if "/" in program:
        return [program]
    path = next(
        (e[5:] for e in reversed(env) if e.startswith("PATH=")), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    return [f"{folder or '.'}/{program}" for folder in path.split(":")]


def _mask(names: list[str] | None) -> int:
    """The bits of capability names; those that this kernel lacks are left out, unknown names refused."""
    mask = 0
    for name in names or ():
        if name not in CAPABILITIES:
            raise UsageError(f'unknown capability "{name}"', "see capabilities(7)")
        mask |= 1 << CAPABILITIES.index(name)
    return mask & (1 << (_last_capability() + 1)) - 1 & _held()


def _last_capability(proc: str = "/proc") -> int:
    with open(f"{proc}/sys/kernel/cap_last_cap", "rb") as f:
        return int(f.read())


def _held(proc: str = "/proc") -> int:
    """The caller's own bounding set: what it lacks, nobody can give (runc warns and goes on too)."""
    with open(f"{proc}/self/status", "rb") as f:
        for line in f:
            if line.startswith(b"CapBnd:"):
                return int(line[7:], 16)
    return (1 << 64) - 1
