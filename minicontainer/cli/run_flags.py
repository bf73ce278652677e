"""The flags of `run` and `create`: docker's, with docker's words, and why the ones that are missing are.

Checks of one value are here (a bad one is an error that names the flag); checks of flags against each other
and against the host are engine.options'.
"""

from __future__ import annotations

from minicontainer.cli.flags import Flag
from minicontainer.engine import values, values_limits, values_mounts, values_network

RUN_USAGE = "minicontainer run [OPTIONS] IMAGE [COMMAND] [ARG...]"
RUN_SUMMARY = "Create and run a new container from an image (or with --rootfs from a directory, without IMAGE)"
CREATE_USAGE = "minicontainer create [OPTIONS] IMAGE [COMMAND] [ARG...]"
CREATE_SUMMARY = "Create a new container from an image (or with --rootfs from a directory, without IMAGE)"


def _explain_form(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("must be text or json")
    return text


def _log_driver(text: str) -> str:
    if text not in ("json-file", "none"):
        raise ValueError(f"logger: no log driver named '{text}' is registered (json-file or none)")
    return text


def _user_namespace(text: str) -> str:
    if text not in ("", "host"):
        raise ValueError("invalid USER mode (only host: containers do not remap users yet)")
    return text


_PROCESS = (
    Flag("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR", parse=values.stream),
    Flag("entrypoint", help="Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", "list", "Set environment variables", parse=values.env_entry),
    Flag("env-file", kind="list", help="Read in a file of environment variables", parse=values.env_file),
    Flag("group-add", kind="list", help="Add additional groups to join"),
    Flag("init", kind="bool", help="Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("stop-signal", help="Signal to stop the container", parse=values.signal_name),
    Flag("stop-timeout", kind="int", help="Timeout (in seconds) to stop a container"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("ulimit", kind="ulimit", help="Ulimit options", parse=values_limits.ulimit),
    Flag("user", "u", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("workdir", "w", help="Working directory inside the container"),
)

_CONTAINER = (
    Flag("annotation", kind="map",
         help="Add an annotation to the container (passed through to the OCI runtime)",
         parse=values.annotation),
    Flag("cidfile", help="Write the container ID to the file"),
    Flag("domainname", help="Container NIS domain name"),
    Flag("hostname", "h", help="Container host name"),
    Flag("label", "l", "list", "Set meta data on a container", parse=values.label),
    Flag("label-file", kind="list", help="Read in a line delimited file of labels", parse=values.label_file),
    Flag("log-driver", help="Logging driver for the container (json-file or none)", parse=_log_driver),
    Flag("log-opt", kind="list", help="Log driver options (max-size, max-file)", parse=values.log_option),
    Flag("name", help="Assign a name to the container"),
    Flag("no-healthcheck", kind="bool", help="Disable any container-specified HEALTHCHECK"),
    Flag("platform", help="Set platform (this machine's is the only one there is)", parse=values.platform),
    Flag("pull", help='Pull image before running ("missing", "never")', default="missing",
         parse=values.pull_policy),
    Flag("quiet", "q", "bool", "Suppress the pull output"),
    Flag("restart", help="Restart policy to apply when a container exits", default="no",
         parse=values.restart_policy),
    Flag("rootfs", help="Run on this directory instead of an image; the first argument is the command then"),
    Flag("rm", kind="bool",
         help="Automatically remove the container and its associated anonymous volumes when it exits"),
)  # fmt: skip

_SECURITY = (
    Flag("cap-add", kind="list", help="Add Linux capabilities"),
    Flag("cap-drop", kind="list", help="Drop Linux capabilities"),
    Flag("privileged", kind="bool", help="Give extended privileges to this container"),
    Flag("read-only", kind="bool", help="Mount the container's root filesystem as read only"),
    Flag("security-opt", kind="list", help="Security Options", parse=values.security_option),
    Flag("sysctl", kind="map", help="Sysctl options", parse=values_limits.sysctl),
)

_NAMESPACES = (
    Flag("cgroup-parent", help="Optional parent cgroup for the container"),
    Flag("cgroupns", help="Cgroup namespace to use (host|private)\n"
         "'host':    the host's\n'private': its own\n"
         "'':        private on cgroup v2, host on v1 (default)"),
    Flag("ipc", help="IPC mode to use"),
    Flag("pid", help="PID namespace to use"),
    Flag("userns", help="User namespace to use", parse=_user_namespace),
    Flag("uts", help="UTS namespace to use"),
)  # fmt: skip

_NETWORK = (
    Flag(
        "add-host",
        kind="list",
        help="Add a custom host-to-IP mapping (host:ip)",
        parse=values_network.extra_host,
    ),
    Flag("dns", kind="list", help="Set custom DNS servers", parse=values_network.ip_address),
    Flag("dns-opt", kind="list", parse=values_network.dns_option, same_as="dns-option"),
    Flag("dns-option", kind="list", help="Set DNS options", parse=values_network.dns_option),
    Flag("dns-search", kind="list", help="Set custom DNS search domains", parse=values_network.dns_search),
    Flag("expose", kind="list", help="Expose a port or a range of ports", parse=values_network.exposed_ports),
    Flag("ip", help="IPv4 address (e.g., 172.30.100.104)", parse=values_network.ipv4_address),
    Flag("ip6", help="IPv6 address (e.g., 2001:db8::33)", parse=values_network.ipv6_address),
    Flag(
        "mac-address",
        help="Container MAC address (e.g., 92:d0:c6:0a:29:33)",
        parse=values_network.mac_address,
    ),
    Flag("net", kind="network", same_as="network"),
    Flag(
        "network",
        kind="network",
        help="Connect a container to a network (bridge, none, host, container:NAME)",
    ),
    Flag("publish", "p", "list", "Publish a container's port(s) to the host", parse=values_network.publish),
    Flag("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
)

_STORAGE = (
    Flag("device", kind="list", help="Add a host device to the container", parse=values_limits.device),
    Flag("device-cgroup-rule", kind="list", help="Add a rule to the cgroup allowed devices list",
         parse=values_limits.device_cgroup_rule),
    Flag("mount", kind="mount", help="Attach a filesystem mount to the container", parse=values_mounts.mount),
    Flag("shm-size", kind="bytes", help="Size of /dev/shm", default=0, parse=values.size_bytes),
    Flag("tmpfs", kind="list", help="Mount a tmpfs directory", parse=values_mounts.tmpfs),
    Flag("volume", "v", "list", "Bind mount a volume", parse=values_mounts.volume),
)  # fmt: skip

_RESOURCES = (
    Flag("blkio-weight", kind="uint16", default=0,
         help="Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
         parse=values_limits.blkio_weight),
    Flag("blkio-weight-device", kind="list", help="Block IO weight (relative device weight)",
         parse=values_limits.weight_device),
    Flag("cpu-period", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", kind="int", help="Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", kind="decimal", help="Number of CPUs", default=0, parse=values.nano_cpus),
    Flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)", parse=values_limits.cpu_list),
    Flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)", parse=values_limits.cpu_list),
    Flag("device-read-bps", kind="list", help="Limit read rate (bytes per second) from a device",
         parse=values_limits.throttle_bps),
    Flag("device-read-iops", kind="list", help="Limit read rate (IO per second) from a device",
         parse=values_limits.throttle_iops),
    Flag("device-write-bps", kind="list", help="Limit write rate (bytes per second) to a device",
         parse=values_limits.throttle_bps),
    Flag("device-write-iops", kind="list", help="Limit write rate (IO per second) to a device",
         parse=values_limits.throttle_iops),
    Flag("memory", "m", "bytes", "Memory limit", 0, parse=values.size_bytes),
    Flag("memory-reservation", kind="bytes", help="Memory soft limit", default=0, parse=values.size_bytes),
    Flag("memory-swap", kind="bytes",
         help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
         default=0, parse=values.swap_bytes),
    Flag("memory-swappiness", kind="int", help="Tune container memory swappiness (0 to 100)", default=-1),
    Flag("oom-kill-disable", kind="bool", help="Disable OOM Killer"),
    Flag("oom-score-adj", kind="int", help="Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pids-limit", kind="int", help="Tune container pids limit (set -1 for unlimited)"),
)  # fmt: skip

_PLAN = (
    Flag("dry-run", kind="bool", help="Print the steps of the start and do none of them"),
    Flag("explain", help="Print the steps of the start, and what each did and took, on stderr (text or json)",
         implied="text", parse=_explain_form),
)  # fmt: skip

_RUN_ONLY = (
    Flag("detach", "d", "bool", "Run container in background and print container ID"),
    Flag("sig-proxy", kind="bool", help="Proxy received signals to the process", default=True),
)

_HEALTH = "health checks are not run yet"
_WINDOWS = "it is for Windows containers"
_NO_NETWORKS = "the bridge is the only network yet; there are none to define"
# What docker has and minicontainer has not: name -> why, and what to do where that is not obvious.
_REFUSED = {
    "cpu-count": _WINDOWS,
    "cpu-percent": _WINDOWS,
    "cpu-rt-period": "the kernels of today's distributions are built without real-time group scheduling",
    "cpu-rt-runtime": "the kernels of today's distributions are built without real-time group scheduling",
    "detach-keys": "a container in the foreground is a child of its command; start it with -d to leave it",
    "disable-content-trust": "docker content trust is gone from docker too",
    "gpus": "it needs the vendor's hook; give the device nodes with --device",
    "health-cmd": _HEALTH,
    "health-interval": _HEALTH,
    "health-retries": _HEALTH,
    "health-start-interval": _HEALTH,
    "health-start-period": _HEALTH,
    "health-timeout": _HEALTH,
    "io-maxbandwidth": _WINDOWS,
    "io-maxiops": _WINDOWS,
    "isolation": _WINDOWS,
    "kernel-memory": "Linux no longer has this limit; --memory counts kernel memory",
    "link": _NO_NETWORKS + "; use --add-host",
    "link-local-ip": _NO_NETWORKS,
    "net-alias": _NO_NETWORKS,
    "network-alias": _NO_NETWORKS,
    "runtime": "it is the runtime; docker and podman can use minicontainer-oci as theirs",
    "storage-opt": "a container's files are limited by the filesystem they lie on",
    "use-api-socket": "there is no daemon and no API socket",
    "volume-driver": "volumes are directories of this host",
    "volumes-from": "name the volumes with -v in both containers",
}

CREATE_FLAGS = (
    *_PROCESS, *_CONTAINER, *_SECURITY, *_NAMESPACES, *_NETWORK, *_STORAGE, *_RESOURCES, *_PLAN,
    Flag("help", kind="bool", help="Print usage"),
    *(Flag(name, refused=reason) for name, reason in _REFUSED.items()),
)  # fmt: skip
RUN_FLAGS = (*CREATE_FLAGS, *_RUN_ONLY)
