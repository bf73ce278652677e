"""The plan of `exec`: one more process in a container that runs.

It joins by pidfd, which can't come to mean another process, and takes nothing of the host along: descriptors are closed,
credentials set as for the first process, and it can't be traced before its execve (CVE-2016-9962).
"""

from __future__ import annotations

from minicontainer.kernel.flags import CLONE, NEW_LISTENER, O
from minicontainer.runtime import devices, process, scheduling
from minicontainer.runtime.builder import IN_ROOT
from minicontainer.runtime.plan import Plan
from minicontainer.runtime.rootfs import Rootfs
from minicontainer.stub.ops import Slot, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

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
    passed: int = 0,
    foreign: Sequence[int] = (),
) -> Plan:
    """The plan for a process in the container whose first process is pid (held by pidfd).

    spec: {"process": …} as in OCI's config.json; cgroup: where it goes (cgroup.Entrance); seccomp: the BPF program; passed,
    foreign: as in make_plan.
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
    if seccomp_flags & NEW_LISTENER:
        ops.append(wait(plan.sync, why="the go that every start has, so that the next one is that of the listener"))
    affinity = wanted.get("execCPUAffinity") or {}
    if affinity.get("initial"):
        scheduling.affinity(ops, affinity["initial"], why="execCPUAffinity.initial: the CPUs until it is in the cgroup")
    root = Rootfs(ops, spec, None, "")
    ops.extend(cgroup.enter_ops())  # type: ignore[attr-defined]
    proc = ops.open(None, "/proc", O["O_PATH"] | O["O_DIRECTORY"], name="host's proc", why="for files of the process itself")
    if affinity.get("final"):
        scheduling.affinity(ops, affinity["final"], why="execCPUAffinity.final: the CPUs from here on")
    process.limits(ops, wanted, proc)
    process.labels(ops, wanted, proc)
    ops.call("setns", target, _JOINED, why="the namespaces of the container; its root and nothing else is ours now")
    root.root = ops.open(None, "/", O["O_PATH"] | O["O_DIRECTORY"], name="root", why="the container's root")
    cwd = ops.open(
        root.root, wanted["cwd"], O["O_PATH"] | O["O_DIRECTORY"], name="cwd", resolve=IN_ROOT, why="the working directory"
    )
    if wanted.get("terminal"):
        plan.console = Slot("console socket")
        process.stdio(ops, devices.console(root, plan.console, wanted))
    ops.call("fchdir", cwd, why="stand in the working directory")
    plan.passed = [Slot(f"descriptor {3 + n}") for n in range(passed)]
    process.descriptors(ops, plan.passed, [plan.sync])
    scheduling.urgency(ops, wanted)
    plan.listener = process.identity(
        ops,
        wanted,
        seccomp=seccomp,
        seccomp_flags=seccomp_flags,
        die_with_parent=die_with_parent,
        warnings=plan.warnings,
        sync=plan.sync,
        foreign=foreign,
    )
    late_listener = process.execute_user(ops, wanted, seccomp=seccomp, seccomp_flags=seccomp_flags, sync=plan.sync)
    plan.listener = plan.listener or late_listener
    return plan
