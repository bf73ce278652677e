"""Filling in a new user namespace: uid_map, gid_map, setgroups, from outside (user_namespaces(7)).

Root writes the files itself. Anybody else may map only the own id, and has newuidmap(1) and newgidmap(1) map the ids that
/etc/subuid and /etc/subgid grant.
"""

from __future__ import annotations

import os
from struct import pack

from minicontainer.errors import Unsupported
from minicontainer.kernel.flags import PR, RLIMIT, O
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob, Op, run, write_file

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
