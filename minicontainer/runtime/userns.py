"""The mappings of user namespaces: uid_map, gid_map, setgroups of a new one, filled in from outside; those of one to join.

Source: user_namespaces(7).

Root writes the files itself. Anybody else may map only the own id, and has newuidmap(1) and newgidmap(1) map the ids that
/etc/subuid and /etc/subgid grant.
"""

from __future__ import annotations

import os
from struct import pack

from minicontainer.errors import Unsupported, UsageError
from minicontainer.kernel.flags import CLONE, PR, RLIMIT, O
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob, Op, Slot, run, wait, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_MAPS = (("gid", "gidMappings", "newgidmap"), ("uid", "uidMappings", "newuidmap"))
_SIGKILL = 9
_FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")


def map_ops(pid: int, linux: dict, privileged: bool) -> list[Op]:
    """Host ops that map the ids of linux.uidMappings and gidMappings in the user namespace of a process."""
    ops = Ops()
    for kind, field, helper in _MAPS:
        maps = linux.get(field) or ()
        if not maps:
            continue
        if privileged or not helpers_needed(maps, os.geteuid() if kind == "uid" else os.getegid()):
            if kind == "gid" and not privileged:
                ops.append(write_file(f"/proc/{pid}/setgroups", "deny", why="or a group could be left that denies access"))
            ops.append(write_file(f"/proc/{pid}/{kind}_map", lines(maps), why=f"its {kind}s: {_text(maps)}"))
        else:
            _by_helper(ops, pid, helper, maps)
    return ops


def lines(maps: list[dict] | tuple) -> str:
    """Mappings as uid_map takes them."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in maps)


def joined(linux: dict, path: str) -> dict:
    """linux with the mappings of the user namespace at path, which the container joins. UsageError if it asks for others."""
    read = Ops()
    namespace = read.open(None, path, 0, name="user namespace", why="whose mappings are to be known")
    read.call("setns", namespace, CLONE["CLONE_NEWUSER"], why="who is in there shows them")
    found = dict(zip(("uidMappings", "gidMappings"), _with_process(read, 0, _shown)))
    for field, maps in found.items():
        if (asked := linux.get(field)) and sorted(lines(asked).splitlines()) != sorted(lines(maps).splitlines()):
            raise UsageError(
                "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one",
                f"take linux.{field} out: {path} has its own",
            )
    return {**linux, **found}


def _shown(pid: int) -> list[list[dict]]:
    """The mappings of uids and of gids that a process is under."""
    found = []
    for kind in ("uid", "gid"):
        with open(f"/proc/{pid}/{kind}_map") as f:
            found.append([dict(zip(("containerID", "hostID", "size"), map(int, line.split()))) for line in f])
    return found


def made(uids: str, gids: str) -> int:
    """A descriptor of a user namespace with these mappings (in the form of uid_map), held by it alone: for mount_setattr(2)."""

    def fill(pid: int) -> int:
        from minicontainer.kernel import spawn
        from minicontainer.runtime.launch import start_error
        from minicontainer.stub import program as prog

        maps = (("gid", gids), ("uid", uids))
        ops = [write_file(f"/proc/{pid}/{kind}_map", text, why=f"{kind}s of a mount, from → to, how many") for kind, text in maps]
        program = prog.Program(ops, {})
        failed = spawn.run_here(program.code)
        if failed >= 0:
            raise start_error(ops[failed], program.results()[failed].errno)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    return _with_process(Ops(), CLONE["CLONE_NEWUSER"], fill)


def _with_process(ops: Ops, flags: int, look: Callable[[int], T]) -> T:
    """What look(pid) says of a process that was born with these flags, takes these steps, and then ends. StartError."""
    import _socket

    from minicontainer.kernel import calls, spawn
    from minicontainer.runtime.launch import STUB, start_error
    from minicontainer.stub import program as prog

    ours, theirs = _socket.socketpair(1, 5 | 0o2000000)  # SOCK_SEQPACKET | SOCK_CLOEXEC
    sync = Slot("parent")
    ops.call("write", sync, Blob(b"t", "there"), 1, why="it is there")
    ops.append(wait(sync, why="until it was looked at"))
    program = prog.Program(ops, {sync: 4})
    shared = spawn.SharedMemory(program.code)
    with open(STUB, "rb") as f:
        stub = calls.sealed_memfd("minicontainer", f.read())
    try:
        pid, pidfd = spawn.spawn(stub, [0, 1, 2, shared.fd, theirs.fileno()], flags)
    finally:
        theirs.close()
        shared.close()
        os.close(stub)
    try:
        if not ours.recv(1):
            failed = program.failed(shared.view)
            raise start_error(ops[failed], program.results(shared.view)[failed].errno)
        return look(pid)
    finally:
        ours.close()
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


def helpers_needed(maps: list[dict] | tuple, own: int) -> bool:
    """Whether somebody without privileges needs newuidmap or newgidmap: all but the own id alone. own: the effective one."""
    return len(maps) != 1 or maps[0]["size"] != 1 or maps[0]["hostID"] != own


def before(ops: Ops, process: dict) -> None:
    """What root of a user namespace can't do, though what it sets later stays within it: a higher limit, a lower OOM score."""
    from resource import getrlimit

    for limit in process.get("rlimits") or ():
        number = RLIMIT.index(limit["type"])
        soft, hard = (n & (1 << 64) - 1 for n in getrlimit(number))
        if limit["hard"] > hard:
            text = f"soft={soft} hard={limit['hard']}"
            ops.call(
                "prlimit64",
                0,
                number,
                Blob(pack("QQ", soft, limit["hard"]), text),
                0,
                why=f"{limit['type']}: room for what is asked",
            )
    adjust = process.get("oomScoreAdj")
    if adjust is not None:
        ops.append(write_file("/proc/self/oom_score_adj", str(adjust), why="who the OOM killer takes first (proc(5))"))


def become_root(ops: Ops) -> None:
    """User and group 0 of the user namespace that the process came into, with all capabilities."""
    ops.call("setresgid", 0, 0, 0, why="the group root of the user namespace")
    ops.call("setresuid", 0, 0, 0, why="the user root of the user namespace")
    # A change of credentials clears it (prctl(2)), so it is said again.
    ops.call("prctl", PR["PR_SET_PDEATHSIG"], _SIGKILL, why="if the command that starts us dies half-way, so do we")


def _by_helper(ops: Ops, pid: int, helper: str, maps: list[dict]) -> None:
    program = next((f"{folder}/{helper}" for folder in _FOLDERS if os.access(f"{folder}/{helper}", os.X_OK)), None)
    if program is None:
        raise Unsupported(f"mapping more than the own id without being root takes {helper}", "install uidmap (shadow-utils)")
    numbers = [str(n) for m in maps for n in (m["containerID"], m["hostID"], m["size"])]
    null = ops.open(None, "/dev/null", O["O_RDWR"], name="/dev/null", why=f"for {helper}'s standard streams")
    ops.append(
        run(
            program,
            [helper, str(pid), *numbers],
            [],
            (null, null, null),
            why=f"maps what /etc/sub{helper[3:6]} grants: {_text(maps)}",
        )
    )


def _text(maps: list[dict] | tuple) -> str:
    return ", ".join(f"{m['containerID']} is {m['hostID']} ({m['size']} of them)" for m in maps)
