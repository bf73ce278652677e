"""What a container is to be: `RunOptions`, the engine's public type for `run` and `create`.

Fields hold plain data with units resolved (JSON types throughout), so that options can be stored and read
back. The command line fills them with `from_flags`; users of the engine fill them directly. Either way
`options_check.check` follows: it refuses what contradicts itself or this host, in docker's words.
"""

from __future__ import annotations

import os

from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.values_limits import Device, DeviceRule
    from minicontainer.engine.values_mounts import Mount

_DEFAULTS: dict[str, Any] = {
    # what runs
    "image": "", "rootfs": "", "args": [], "entrypoint": None, "env": [], "workdir": "", "user": "",
    "group_add": [], "tty": False, "interactive": False, "init": None, "stop_signal": "", "stop_timeout":
    None,
    # how it is run and kept
    "name": "", "detach": False, "attach": [], "rm": False, "restart": ["no", 0], "labels": {},
    "annotations": {}, "cidfile": "", "sig_proxy": True, "log_driver": "",
    "log_options": {}, "explain": "", "dry_run": False,
    # namespaces; "" is the default of docker, else "host", "private", "none", "shareable", "container:NAME"
    "network": "", "pid_mode": "", "ipc_mode": "", "uts_mode": "", "cgroupns_mode": "", "userns_mode": "",
    # network
    "hostname": "", "domainname": "", "publish": [], "publish_all": False, "expose": [], "dns": [],
    "dns_search": [], "dns_options": [], "add_hosts": [], "ip": "", "ip6": "", "mac_address": "",
    # files
    "mounts": [], "read_only": False, "shm_size_bytes": 64 << 20, "devices": [], "device_cgroup_rules":
    [],
    # security; seccomp is "default", "unconfined" or the path of a profile
    "cap_add": [], "cap_drop": [], "privileged": False, "seccomp": "", "no_new_privileges": False, "mask":
    [], "unmask": [], "writable_cgroups": None,
    # resources; 0 or "" is no limit
    "memory_bytes": 0, "memory_swap_bytes": 0, "memory_reservation_bytes": 0, "memory_swappiness": -1,
    "oom_kill_disable": False, "oom_score_adj": 0, "nano_cpus": 0, "cpu_shares": 0, "cpu_quota_us": 0,
    "cpu_period_us": 0, "cpuset_cpus": "", "cpuset_mems": "", "pids_limit": 0, "blkio_weight": 0,
    "blkio_weight_device": [], "device_read_bps": [], "device_write_bps": [], "device_read_iops": [],
    "device_write_iops": [], "ulimits": [], "sysctls": {}, "cgroup_parent": "",
}  # fmt: skip


class RunOptions:
    """Everything that `run` and `create` can be asked for.

    Keyword arguments set fields; the others have docker's defaults. memory_swap_bytes is memory plus swap,
    -1 unlimited (0: twice the memory). pids_limit -1 is unlimited. init None means the configuration
    decides. entrypoint None keeps the image's, [] resets it. env holds "NAME=value", or "NAME" to remove
    the image's. ulimits: [name, soft, hard], -1 unlimited. restart: [policy, retries]. publish:
    "[ip:]host:container[/proto]" texts, as network.ports reads them. TypeError for an unknown field.
    """

    __slots__ = tuple(_DEFAULTS)
    if TYPE_CHECKING:
        image: str
        rootfs: str
        args: list[str]
        entrypoint: list[str] | None
        env: list[str]
        workdir: str
        user: str
        group_add: list[str]
        tty: bool
        interactive: bool
        init: bool | None
        stop_signal: str
        stop_timeout: int | None
        name: str
        detach: bool
        attach: list[str]
        rm: bool
        restart: list[Any]
        labels: dict[str, str]
        annotations: dict[str, str]
        cidfile: str
        sig_proxy: bool
        log_driver: str
        log_options: dict[str, int]
        explain: str
        dry_run: bool
        network: str
        pid_mode: str
        ipc_mode: str
        uts_mode: str
        cgroupns_mode: str
        userns_mode: str
        hostname: str
        domainname: str
        publish: list[str]
        publish_all: bool
        expose: list[str]
        dns: list[str]
        dns_search: list[str]
        dns_options: list[str]
        add_hosts: list[str]
        ip: str
        ip6: str
        mac_address: str
        mounts: list[Mount]
        read_only: bool
        shm_size_bytes: int
        devices: list[Device]
        device_cgroup_rules: list[DeviceRule]
        cap_add: list[str]
        cap_drop: list[str]
        privileged: bool
        seccomp: str
        no_new_privileges: bool
        mask: list[str]
        unmask: list[str]
        writable_cgroups: bool | None
        memory_bytes: int
        memory_swap_bytes: int
        memory_reservation_bytes: int
        memory_swappiness: int
        oom_kill_disable: bool
        oom_score_adj: int
        nano_cpus: int
        cpu_shares: int
        cpu_quota_us: int
        cpu_period_us: int
        cpuset_cpus: str
        cpuset_mems: str
        pids_limit: int
        blkio_weight: int
        blkio_weight_device: list[Any]
        device_read_bps: list[Any]
        device_write_bps: list[Any]
        device_read_iops: list[Any]
        device_write_iops: list[Any]
        ulimits: list[Any]
        sysctls: dict[str, str]
        cgroup_parent: str

    def __init__(self, **given: Any) -> None:
        for name, default in _DEFAULTS.items():
            value = given.pop(name, default)
            setattr(self, name, value.copy() if value is default and isinstance(value, list | dict) else value)
        if given:
            raise TypeError(f"RunOptions has no {', '.join(given)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON types; RunOptions(**it) is the same again."""
        return {name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default}


def from_flags(values: Any, args: list[str]) -> RunOptions:
    """RunOptions of parsed run flags (cli.flags.Values) and the arguments: IMAGE, then the command.

    With --rootfs there is no IMAGE. Raises UsageError; options_check has not seen it yet.
    """
    fields = ((_RENAMED.get(name) or name.replace("-", "_"), value) for name, value in values.items())
    given: dict[str, Any] = {field: value for field, value in fields if field in _DEFAULTS}
    if not values["rootfs"]:
        if not args:
            raise UsageError("'minicontainer run' requires at least 1 argument: IMAGE", "See 'minicontainer run --help'.")
        given["image"], args = args[0], args[1:]
    given["args"] = args
    if "entrypoint" in values:
        given["entrypoint"] = [values["entrypoint"]] if values["entrypoint"] else []
    given["env"] = [line for file in values["env-file"] for line in file] + list(values["env"])
    labels = [line for file in values["label-file"] for line in file] + list(values["label"])
    given["labels"] = {label.partition("=")[0]: label.partition("=")[2] for label in labels}
    given["mounts"] = [*values["volume"], *values["mount"], *values["tmpfs"]]
    given["expose"] = [port for ports in values["expose"] for port in ports]
    for name, field in (("annotation", "annotations"), ("sysctl", "sysctls"), ("log-opt", "log_options")):
        given[field] = dict(values[name])
    if values["ulimit"]:
        latest = {limit[0]: list(limit) for limit in values["ulimit"]}
        given["ulimits"] = [latest[name] for name in sorted(latest)]
    if len(values["network"]) > 1:
        raise UsageError("--network is given twice", "a container is connected to one network")
    if values["network"]:
        given["network"] = values["network"][0]
    for key, value in values["security-opt"]:
        _security_option(given, key, value)
    return RunOptions(**given)


# Where the field is not called as the flag is.
_RENAMED = {
    "add-host": "add_hosts", "cgroupns": "cgroupns_mode", "cpu-period": "cpu_period_us",
    "cpu-quota": "cpu_quota_us", "cpus": "nano_cpus", "device": "devices",
    "device-cgroup-rule": "device_cgroup_rules", "dns-option": "dns_options", "ipc": "ipc_mode",
    "memory": "memory_bytes", "memory-reservation": "memory_reservation_bytes",
    "memory-swap": "memory_swap_bytes", "pid": "pid_mode", "shm-size": "shm_size_bytes",
    "userns": "userns_mode", "uts": "uts_mode",
}  # fmt: skip


def _security_option(given: dict[str, Any], key: str, value: str) -> None:
    if key == "seccomp":
        given["seccomp"] = {"builtin": "default", "unconfined": value}.get(value) or os.path.abspath(value)
    elif key == "no-new-privileges":
        given["no_new_privileges"] = value == "true"
    elif key == "writable-cgroups":
        given["writable_cgroups"] = value == "true"
    elif key == "systempaths":
        given.setdefault("unmask", []).append("ALL")
    elif key in ("mask", "unmask"):
        given.setdefault(key, []).extend(value.split(":"))
