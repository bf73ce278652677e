"""The plan of `exec`: one more process in a container that runs.

It joins by pidfd, which can't come to mean another process, and takes nothing of the host along: descriptors are closed,
credentials set as for the first process, and it can't be traced before its execve (CVE-2016-9962).
"""

from __future__ import annotations

from minicontainer.kernel.flags import CLONE, O
from minicontainer.runtime import devices, process
from minicontainer.runtime.builder import IN_ROOT
from minicontainer.runtime.plan import Plan
from minicontainer.runtime.rootfs import Rootfs
from minicontainer.stub.ops import Slot

_JOINED = sum(CLONE[f"CLONE_NEW{n}"] for n in ("NS", "NET", "UTS", "IPC", "CGROUP"))


def make_exec_plan(
    spec: dict,
    *,
    ident: str,
    pid: int,
    pidfd: int,
    cgroup: object,
    seccomp: bytes | None = None,
    seccomp_flags: int = 0,
    die_with_parent: bool = True,
) -> Plan:
    """The plan for a process in the container whose first process is pid (held by pidfd).

    spec: {"process": …} as in OCI's config.json; cgroup: where it goes (cgroup.Entrance); seccomp: the BPF program.
    """
    plan = Plan()
    wanted = spec["process"]
    plan.joined = {"pid": f"/proc/{pid}/ns/pid"}
    plan.unified_dir = cgroup.unified_dir()  # type: ignore[attr-defined]
    plan.flags = CLONE["CLONE_INTO_CGROUP"] if plan.unified_dir else 0
    target = Slot("container")
    plan.inherit = {target: pidfd}
    ops = plan.container
    process.first(ops, keyring=f"_ses.{ident}")
    root = Rootfs(ops, spec, None, "")
    ops.extend(cgroup.enter_ops())  # type: ignore[attr-defined]
    proc = ops.open(None, "/proc", O["O_PATH"] | O["O_DIRECTORY"], name="host's proc", why="for files of the process itself")
    process.limits(ops, wanted, proc)
    ops.call("setns", target, _JOINED, why="the namespaces of the container; its root and nothing else is ours now")
    root.root = ops.open(None, "/", O["O_PATH"] | O["O_DIRECTORY"], name="root", why="the container's root")
    cwd = ops.open(
        root.root, wanted["cwd"], O["O_PATH"] | O["O_DIRECTORY"], name="cwd", resolve=IN_ROOT, why="the working directory"
    )
    if wanted.get("terminal"):
        plan.console = Slot("console socket")
        process.stdio(ops, devices.console(root, plan.console, wanted))
    ops.call("fchdir", cwd, why="stand in the working directory")
    process.identity(ops, wanted, seccomp=seccomp, seccomp_flags=seccomp_flags, die_with_parent=die_with_parent)
    process.execute_user(ops, wanted, seccomp=seccomp, seccomp_flags=seccomp_flags)
    return plan
