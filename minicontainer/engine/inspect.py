"""A container as `docker inspect` shapes it, read from its files and the kernel."""

from __future__ import annotations

from datetime import UTC, datetime

from minicontainer.engine import attach_network
from minicontainer.engine.container import Container, read_json
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import command

_NEVER = "0001-01-01T00:00:00Z"


def rfc3339(nanoseconds: int | None) -> str:
    """docker's time stamps: UTC with nanoseconds; its zero for None."""
    if not nanoseconds:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"


def state_of(container: Container) -> dict:
    """State: Status, Running, Paused, OOMKilled, Pid, ExitCode, StartedAt, FinishedAt."""
    live, ended = container.live(), container.exit() or {}
    status = container.status()
    return {
        "Status": status,
        "Running": live is not None,
        "Paused": status == "paused",
        "Restarting": False,
        "OOMKilled": bool(ended.get("oom")) and live is None,
        "Dead": False,
        "Pid": live["pid"] if live else 0,
        "ExitCode": 0 if live else ended.get("exit_code", 0),
        "Error": "",
        "StartedAt": rfc3339((live or {}).get("started_ns") or ended.get("started_ns")),
        "FinishedAt": rfc3339(None if live else ended.get("finished_ns")),
    }


def inspect(container: Container) -> dict:
    """The whole of it."""
    record = container.record
    options = RunOptions(**record["options"])
    image = record["image_config"]
    argv = command(options, image)
    spec = read_json(f"{container.dir}/config.json") or {}
    process = spec.get("process", {})
    return {
        "Id": container.ident,
        "Created": rfc3339(record["created_ns"]),
        "Path": argv[0],
        "Args": argv[1:],
        "State": state_of(container),
        "Image": record["image_id"],
        "Name": f"/{container.name}",
        "ResolvConfPath": f"{container.dir}/resolv.conf",
        "HostnamePath": f"{container.dir}/hostname",
        "HostsPath": f"{container.dir}/hosts",
        "LogPath": container.log,
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "RunCommand": ["minicontainer", *record["argv"]],
        "HostConfig": _host_config(container, options),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "LowerDir": ":".join(record["layers"]),
                "UpperDir": f"{container.dir}/upper",
                "WorkDir": f"{container.dir}/work",
                "MergedDir": f"{container.dir}/merged",
            },
        },
        "Mounts": [
            {
                "Type": "bind" if m.get("type") == "bind" else m.get("type"),
                "Source": m.get("source", ""),
                "Destination": m["destination"],
                "RW": not {"ro", "rro"} & set(m.get("options") or ()),
            }
            for m in spec.get("mounts", ())
            if m.get("type") == "bind" and m["destination"] not in _OWN_FILES
        ],
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "Domainname": options.domainname,
            "User": options.user or image.get("User", ""),
            "Tty": options.tty,
            "OpenStdin": options.interactive,
            "Env": process.get("env") or image.get("Env") or [],
            "Cmd": options.args or image.get("Cmd"),
            "Image": record["image"],
            "WorkingDir": process.get("cwd") or image.get("WorkingDir", ""),
            "Entrypoint": options.entrypoint if options.entrypoint is not None else image.get("Entrypoint"),
            "Labels": {**(image.get("Labels") or {}), **options.labels},
        },
        "NetworkSettings": attach_network.settings(container, options),
    }


_OWN_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")


def _host_config(container: Container, options: RunOptions) -> dict:
    given = options.log_options
    return {
        "CgroupParent": options.cgroup_parent,
        "NetworkMode": options.network or "bridge",
        "AutoRemove": options.rm,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "CapAdd": options.cap_add,
        "CapDrop": options.cap_drop,
        "Memory": options.memory_bytes,
        "MemorySwap": options.memory_swap_bytes,
        "MemoryReservation": options.memory_reservation_bytes,
        "NanoCpus": options.nano_cpus,
        "CpuShares": options.cpu_shares,
        "CpuPeriod": options.cpu_period_us,
        "CpuQuota": options.cpu_quota_us,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "PidsLimit": options.pids_limit or None,
        "BlkioWeight": options.blkio_weight,
        "OomScoreAdj": options.oom_score_adj,
        "ShmSize": options.shm_size_bytes,
        "Sysctls": options.sysctls,
        "PidMode": options.pid_mode,
        "IpcMode": options.ipc_mode or "private",
        "UTSMode": options.uts_mode,
        "RestartPolicy": {"Name": options.restart[0], "MaximumRetryCount": options.restart[1]},
        "LogConfig": {"Type": options.log_driver or "json-file", "Config": {k: str(v) for k, v in given.items()}},
        "Init": bool(options.init),
        "PortBindings": options.publish,
    }
