"""The OCI spec (config.json) of a container: what docker would write for the same flags and image.

    RunOptions ─┐
    image config ─┼─▶ make_spec ─▶ dict, for runtime.plan and for config.json
    SpecContainer ─┘      ▲
                          └── Host, MountPoints (spec_mounts.resolve_mounts)

Nothing is made or changed here, and everything about the host comes through `Host`. Sources: OCI runtime
spec 1.2, moby's daemon/oci_linux.go and oci/defaults.go; where this differs from docker the comment says
why.
"""

from __future__ import annotations

from minicontainer.engine import spec_mounts, spec_security
from minicontainer.engine.host import Host
from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.options import RunOptions
    from minicontainer.engine.spec_mounts import MountPoint

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CPU_PERIOD_US = 100_000
# For a network namespace of one's own: any user may ping, and may listen on ports below 1024.
_NETWORK_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}


class SpecContainer:
    """What make_spec must know about one container that is not in its options.

    rootfs: root.path. network_files: the directory with its resolv.conf, hostname and hosts (the joined
    container's with --network container:). hostname: see default_hostname. cgroups_path: as
    linux.cgroupsPath. uid, gid, groups, home: of its user, as the image's own files have them; groups
    without gid, with --group-add. joined: namespace type -> path, for each of pid, ipc, network that is
    container:NAME. shm_path: of the joined container's /dev/shm. console_size: (rows, columns) of the
    terminal, or None.
    """

    __slots__ = (
        "cgroups_path", "console_size", "gid", "groups", "home", "hostname", "id", "joined", "network_files",
        "rootfs", "shm_path", "uid",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        *,
        rootfs: str,
        network_files: str,
        cgroups_path: str,
        hostname: str = "",
        uid: int = 0,
        gid: int = 0,
        groups: tuple[int, ...] | list[int] = (),
        home: str = "/",
        joined: dict[str, str] | None = None,
        shm_path: str = "",
        console_size: tuple[int, int] | None = None,
    ) -> None:
        self.id = id
        self.rootfs = rootfs
        self.network_files = network_files
        self.cgroups_path = cgroups_path
        self.hostname = hostname or id[:12]
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home
        self.joined = joined or {}
        self.shm_path = shm_path
        self.console_size = console_size


def make_spec(
    options: RunOptions,
    image_config: dict[str, Any],
    container: SpecContainer,
    points: list[MountPoint],
    host: Host | None = None,
) -> dict[str, Any]:
    """The OCI spec.

    image_config: the "config" object of the image ({} with --rootfs): Entrypoint, Cmd, Env, WorkingDir,
    User, Volumes. points: from spec_mounts.resolve_mounts. Raises UsageError: no command, a capability or
    device that is not there.
    """
    host = host or Host()
    capabilities = spec_security.capabilities(options, host)
    nodes, device_rules = spec_security.devices(options, host)
    linux: dict[str, Any] = {
        "sysctl": _sysctls(options, host),
        "resources": {"devices": device_rules, **resources(options, host)},
        "cgroupsPath": container.cgroups_path,
        "namespaces": _namespaces(options, container, host),
        "devices": nodes,
        "maskedPaths": spec_security.masked_paths(options, host),
        "readonlyPaths": spec_security.readonly_paths(options),
    }
    if propagation := spec_mounts.rootfs_propagation(points):
        linux["rootfsPropagation"] = propagation
    if profile := spec_security.seccomp(options, capabilities):
        linux["seccomp"] = profile
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": _process(options, image_config, container, capabilities),
        "root": {"path": container.rootfs, "readonly": options.read_only},
        "mounts": spec_mounts.spec_mounts(options, container, points, host),
        "linux": linux,
    }
    if options.uts_mode != "host":
        spec["hostname"] = container.hostname
        if options.domainname:
            spec["domainname"] = options.domainname
    if options.annotations:
        spec["annotations"] = dict(options.annotations)
    return spec


def default_hostname(options: RunOptions, container_id: str, host_name: str) -> str:
    """--hostname, else the host's name where its network or UTS namespace is shared, else the short id.

    docker gives the short id as $HOSTNAME even with --uts host, where `hostname` says another.
    """
    if options.hostname:
        return options.hostname
    return host_name if "host" in (options.network, options.uts_mode) else container_id[:12]


def command(options: RunOptions, image_config: dict[str, Any]) -> list[str]:
    """The program and its arguments: the user's before the image's. Raises UsageError where there is none.

    With --entrypoint the image's Cmd is not used: it was meant for the image's entrypoint.
    """
    entrypoint, args = options.entrypoint, options.args
    if entrypoint is None:
        entrypoint = image_config.get("Entrypoint") or []
        args = args or image_config.get("Cmd") or []
    if not entrypoint and not args:
        raise UsageError("no command specified", "name one after the image, or import it with --change 'CMD …'")
    return [*entrypoint, *args]


def environment(options: RunOptions, image_config: dict[str, Any], container: SpecContainer) -> list[str]:
    """The environment in docker's order: PATH, HOSTNAME, TERM with a terminal, the user's, the image's.

    A later one takes the place of an earlier one of its name, and a bare NAME removes it. HOME comes
    last, when nobody set it (docker leaves that to runc).
    """
    asked = {entry.partition("=")[0] for entry in options.env}
    image = [entry for entry in image_config.get("Env") or () if entry.partition("=")[0] not in asked]
    merged = {"PATH": "PATH=" + DEFAULT_PATH, "HOSTNAME": "HOSTNAME=" + container.hostname}
    if options.tty:
        merged["TERM"] = "TERM=xterm"
    for entry in (*options.env, *image):
        name, equals, _ = entry.partition("=")
        if equals:
            merged[name] = entry
        else:
            merged.pop(name, None)
    merged.setdefault("HOME", "HOME=" + container.home)
    return list(merged.values())


def _process(
    options: RunOptions, image_config: dict[str, Any], container: SpecContainer, capabilities: list[str]
) -> dict[str, Any]:
    args = command(options, image_config)
    if spec_mounts.wants_init(options):
        args = [spec_mounts.init_path(options), "--", *args]
    process: dict[str, Any] = {
        "terminal": options.tty,
        # The group itself is among the supplementary ones, so that it can't be shed (CVE-2022-36109).
        "user": {
            "uid": container.uid,
            "gid": container.gid,
            "additionalGids": [container.gid, *(gid for gid in container.groups if gid != container.gid)],
        },
        "args": args,
        "env": environment(options, image_config, container),
        "cwd": options.workdir or image_config.get("WorkingDir") or "/",
        "capabilities": spec_security.capability_sets(capabilities),
        "noNewPrivileges": options.no_new_privileges,
        "oomScoreAdj": options.oom_score_adj,
    }
    if options.tty and container.console_size:
        rows, columns = container.console_size
        process["consoleSize"] = {"height": rows, "width": columns}
    if options.ulimits:
        process["rlimits"] = [
            {"type": "RLIMIT_" + name.upper(), "hard": _unlimited(hard), "soft": _unlimited(soft)}
            for name, soft, hard in options.ulimits
        ]
    return process


def _unlimited(limit: int) -> int:
    """RLIM_INFINITY for -1: the spec's limits are unsigned."""
    return limit & (1 << 64) - 1


def _sysctls(options: RunOptions, host: Host) -> dict[str, str]:
    """docker's own and the user's, which win."""
    own = options.network != "host" and not options.network.startswith("container:")
    sysctls = {name: value for name, value in _NETWORK_SYSCTLS.items() if own and host.has_sysctl(name)}
    return sysctls | options.sysctls


def _namespaces(options: RunOptions, container: SpecContainer, host: Host) -> list[dict[str, str]]:
    """In docker's order. No time namespace: containers keep the host's clocks, as docker's did until 29."""
    modes = {
        "mount": "",
        "network": options.network,
        "uts": options.uts_mode,
        "pid": options.pid_mode,
        "ipc": options.ipc_mode,
        "cgroup": options.cgroupns_mode or ("private" if host.cgroup_v2 else "host"),
    }
    found = []
    for kind, mode in modes.items():
        if mode.startswith("container:"):
            found.append({"type": kind, "path": container.joined[kind]})
        elif mode != "host":
            found.append({"type": kind})
    return found


def resources(options: RunOptions, host: Host) -> dict[str, Any]:
    """ "linux.resources" without its devices: only what was asked for, so that nothing else is written."""
    found = {
        "memory": _memory(options),
        "cpu": _cpu(options),
        "pids": {"limit": options.pids_limit} if options.pids_limit else {},
        "blockIO": _block_io(options, host),
    }
    return {name: limits for name, limits in found.items() if limits}


def _memory(options: RunOptions) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if options.memory_bytes:
        memory["limit"] = options.memory_bytes
        if options.memory_swap_bytes >= 0:  # -1, without end, is what a new cgroup has
            memory["swap"] = options.memory_swap_bytes or 2 * options.memory_bytes
    if options.memory_reservation_bytes:
        memory["reservation"] = options.memory_reservation_bytes
    if options.memory_swappiness >= 0:
        memory["swappiness"] = options.memory_swappiness
    if options.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(options: RunOptions) -> dict[str, Any]:
    quota, period = options.cpu_quota_us, options.cpu_period_us
    if options.nano_cpus:
        quota, period = options.nano_cpus * _CPU_PERIOD_US // 10**9, _CPU_PERIOD_US
    limits = {
        "shares": options.cpu_shares,
        "quota": quota,
        "period": period,
        "cpus": options.cpuset_cpus,
        "mems": options.cpuset_mems,
    }
    return {name: value for name, value in limits.items() if value}


def _block_io(options: RunOptions, host: Host) -> dict[str, Any]:
    limits: dict[str, Any] = {"weight": options.blkio_weight} if options.blkio_weight else {}
    for name, key, flag, asked in (
        ("weightDevice", "weight", "--blkio-weight-device", options.blkio_weight_device),
        ("throttleReadBpsDevice", "rate", "--device-read-bps", options.device_read_bps),
        ("throttleWriteBpsDevice", "rate", "--device-write-bps", options.device_write_bps),
        ("throttleReadIOPSDevice", "rate", "--device-read-iops", options.device_read_iops),
        ("throttleWriteIOPSDevice", "rate", "--device-write-iops", options.device_write_iops),
    ):
        for path, value in asked:
            major, minor = host.block_device(path, flag)
            limits.setdefault(name, []).append({"major": major, "minor": minor, key: value})
    return limits
