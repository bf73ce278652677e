"""The plan of a container start: an OCI spec turned into ops, in the order in which they happen.

    host, before          clone3             host, after                    container (the stub)
    ┌─────────────────┐  ┌───────────────┐  ┌──────────────────────────┐   ┌───────────────────────────────────┐
    │ cgroups: made,  │─▶│ new namespaces│─▶│ cgroups: limits read back│   │ cgroups, root, mounts, /dev       │
    │ limits written  │  │ pidfd, cgroup │  │ network: the cable is in │   │     wait ◀── go                   │
    └─────────────────┘  └───────┬───────┘  └───────────┬──────────────┘   │ network, cgroup namespace, masks  │
                                 │                      └── go ──────────▶│ pivot_root, user, capabilities    │
                                 └─────────────────────────────────────────▶ execve                            │
                                                                           └───────────────────────────────────┘

The container's half runs at the same time as the host's second half, and waits for it once. A user or time namespace takes
two births (namespaces.py).
Explain, dry run, timings and errors are all views of these lists; there is no other description of a start.
"""

from __future__ import annotations

from struct import pack

from minicontainer.cgroup.memory import ignored
from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CLONE
from minicontainer.runtime import devices, process
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.cgroups import cgroup_owner, resources_of
from minicontainer.runtime.namespaces import FLAGS, Births, Namespaces, groups_denied
from minicontainer.runtime.rootfs import Overlay, Rootfs, clean
from minicontainer.stub.ops import Blob, Op, Slot, rtnl, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minicontainer.runtime.hooks import Streams
    from minicontainer.runtime.mounting import Mounting
    from minicontainer.runtime.resctrl import Rdt

_CGROUPS = ("cgroup", "cgroup2")
_AF_NETLINK, _SOCK_RAW_CLOEXEC, _NETLINK_ROUTE = 16, 3 | 0o2000000, 0
# rtnetlink(7): a request that sets the flags of the first interface, the loopback, to be acknowledged
_LOOPBACK_UP = pack("IHHII BxHiII", 32, 16, 1 | 4, 1, 0, 0, 0, 1, 1, 1)


class Network:
    """What a network contributes to a plan; this one, nothing but the loopback of a new network namespace.

    host(pid) -> ops after the clone; container(socket) -> ops in the container; each may be empty.
    """

    def host(self, pid: int) -> list[Op]:
        """Ops in the caller's process, after the clone."""
        return []

    def container(self, sock: Slot) -> list[Op]:
        """Ops in the container, over an rtnetlink socket in its network namespace."""
        return [rtnl(sock, _LOOPBACK_UP, "ip link set lo up", why="127.0.0.1 is there, as in every network")]


class Plan:
    """One start.

    before: host ops before the clone; flags: of clone3; resources: the limits that before sets; after(pid): host ops after
    it; container: the stub's ops;
    sync, console: slots that launch.py fills with a socket each; fifo: with OCI's create, the slot of exec.fifo; inherit:
    descriptors of ours that the stub gets too (the caller puts that of exec.fifo in); tells: the stub says when everything is
    mounted, and waits for the host's hooks; hook_streams: of the hooks that the stub runs; first_start_hook: the index of its
    first startContainer hook; meetings: host ops for what the stub asks for between its two births, None with one (namespaces.py);
    idmaps: user namespaces that the stub gets, by slot: uid and gid mappings; copy_ups: how often the stub has something copied;
    listener: the slot of a seccomp listener that the caller takes and hands over; passed: the slots of descriptors that the
    program gets; pid_namespace: the path of one that the stub is born in; resctrl: groups of that file system that go with the
    container; warnings: what could not be done and does not matter; attached: its root is mounted on its own folder (attached.py).
    """

    __slots__ = (
        "after",
        "attached",
        "before",
        "console",
        "container",
        "copy_ups",
        "fifo",
        "first_start_hook",
        "flags",
        "hook_streams",
        "idmaps",
        "inherit",
        "listener",
        "meetings",
        "passed",
        "pid_namespace",
        "resctrl",
        "resources",
        "sync",
        "tells",
        "unified_dir",
        "warnings",
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
        self.pid_namespace = ""
        self.inherit: dict[Slot, int] = {}
        self.tells = False
        self.hook_streams: Streams | None = None
        self.first_start_hook = 0
        self.warnings: list[str] = []
        self.listener: Slot | None = None
        self.passed: list[Slot] = []
        self.meetings: dict[bytes, Callable[[int], list[Op]]] | None = None
        self.idmaps: dict[Slot, tuple[str, str]] = {}
        self.copy_ups = 0
        self.attached = False
        self.resctrl: list[str] = []


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
    new_keyring: bool = True,
    passed: int = 0,
    foreign: Sequence[int] = (),
    plain: bool = False,
    promised: dict[str, bool] | None = None,
) -> Plan:
    """The plan for an OCI spec.

    ident: the container's id; bundle: folder that relative paths are relative to; cgroup: a cgroup.Cgroup; overlay: how the
    root is made if it is an image; seccomp: the BPF program; waits: a byte from a fifo releases the execve (OCI's start), else
    it goes straight on; new_keyring: a session keyring of its own; passed: how many descriptors it gets beside the standard streams
    (plan.passed has their slots, the caller puts them into plan.inherit); foreign: see process.foreign_streams; plain: see
    devices.console; promised: see Rootfs. UsageError for what the spec gets wrong.
    """
    plan = Plan()
    linux = spec.get("linux") or {}
    names = Namespaces(linux.get("namespaces") or ())
    if "user" in names.joined:
        from minicontainer.runtime import userns

        linux = userns.joined(linux, names.joined["user"])
        spec = {**spec, "linux": linux}
    network = network or _net_devices(linux, names) or Network()
    enter = _host_half(plan, spec, ident, names, cgroup, network)
    ops = plan.container
    process.first(ops, keyring=f"_ses.{ident}" if new_keyring else "")
    if waits:
        enter.append(process.every_cpu())
    if not names.twice:
        ops.extend(enter)
        names.join(ops)
    from minicontainer.runtime.mounting import Mounting  # which exec has no use for

    root = Rootfs(ops, spec, overlay, bundle, promised, names)
    mounting = Mounting(root, plan.sync)
    peer = _files(plan, spec, root, mounting, cgroup, network, plain=plain)
    cwd = _working_directory(ops, root, spec["process"]["cwd"])
    # In a user namespace the OOM score is not ours to lower any more: userns.before() did it.
    process.limits(ops, {**spec["process"], "oomScoreAdj": None} if names.user else spec["process"], root.host_proc)
    process.labels(ops, spec["process"], root.host_proc)
    root.pivot()
    ops.call("fchdir", cwd, why="the working directory, by descriptor: no symlink of the image leads elsewhere")
    if peer:
        process.stdio(ops, peer)
    if waits:
        plan.fifo = Slot("exec.fifo")
    plan.passed = [Slot(f"descriptor {3 + n}") for n in range(passed)]
    needed = (plan.sync, plan.fifo, *(plan.hook_streams.slots if plan.hook_streams else ()))
    process.descriptors(ops, plan.passed, [slot for slot in needed if slot])
    schedule(ops, spec["process"], linux)
    filter_ = {"seccomp": seccomp, "seccomp_flags": seccomp_flags, "sync": plan.sync}
    plan.listener = process.identity(
        ops,
        spec["process"],
        **filter_,  # type: ignore[arg-type]
        die_with_parent=die_with_parent,
        warnings=plan.warnings,
        foreign=foreign,
        denied_groups=groups_denied(names, linux),
    )

    def start_hooks() -> None:
        plan.first_start_hook = len(ops)
        _hooks(plan, spec, "startContainer")

    late_listener = process.execute_user(ops, spec["process"], **filter_, fifo=plan.fifo, hooks=start_hooks)  # type: ignore[arg-type]
    plan.listener = plan.listener or late_listener
    if names.twice:
        births = Births(names, spec, plan.sync)
        plan.meetings = births.meetings
        first = births.before(enter, root.early, root.outside, root.propagation)
        ops[:0] = first
        plan.first_start_hook += len(first)
    return plan


def _host_half(plan: Plan, spec: dict, ident: str, names: Namespaces, cgroup: object, network: Network) -> list[Op]:
    """What is done outside: before the clone, by it, and after it. The ops by which the stub enters its cgroups."""
    plan.resources = resources_of(spec)
    plan.warnings += ignored(plan.resources)
    plan.pid_namespace = names.by_parent
    plan.unified_dir = None if cgroup.born_outside else cgroup.unified_dir()  # type: ignore[attr-defined]
    # A cgroup namespace is rooted where its first process is when it is made: it has to come after the cgroup.
    plan.flags = 0 if names.twice else names.new & ~FLAGS["cgroup"]
    plan.flags |= CLONE["CLONE_INTO_CGROUP"] if plan.unified_dir else 0
    plan.before = cgroup.create_ops(plan.resources)  # type: ignore[attr-defined]
    by_parent = cgroup.born_outside  # type: ignore[attr-defined]
    owner = cgroup_owner(spec)
    rdt = _rdt(plan, spec, ident)

    def after(pid: int) -> list[Op]:
        entered = cgroup.enter_ops(pid) if by_parent else []  # type: ignore[attr-defined]
        entered += rdt.after(pid) if rdt else []
        return [*entered, *(cgroup.own_ops(owner) if owner else ()), *network.host(pid)]  # type: ignore[attr-defined]

    plan.after = after
    return [] if by_parent else cgroup.enter_ops()  # type: ignore[attr-defined]


def _rdt(plan: Plan, spec: dict, ident: str) -> Rdt | None:
    asked = (spec.get("linux") or {}).get("intelRdt")
    if asked is None:
        return None
    from minicontainer.runtime.resctrl import Rdt

    rdt = Rdt(asked, ident)
    plan.before += rdt.before()
    plan.resctrl = rdt.folders
    return rdt


def _late(mounts: list[dict]) -> list[dict]:
    """Those that need the process to be in its cgroup, and those that come after one of them at its place or below."""
    late: list[dict] = []
    places: list[str] = []
    for m in mounts:
        place = clean(m["destination"])
        if m.get("type") in _CGROUPS:
            places.append(place)
        elif "tmpcopyup" in (m.get("options") or ()) or not any(place == p or place.startswith(f"{p}/") for p in places):
            continue  # what is copied up is copied before the wait
        late.append(m)
    return late


def _files(
    plan: Plan, spec: dict, root: Rootfs, mounting: Mounting, cgroup: object, network: Network, *, plain: bool
) -> Slot | None:
    """Root, mounts, devices; the wait for the host's half; and what takes it. The terminal's end that the process gets."""
    ops, names, hooks = plan.container, root.names, spec.get("hooks") or {}
    mounts = spec.get("mounts") or []
    late = _late(mounts)
    root.open_host()
    mounting.tie(mounts)
    root.enter()
    mounting.mounts([m for m in mounts if m not in late])
    devices.nodes(root)
    if hooks.get("prestart") or hooks.get("createRuntime"):
        plan.tells = True
        ops.call("write", plan.sync, Blob(b"m", "mounted"), 1, why="everything is mounted: the host's hooks may run")
    ops.append(wait(plan.sync, why="the host half: limits read back, network cable plugged in"))
    if names.new & FLAGS["cgroup"]:
        ops.call("unshare", FLAGS["cgroup"], why="its cgroup becomes the root of what it can see; only now is it in it")
    for m in late:
        if m.get("type") in _CGROUPS:
            mounting.cgroups(m, cgroup, names.has("cgroup"))
        else:
            mounting.mounts([m])
    plan.attached = root.attached
    plan.idmaps = {slot: maps for maps, slot in mounting.idmaps.items()}
    plan.copy_ups = mounting.copy_ups
    plan.warnings += mounting.warnings
    _network(ops, network, bool(names.new & FLAGS["network"]) or bool(root.linux.get("netDevices")))
    if hooks.get("createContainer") or hooks.get("startContainer"):
        from minicontainer.runtime.hooks import Streams

        plan.hook_streams = Streams()
    if hooks.get("createContainer"):
        ops.call("fchdir", root.root, why="hooks stand in the container's root, with the host's root still in reach")
        _hooks(plan, spec, "createContainer")
    peer = None
    if spec["process"].get("terminal"):
        plan.console = Slot("console socket")
        peer = devices.console(root, plan.console, spec["process"], plain=plain)
    for call, field, what in (("sethostname", "hostname", "name"), ("setdomainname", "domainname", "domain name")):
        if spec.get(field):
            ops.call(call, spec[field], len(spec[field].encode()), why=f"its {what} in the new UTS namespace")
    root.sysctls()
    root.hide()
    return peer


def _hooks(plan: Plan, spec: dict, name: str) -> None:
    if plan.hook_streams:
        from minicontainer.runtime import hooks

        hooks.inside(plan.container, spec, name, plan.hook_streams)


def schedule(ops: Ops, wanted: dict, linux: dict) -> None:
    """process.scheduler, ioPriority, linux.personality, memoryPolicy: most containers have none, and don't pay the import."""
    if any(wanted.get(field) for field in ("scheduler", "ioPriority")) or linux.get("personality") or linux.get("memoryPolicy"):
        from minicontainer.runtime import scheduling

        scheduling.urgency(ops, wanted)
        scheduling.personality(ops, linux)
        scheduling.memory_policy(ops, linux)


def _net_devices(linux: dict, names: Namespaces) -> Network | None:
    devices = linux.get("netDevices")
    if not devices:
        return None
    from minicontainer.runtime.netdevices import NetDevices

    return NetDevices(devices, names.joined.get("network", ""))


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
