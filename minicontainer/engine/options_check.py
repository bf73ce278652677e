"""Whether options contradict themselves or the host: docker's refusals, in its words, with the way out."""

from __future__ import annotations

from minicontainer.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.options import RunOptions

# Restart policies that the engine carries out; whoever teaches it another adds it here.
RESTART_POLICIES = ("no",)


def check(options: RunOptions, cpus: int = 0, online_cpus: str = "/sys/devices/system/cpu/online") -> list[str]:
    """Refuse what contradicts itself or the host; return warnings, one line each.

    cpus: how many this host has (0: ask). online_cpus: the kernel's list of them. Raises UsageError, or
    Unsupported for what minicontainer does not do.
    """
    if not options.image and not options.rootfs:
        raise UsageError("no image: 'minicontainer run' needs IMAGE or --rootfs DIR")
    _check_life(options)
    _check_namespaces(options)
    _check_sysctls(options)
    _check_network(options)
    _check_memory(options)
    _check_cpu(options, cpus, online_cpus)
    return _check_rest(options)


def _check_life(options: RunOptions) -> None:
    """Name, removal, restarts, streams: docker's conflicts."""
    from minicontainer.engine.names import check_name

    if options.name:
        check_name(options.name)
    policy = options.restart[0]
    if options.rm and policy != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if policy not in RESTART_POLICIES:
        raise Unsupported(
            f'minicontainer does not restart containers yet (--restart "{policy}")',
            "run it from a systemd unit with Restart=",
        )
    if options.detach and options.attach:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    if options.log_driver == "none" and options.log_options:
        raise UsageError("invalid logging opts for driver none", "leave out --log-opt, or --log-driver none")
    if options.stop_timeout is not None and options.stop_timeout < -1:
        raise UsageError(f'invalid value {options.stop_timeout} for "--stop-timeout": seconds, or -1 to wait without end')
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(
            f"the working directory '{options.workdir}' is invalid, it needs to be an absolute path",
            "give --workdir /path",
        )


# Which modes a namespace flag takes, besides "" and (with True) container:NAME.
_MODES = (
    ("pid_mode", "--pid", ("host", "private"), True),
    ("ipc_mode", "--ipc", ("host", "private", "shareable", "none"), True),
    ("uts_mode", "--uts", ("host",), False),
    ("cgroupns_mode", "--cgroupns", ("host", "private"), False),
    ("network", "--network", ("default", "bridge", "none", "host"), True),
)


def _check_namespaces(options: RunOptions) -> None:
    for field, flag, modes, joins in _MODES:
        mode = getattr(options, field)
        if not mode or mode in modes or (joins and mode.startswith("container:") and len(mode) > 10):
            continue
        allowed = ", ".join(modes) + (", container:NAME" if joins else "")
        if field == "network":
            raise UsageError(f"network {mode} not found", f"--network takes {allowed}")
        raise UsageError(f'{flag}: invalid {flag[2:].upper()} mode: "{mode}"', f"{flag} takes {allowed}")
    if options.uts_mode == "host" and options.hostname:
        raise UsageError("conflicting options: hostname and the UTS mode", "leave out --hostname or --uts host")
    if options.uts_mode == "host" and options.domainname:
        raise UsageError("conflicting options: domainname and the UTS mode", "leave out --domainname or --uts host")
    if len(options.hostname.encode()) > 64:
        raise UsageError(f'hostname "{options.hostname}" is too long (maximum 64 bytes)')
    for flag, name in (("--hostname", options.hostname), ("--domainname", options.domainname)):
        if any(character.isspace() or not character.isprintable() for character in name):
            raise UsageError(f"{name!r} is no {flag[2:]}: it contains whitespace or control characters")


def _check_sysctls(options: RunOptions) -> None:
    """A sysctl of a namespace that is the host's would change the host."""
    for name in options.sysctls:
        flag = "--network" if name.startswith("net.") else "--ipc"
        mode = options.network if flag == "--network" else options.ipc_mode
        if mode == "host":
            raise UsageError(f"sysctl '{name}' is not allowed with {flag} host", "it would change the host's")


def _check_network(options: RunOptions) -> None:
    mode = options.network.partition(":")[0]
    bridge = mode in ("", "default", "bridge")
    joined = mode == "container"
    if options.hostname and joined:
        raise UsageError("conflicting options: hostname and the network mode", "the joined container's is used")
    if options.dns and joined:
        raise UsageError("conflicting options: dns and the network mode", "the joined container's is used")
    if options.add_hosts and joined:
        raise UsageError("conflicting options: custom host-to-IP mapping and the network mode")
    if options.mac_address and mode in ("container", "host"):
        raise UsageError("conflicting options: mac-address and the network mode")
    if (options.publish or options.publish_all) and joined:
        raise UsageError("conflicting options: port publishing and the container type network mode")
    if options.expose and joined:
        raise UsageError("conflicting options: port exposing and the container type network mode")
    if options.publish and mode == "none":
        raise UsageError(
            "conflicting options: port publishing and --network none",
            "a container without network has no ports",
        )
    if not bridge and (options.ip or options.ip6 or options.mac_address):
        raise UsageError(
            f"conflicting options: --network {options.network}, and an address (--ip, --ip6, --mac-address)",
            "only the bridge gives addresses",
        )
    if options.publish:
        from minicontainer.network.ports import parse_publish

        for text in options.publish:
            parse_publish(text)


_MIN_MEMORY_BYTES = 6 << 20


def _check_memory(options: RunOptions) -> None:
    memory, swap, reservation = (
        options.memory_bytes,
        options.memory_swap_bytes,
        options.memory_reservation_bytes,
    )
    if memory and memory < _MIN_MEMORY_BYTES:
        raise UsageError("Minimum memory limit allowed is 6MB", "give --memory 6m or more")
    if memory and 0 < swap < memory:
        raise UsageError(
            "Minimum memoryswap limit should be larger than memory limit",
            "--memory-swap counts memory and swap together",
        )
    if swap > 0 and not memory:
        raise UsageError("You should always set the Memory limit when using Memoryswap limit", "add --memory")
    if reservation and reservation < _MIN_MEMORY_BYTES:
        raise UsageError("Minimum memory reservation allowed is 6MB", "give --memory-reservation 6m or more")
    if memory and reservation > memory:
        raise UsageError("Minimum memory limit can not be less than memory reservation limit", "raise --memory")
    if not -1 <= options.memory_swappiness <= 100:
        raise UsageError(
            f'invalid value: {options.memory_swappiness} for "--memory-swappiness"',
            "Valid memory swappiness range is 0-100",
        )
    if not -1000 <= options.oom_score_adj <= 1000:
        raise UsageError(
            f'Invalid value {options.oom_score_adj} for "--oom-score-adj"',
            "range for oom score adj is [-1000, 1000]",
        )


def _check_cpu(options: RunOptions, cpus: int, online_cpus: str) -> None:
    nano, period, quota = options.nano_cpus, options.cpu_period_us, options.cpu_quota_us
    if nano and period:
        raise UsageError("Conflicting options: Nano CPUs and CPU Period cannot both be set", "give --cpus or --cpu-period")
    if nano and quota:
        raise UsageError("Conflicting options: Nano CPUs and CPU Quota cannot both be set", "give --cpus or --cpu-quota")
    if nano:
        import os

        cpus = cpus or os.cpu_count() or 1
        if not 0 < nano <= cpus * 10**9:
            raise UsageError(
                f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available",
                "change --cpus",
            )
        if nano * 100_000 // 10**9 < 1000:
            raise UsageError('"--cpus" is too little: 0.01 is the least the kernel can give')
    if options.cpu_shares < 0:
        raise UsageError(f"invalid CPU shares ({options.cpu_shares}): value must be a positive integer")
    if period and not 1000 <= period <= 1_000_000:
        raise UsageError("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise UsageError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if options.cpuset_cpus:
        _check_cpuset(options.cpuset_cpus, online_cpus)


def _check_cpuset(wanted: str, online_cpus: str) -> None:
    from minicontainer.engine.values_limits import cpu_set

    with open(online_cpus) as file:
        online = file.read().strip()
    try:
        missing = cpu_set(wanted) - cpu_set(online)
    except ValueError as reason:
        raise UsageError(f"Invalid value {wanted} for cpuset cpus: {reason}") from None
    if missing:
        raise UsageError(
            f"Requested CPUs are not available - requested {wanted}, available: {online}",
            "change --cpuset-cpus",
        )


def _check_rest(options: RunOptions) -> list[str]:
    if ".." in options.cgroup_parent.split("/"):
        raise UsageError(f'invalid --cgroup-parent "{options.cgroup_parent}": it contains ".."', "give a path below the root")
    if options.shm_size_bytes < 0:
        raise UsageError("SHM size can not be less than 0")
    targets: set[str] = set()
    for mount in options.mounts:
        target = mount["target"]
        if target in targets:
            raise UsageError(f"Duplicate mount point: {target}", "each -v, --mount and --tmpfs needs its own destination")
        targets.add(target)
    for path in (*options.mask, *(path for path in options.unmask if path != "ALL")):
        if not path.startswith("/"):
            raise UsageError(f'invalid --security-opt: "{path}" to mask or unmask is not an absolute path')
    warnings = []
    if options.publish and options.network == "host":
        warnings.append("Published ports are discarded when using host network mode")
    if options.oom_kill_disable and not options.memory_bytes:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings
