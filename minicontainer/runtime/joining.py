"""The plan of `exec`: one more process in a container that runs.

It joins by pidfd, which can't come to mean another process, and takes nothing of the host along: credentials are set as for
the first process, and it can't be traced before its execve (CVE-2016-9962), but by who has CAP_SYS_PTRACE in the container.
For those it holds nothing worth it: the container's pid namespace gets a child of the stub, which is born when root, working
directory and open files are the container's already. (Its capabilities are still the caller's then, until they are set.)
"""

from __future__ import annotations

import os

from minicontainer.kernel.flags import CLONE, O
from minicontainer.runtime import devices, process
from minicontainer.runtime.builder import IN_ROOT, Ops
from minicontainer.runtime.namespaces import BORN, FLAGS, initial_user_namespace, setgroups_denied
from minicontainer.runtime.plan import Plan, schedule
from minicontainer.runtime.rootfs import Rootfs
from minicontainer.stub.ops import Slot, clone, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_OTHERS = ("mount", "network", "uts", "ipc", "cgroup", "pid")
_ALL = sum(FLAGS[kind] for kind in _OTHERS)
_FILES = {"mount": "mnt", "network": "net"}  # what /proc/PID/ns calls them, where not by the spec's name
_EINVAL = 22


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
    plain: bool = False,
    isolated: bool = True,
) -> Plan:
    """The plan for a process in the container whose first process is pid (held by pidfd).

    spec: {"process": …, "linux": …} as in OCI's config.json (of linux: personality, memoryPolicy); cgroup: where it goes
    (cgroup.Entrance); seccomp: the BPF program; passed, foreign, plain: as in make_plan; isolated: the container has a mount
    namespace of its own, whose root is its.
    """
    plan = Plan()
    wanted = spec["process"]
    apart = _apart(pid)
    mapped = bool(apart & FLAGS["user"]) or not initial_user_namespace()
    plan.meetings = {}
    plan.unified_dir = cgroup.unified_dir()  # type: ignore[attr-defined]
    plan.flags = CLONE["CLONE_INTO_CGROUP"] if plan.unified_dir else 0
    target = Slot("container")
    plan.inherit = {target: pidfd}
    ops = plan.container
    process.first(ops, keyring=f"_ses.{ident}")
    affinity = wanted.get("execCPUAffinity") or {}
    if affinity.get("initial"):
        _affinity(ops, affinity["initial"], why="execCPUAffinity.initial: the CPUs until it is in the cgroup")
    root = Rootfs(ops, spec, None, "")
    ops.extend(cgroup.enter_ops())  # type: ignore[attr-defined]
    proc = ops.open(None, "/proc", O["O_PATH"] | O["O_DIRECTORY"], name="host's proc", why="for files of the process itself")
    ops.append(process.every_cpu())
    if affinity.get("final"):
        _affinity(ops, affinity["final"], why="execCPUAffinity.final: the CPUs from here on")
    process.limits(ops, wanted, proc)
    process.labels(ops, wanted, proc)
    if not isolated:
        its_root = ops.open(None, f"/proc/{pid}/root", O["O_PATH"] | O["O_DIRECTORY"], name="its root", why="the container's root")
    ops.call("close", proc, why="nothing of the host is open any more when the container can see us")
    _join(ops, target, apart | (_apart(pid, _OTHERS) if mapped else _ALL), mapped)
    if not isolated:
        ops.call("fchdir", its_root, why="its root is no namespace's, but its process' own")
        ops.call("chroot", ".", why="into it")
        ops.call("close", its_root, why="it is our root now")
    ops.append(
        clone(plan.sync, 0, BORN.decode(), why="a child, with nothing of the host in reach: only children enter a pid namespace")
    )
    process.first(ops, keyring=f"_ses.{ident}")
    # Unread, it would make of our end of the socket an ECONNRESET, before the terminal that we send is received (unix(7)).
    ops.append(wait(plan.sync, why="the go that every start has: it has to be taken"))
    root.root = ops.open(None, "/", O["O_PATH"] | O["O_DIRECTORY"], name="root", why="the container's root")
    cwd = ops.open(
        root.root, wanted["cwd"], O["O_PATH"] | O["O_DIRECTORY"], name="cwd", resolve=IN_ROOT, why="the working directory"
    )
    if wanted.get("terminal"):
        plan.console = Slot("console socket")
        process.stdio(ops, devices.console(root, plan.console, wanted, plain=plain))
    ops.call("fchdir", cwd, why="stand in the working directory")
    plan.passed = [Slot(f"descriptor {3 + n}") for n in range(passed)]
    process.descriptors(ops, plan.passed, [plan.sync])
    schedule(ops, wanted, spec.get("linux") or {})
    plan.listener = process.identity(
        ops,
        wanted,
        seccomp=seccomp,
        seccomp_flags=seccomp_flags,
        die_with_parent=die_with_parent,
        warnings=plan.warnings,
        sync=plan.sync,
        foreign=foreign,
        denied_groups=mapped and setgroups_denied(pid),
    )
    late_listener = process.execute_user(ops, wanted, seccomp=seccomp, seccomp_flags=seccomp_flags, sync=plan.sync)
    plan.listener = plan.listener or late_listener
    return plan


def _affinity(ops: Ops, cpus: str, *, why: str) -> None:
    from minicontainer.runtime import scheduling

    scheduling.affinity(ops, cpus, why=why)


def _join(ops: Ops, target: Slot, flags: int, mapped: bool) -> None:
    """Into these namespaces of the container; into the user namespace as its root."""
    if mapped:
        ops.call("setgroups", 0, 0, ok=(1,), why="no group of ours: in there it may be denied to change them")
    ops.call("setns", target, flags, why="the namespaces of the container, a user namespace first (setns(2)); its root is ours now")
    if mapped:
        # Not where nobody is root in there.
        ops.call("setresgid", 0, 0, 0, ok=(_EINVAL,), why="the group root of the user namespace")
        ops.call("setresuid", 0, 0, 0, ok=(_EINVAL,), why="the user root of the user namespace")


def _apart(pid: int, kinds: tuple[str, ...] = ("user", "time")) -> int:
    """CLONE_NEW* of those namespaces of a process that are not ours: no user namespace is joined twice, nor any of the host's
    by who is not root there (setns(2))."""
    flags = 0
    for kind in kinds:
        name = _FILES.get(kind, kind)
        try:
            here, there = os.stat(f"/proc/self/ns/{name}"), os.stat(f"/proc/{pid}/ns/{name}")
        except FileNotFoundError:
            continue  # this kernel has none, or the process has ended, which the join will tell
        if here.st_ino != there.st_ino:
            flags |= FLAGS[kind]
    return flags
