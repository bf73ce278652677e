"""Starting a container: from its record to a running process, and the process that watches it.

Foreground: this process is the parent and watches. Detached: a fork of it is the parent; when the container has
started, it becomes the static monitor program by execve, and the container stays its child.
"""

from __future__ import annotations

import os
from time import time_ns

from minicontainer import fastjson
from minicontainer.engine import attach_network, users
from minicontainer.engine import container as box
from minicontainer.engine.container import Container, Life
from minicontainer.engine.host import Host
from minicontainer.engine.names import new_id
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import SpecContainer, make_spec
from minicontainer.engine.spec_mounts import make_sources, resolve_mounts
from minicontainer.errors import MinicontainerError
from minicontainer.runtime.cgroups import cgroup_of, hierarchy
from minicontainer.runtime.launch import Launch
from minicontainer.runtime.plan import Overlay, Plan, make_plan
from minicontainer.runtime.processes import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroup.group import Cgroup
    from minicontainer.network.endpoint import Endpoint


class Streams:
    """The descriptors of one start: what the container gets as 0, 1, 2, and our ends of them (-1: none)."""

    __slots__ = ("err", "inside", "out", "stdin")

    def __init__(self, *, interactive: bool, tty: bool) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.stdin = self.out = self.err = -1
        self.inside = [null, null, null]
        if tty:
            return
        if interactive:
            self.inside[0], self.stdin = os.pipe2(os.O_CLOEXEC)
        self.out, self.inside[1] = os.pipe2(os.O_CLOEXEC)
        self.err, self.inside[2] = os.pipe2(os.O_CLOEXEC)

    def close_inside(self) -> None:
        """The container has its own copies now."""
        for fd in set(self.inside):
            os.close(fd)
        self.inside = []

    def close(self) -> None:
        """Everything, after a failure."""
        self.close_inside()
        for fd in (self.stdin, self.out, self.err):
            if fd >= 0:
                os.close(fd)


class Started:
    """A container that runs: its launch, our ends of its streams, its cgroup."""

    __slots__ = ("cgroup", "container", "launch", "life", "streams")

    def __init__(self, container: Container, life: Life, launch: Launch, streams: Streams, cgroup: Cgroup) -> None:
        self.container = container
        self.life = life
        self.launch = launch
        self.streams = streams
        self.cgroup = cgroup


class Observer:
    """Who wants to see a start: the command line (--explain), a test."""

    def planned(self, plan: Plan) -> None:
        """The plan, before any of it is done."""

    def launched(self, launch: Launch) -> None:
        """What became of it, also when it failed."""

    def changed(self, sentences: list[str]) -> None:
        """What had to be changed on the host for the network, and what there is in its way."""


class Prepared:
    """A start that is decided but not begun: spec and plan, for a dry run as for the real one."""

    __slots__ = ("cgroup", "endpoint", "options", "plan", "spec")

    def __init__(self, spec: dict, plan: Plan, cgroup: Cgroup, options: RunOptions, endpoint: Endpoint | None) -> None:
        self.spec = spec
        self.plan = plan
        self.cgroup = cgroup
        self.options = options
        self.endpoint = endpoint


def prepare(container: Container, *, console_size: tuple[int, int] | None = None, dry_run: bool = False) -> Prepared:
    """Spec and plan of a container. With dry_run nothing on disk, in the kernel or in the network is made for it."""
    record, config = container.record, container.config
    options = RunOptions(**record["options"])
    layers = [os.path.join(config.root, p) for p in record["layers"]]
    overlay = None
    if not record["rootfs"]:
        overlay = Overlay(layers, f"{container.dir}/upper", f"{container.dir}/work", f"{container.dir}/merged", volatile=options.rm)
        layers = layers if dry_run else [f"{container.dir}/upper", *layers]  # a dry run's was never made
    host = Host(cgroup_v2=hierarchy().mode == "v2")
    known = iter(record.get("anonymous_volumes", ()))  # a container keeps its volumes over restarts
    points = resolve_mounts(options, record["image_config"], f"{config.root}/volumes", host, lambda: next(known, None) or new_id())
    joined = attach_network.joined_namespaces(container, options)
    endpoint = attach_network.connect(container, options, dry_run=dry_run)
    user = users.resolve(layers, options, record["image_config"])
    if not dry_run:
        _make_volumes(container, points, layers)
        attach_network.write_files(container, options, endpoint, joined)
    inside = SpecContainer(
        container.ident,
        rootfs=record["rootfs"] or f"{container.dir}/merged",
        network_files=joined.files or container.dir,
        cgroups_path=container.cgroup_path,
        hostname=attach_network.hostname(container, options),
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        home=user.home,
        joined=joined.namespaces,
        shm_path=joined.shm,
        console_size=console_size,
    )
    spec = make_spec(options, record["image_config"], inside, points, host)
    if config.settings["security.no_new_privileges"]:
        spec["process"]["noNewPrivileges"] = True
    cgroup = cgroup_of(container.cgroup_path)
    seccomp = spec["linux"].get("seccomp")
    filter_bytes, filter_flags = None, 0
    if seccomp is not None:
        from minicontainer.runtime.seccomp import filter_for, flags_for

        filter_bytes = filter_for(seccomp, spec["process"]["capabilities"]["bounding"], "" if dry_run else f"{config.root}/seccomp")
        filter_flags = flags_for(seccomp)
    plan = make_plan(
        spec,
        ident=container.ident,
        bundle=container.dir,
        cgroup=cgroup,
        overlay=overlay,
        network=attach_network.part_of_plan(endpoint, options),
        seccomp=filter_bytes,
        seccomp_flags=filter_flags,
        die_with_parent=True,
        promised=_promised(container, points) if dry_run else None,
    )
    return Prepared(spec, plan, cgroup, options, endpoint)


def start(
    container: Container,
    life: Life,
    *,
    console_size: tuple[int, int] | None = None,
    observer: Observer | None = None,
) -> Started:
    """Starts a container whose life we hold; observer sees the plan and what became of it.

    On failure nothing of the start is left; the life stays ours. StartError and others say what failed.
    """
    options = RunOptions(**container.record["options"])
    network = attach_network.UNKNOWN if attach_network.mode_of(options) == "bridge" else None
    life.save(status="starting", name=container.name, remove=options.rm, cgroup=container.cgroup_path, network=network)
    prepared = prepare(container, console_size=console_size)
    observer = observer or Observer()
    if prepared.endpoint:
        life.save(network=prepared.endpoint.to_dict())
        observer.changed(prepared.endpoint.changes)
    try:
        os.unlink(f"{container.dir}/exit.json")
    except FileNotFoundError:
        pass  # its first start
    streams = Streams(interactive=prepared.options.interactive, tty=prepared.options.tty)
    observer.planned(prepared.plan)
    launch = Launch(prepared.plan)

    def born(pid: int) -> None:
        life.save(status="starting", pid=pid, pid_start=start_time(pid))

    try:
        launch.start(tuple(streams.inside), born=born, ready=lambda: prepared.cgroup.verify(prepared.plan.resources))  # type: ignore[arg-type]  # three
    except BaseException:
        streams.close()
        raise
    finally:
        observer.launched(launch)
    streams.close_inside()
    life.save(status="running", started_ns=time_ns(), hostname=prepared.spec.get("hostname", ""))
    box.write_json(f"{container.dir}/config.json", prepared.spec)
    _note_phases(container, launch)
    return Started(container, life, launch, streams, prepared.cgroup)


def _promised(container: Container, points: list) -> dict[str, bool]:
    """What a start makes before its plan: the network's files, volumes and folders of -v."""
    files = {f"{container.dir}/{name}": False for name in ("hosts", "hostname", "resolv.conf")}
    return {**files, **{p.source: True for p in points if p.create}}


def _make_volumes(container: Container, points: list, layers: list[str]) -> None:
    anonymous = [p.volume for p in points if p.anonymous]
    if anonymous and not container.record.get("anonymous_volumes"):
        # On record before they are there, so that who reclaims the container finds them.
        container.record["anonymous_volumes"] = anonymous
        box.write_json(f"{container.dir}/container.json", container.record)
    make_sources(points)
    from minicontainer.engine import volumes

    for point in points:
        if point.copy_up:
            volumes.copy_up(point.source, point.destination, layers, f"{container.dir}/merged")


def _note_phases(container: Container, launch: Launch) -> None:
    from minicontainer.runtime import phases

    phases.record(f"{container.config.state}/phases", launch.phases())


# -- detached ---------------------------------------------------------------------------------------------------------


def start_detached(
    container: Container,
    life: Life,
    launcher: list[str],
    observer: Observer | None = None,
) -> None:
    """Starts a container and leaves a monitor with it. launcher: argv that cleans up when it has ended; the descriptor of
    the lock is put behind it.

    The lock goes to the monitor, so this process must not use `life` afterwards. Errors are the start's own.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        _become_monitor(container, life, [*launcher, str(life.lock)], write, observer)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        answer = f.read()
    os.close(life.lock)
    if answer == b"ok":
        return
    told = fastjson.loads(answer) if answer else ["the process that starts the container was killed", "", 125]
    error = MinicontainerError(told[0], told[1])  # type: ignore[index]
    error.exit_code = told[2]  # type: ignore[index]
    raise error


def _become_monitor(
    container: Container,
    life: Life,
    launcher: list[str],
    report: int,
    observer: Observer | None,
) -> None:
    """In the fork: start, report, execve the monitor. Never returns."""
    from minicontainer.engine import end, watch

    try:
        os.setsid()
        started = start(container, life, observer=observer)
        argv, keep = watch.monitor_argv(started, launcher)
        # What the caller's shell left open, a lock perhaps, must not live as long as the container.
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}"):
                os.set_inheritable(fd, fd in keep or fd == life.lock)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.write(report, b"ok")
        os.execve(argv[0], argv, {})
    except MinicontainerError as e:
        os.write(report, fastjson.dumps([e.message, e.hint, e.exit_code]).encode())
    except BaseException as e:  # noqa: BLE001  (a fork of the command: whatever it is, the command must hear of it and go on alone)
        os.write(report, fastjson.dumps([f"internal error: {type(e).__name__}: {e}", "", 125]).encode())
    try:
        end.finish(container, life)
    finally:
        os._exit(125)
