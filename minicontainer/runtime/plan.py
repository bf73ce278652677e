"""The plan of a container start: an OCI spec turned into ops, in the order in which they happen.

    host, before          clone3             host, after                    container (the stub)
    ┌─────────────────┐  ┌───────────────┐  ┌──────────────────────────┐   ┌───────────────────────────────────┐
    │ cgroups: made,  │─▶│ new namespaces│─▶│ cgroups: limits read back│   │ cgroups, root, mounts, /dev       │
    │ limits written  │  │ pidfd, cgroup │  │ network: the cable is in │   │     wait ◀── go                   │
    └─────────────────┘  └───────┬───────┘  └───────────┬──────────────┘   │ network, cgroup namespace, masks  │
                                 │                      └── go ──────────▶│ pivot_root, user, capabilities    │
                                 └─────────────────────────────────────────▶ execve                            │
                                                                           └───────────────────────────────────┘

The container's half runs at the same time as the host's second half, and waits for it once.
Explain, dry run, timings and errors are all views of these lists; there is no other description of a start.
"""

from __future__ import annotations

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CLONE
from minicontainer.runtime import hooks, process
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.cgroups import resources_of
from minicontainer.runtime.rootfs import Overlay, Rootfs, clean
from minicontainer.stub.ops import Blob, Op, Slot, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NAMESPACES = {
    "pid": "CLONE_NEWPID",
    "network": "CLONE_NEWNET",
    "mount": "CLONE_NEWNS",
    "ipc": "CLONE_NEWIPC",
    "uts": "CLONE_NEWUTS",
    "cgroup": "CLONE_NEWCGROUP",
    "user": "CLONE_NEWUSER",
    "time": "CLONE_NEWTIME",
}
_AF_NETLINK, _SOCK_RAW_CLOEXEC, _NETLINK_ROUTE = 16, 3 | 0o2000000, 0


class Network:
    """What a network contributes to a plan.

    host(pid) -> ops after the clone; container(socket) -> ops in the container; each may be empty.
    """

    def host(self, pid: int) -> list[Op]:
        """Ops in the caller's process, after the clone."""
        return []

    def container(self, sock: Slot) -> list[Op]:
        """Ops in the container, over an rtnetlink socket in its network namespace."""
        return []


class Plan:
    """One start.

    before: host ops before the clone; flags: of clone3; resources: the limits that before sets; after(pid): host ops after
    it; container: the stub's ops;
    sync, console: slots that launch.py fills with a socket each; fifo: with OCI's create, the slot of exec.fifo;
    inherit: descriptors of ours that the stub gets too (the caller puts that of exec.fifo in); tells: the stub says when
    everything is mounted, and waits for the host's hooks; hook_streams: of the hooks that the stub runs; first_start_hook: the
    index of its first startContainer hook.
    """

    __slots__ = (
        "after",
        "before",
        "console",
        "container",
        "fifo",
        "first_start_hook",
        "flags",
        "hook_streams",
        "inherit",
        "joined",
        "resources",
        "sync",
        "tells",
        "unified_dir",
    )

    def __init__(self) -> None:
        self.before: list[Op] = []
        self.container = Ops()
        self.after: Callable[[int], list[Op]] = lambda pid: []
        self.flags = 0
        self.resources: dict = {}
        self.sync = Slot("parent")
        self.console: Slot | None = None
        self.fifo: Slot | None = None
        self.unified_dir: str | None = None
        self.joined: list[tuple[str, str]] = []
        self.inherit: dict[Slot, int] = {}
        self.tells = False
        self.hook_streams: hooks.Streams | None = None
        self.first_start_hook = 0


def make_plan(
    spec: dict,
    *,
    ident: str,
    bundle: str,
    cgroup: object,
    overlay: Overlay | None = None,
    network: Network | None = None,
    seccomp: bytes | None = None,
    seccomp_flags: int = 0,
    die_with_parent: bool = False,
    waits: bool = False,
    promised: dict[str, bool] | None = None,
) -> Plan:
    """The plan for an OCI spec.

    ident: the container's id; bundle: folder that relative paths are relative to; cgroup: a cgroup.Cgroup; overlay: how the
    root is made if it is an image; seccomp: the BPF program; waits: a byte from a fifo releases the execve (OCI's start), else
    it goes straight on; promised: see Rootfs. UsageError for what the spec gets wrong.
    """
    plan = Plan()
    linux = spec.get("linux", {})
    network = network or Network()
    plan.resources = resources_of(spec)
    new, plan.joined = _namespaces(linux.get("namespaces", ()))
    private_cgroups = bool(new & CLONE["CLONE_NEWCGROUP"])
    plan.unified_dir = None if cgroup.born_outside else cgroup.unified_dir()  # type: ignore[attr-defined]
    # A cgroup namespace is rooted where its first process is when it is made: it has to come after the cgroup.
    plan.flags = new & ~CLONE["CLONE_NEWCGROUP"] | (CLONE["CLONE_INTO_CGROUP"] if plan.unified_dir else 0)
    plan.before = cgroup.create_ops(plan.resources)  # type: ignore[attr-defined]
    # In a user namespace of its own the stub may not write the host's cgroup files; then the parent moves it, and waits.
    by_parent = bool(new & CLONE["CLONE_NEWUSER"]) or cgroup.born_outside  # type: ignore[attr-defined]
    plan.after = lambda pid: [*(cgroup.enter_ops(pid) if by_parent else ()), *network.host(pid)]  # type: ignore[attr-defined]

    ops = plan.container
    process.first(ops, keyring=f"_ses.{ident}")
    if not by_parent:
        ops.extend(cgroup.enter_ops())  # type: ignore[attr-defined]
    _join(ops, plan.joined)
    root = Rootfs(ops, spec, overlay, bundle, promised)
    root.open_host()
    root.enter()
    late = [m for m in spec.get("mounts", ()) if m.get("type") in ("cgroup", "cgroup2")]
    root.mounts([m for m in spec.get("mounts", ()) if m not in late])
    root.devices()
    if hooks.of(spec, "prestart") or hooks.of(spec, "createRuntime"):
        plan.tells = True
        ops.call("write", plan.sync, Blob(b"m", "mounted"), 1, why="everything is mounted: the host's hooks may run")
    ops.append(wait(plan.sync, why="the host half: limits read back, network cable plugged in"))
    if private_cgroups:
        ops.call("unshare", CLONE["CLONE_NEWCGROUP"], why="its cgroup becomes the root of what it can see; only now is it in it")
    for m in late:
        root.cgroup_mount(m, cgroup, private_cgroups)
    _network(ops, network, bool(new & CLONE["CLONE_NEWNET"]))
    if hooks.of(spec, "createContainer") or hooks.of(spec, "startContainer"):
        plan.hook_streams = hooks.Streams()
    if plan.hook_streams and hooks.of(spec, "createContainer"):
        ops.call("fchdir", root.root, why="hooks stand in the container's root, with the host's root still in reach")
        hooks.inside(ops, spec, "createContainer", plan.hook_streams)
    peer = None
    if spec["process"].get("terminal"):
        plan.console = Slot("console socket")
        peer = root.console(plan.console, spec["process"])
    if spec.get("hostname"):
        ops.call("sethostname", spec["hostname"], len(spec["hostname"].encode()), why="its name in the new UTS namespace")
    if spec.get("domainname"):
        ops.call("setdomainname", spec["domainname"], len(spec["domainname"].encode()), why="its domain name")
    root.sysctls()
    root.hide()
    cwd = _working_directory(ops, root, spec["process"]["cwd"])
    process.limits(ops, spec["process"], root.host_proc)
    root.pivot()
    ops.call("fchdir", cwd, why="the working directory, by descriptor: no symlink of the image leads elsewhere")
    if peer:
        process.stdio(ops, peer)
    process.identity(ops, spec["process"], seccomp=seccomp, seccomp_flags=seccomp_flags, die_with_parent=die_with_parent)
    if waits:
        plan.fifo = Slot("exec.fifo")

    def start_hooks() -> None:
        plan.first_start_hook = len(ops)
        if plan.hook_streams:
            hooks.inside(ops, spec, "startContainer", plan.hook_streams)

    process.execute_user(
        ops,
        spec["process"],
        seccomp=seccomp,
        seccomp_flags=seccomp_flags,
        sync=plan.sync if plan.fifo else None,
        fifo=plan.fifo,
        hooks=start_hooks,
    )
    return plan


def _namespaces(namespaces: list[dict]) -> tuple[int, list[tuple[str, str]]]:
    """CLONE_NEW* flags of the new ones, and (type, path) of those to join."""
    new, joined = 0, []
    for n in namespaces:
        if n["type"] not in _NAMESPACES:
            raise UsageError(f'unknown namespace type "{n["type"]}"', f"one of {', '.join(_NAMESPACES)}")
        if n.get("path"):
            joined.append((n["type"], n["path"]))
        else:
            new |= CLONE[_NAMESPACES[n["type"]]]
    if not new & CLONE["CLONE_NEWNS"]:
        raise UsageError("a container needs a mount namespace of its own", 'add {"type": "mount"} to linux.namespaces')
    return new, joined


def _join(ops: Ops, joined: list[tuple[str, str]]) -> None:
    """Namespaces by path; a pid namespace is joined by the parent before the clone (launch.py): only children enter it."""
    for kind, path in joined:
        if kind != "pid":
            fd = ops.open(None, path, 0, name=f"{kind} namespace", why=f"the {kind} namespace to join")
            ops.call("setns", fd, CLONE[_NAMESPACES[kind]], why=f"share {kind} with {path}")


def _network(ops: Ops, network: Network, new: bool) -> None:
    if not new:
        return
    sock = Slot("rtnetlink")
    contributed = network.container(sock)
    if contributed:
        ops.call(
            "socket",
            _AF_NETLINK,
            _SOCK_RAW_CLOEXEC,
            _NETLINK_ROUTE,
            out=sock,
            why="to configure the new network namespace from inside",
        )
        ops.extend(contributed)


def _working_directory(ops: Ops, root: Rootfs, cwd: str) -> Slot:
    if not cwd.startswith("/"):
        raise UsageError(f'working directory "{cwd}" is not absolute', "give a path that begins with /")
    return ops.make(root.root, clean(cwd), why="the working directory (made if the image lacks it)")
