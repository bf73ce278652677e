"""What the kernel's own files say of a container, for metrics to be held against.

Written apart from minicontainer.cgroup on purpose: nothing here asks minicontainer. The groups are found by the container's
process (/proc/PID/cgroup, cgroups(7)) and the mount table, the network by /proc/PID/net/dev (proc(5)).
"""

from __future__ import annotations

import os

Figures = dict[str, float]

# What can only rise while a container lives. Its name in figures() is the metric's.
COUNTERS = (
    "container_cpu_usage_seconds_total",
    "container_cpu_user_seconds_total",
    "container_cpu_system_seconds_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_network_receive_bytes_total",
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_packets_total",
    "container_oom_events_total",
)
PRESSURE = tuple(f"container_pressure_{what}_{kind}_seconds_total"
                 for what in ("cpu", "memory", "io") for kind in ("waiting", "stalled"))
# What stays as it was asked for.
LIMITS = (
    "container_spec_memory_limit_bytes",
    "container_spec_cpu_quota",
    "container_spec_cpu_period",
    "container_threads_max",
)
GAUGES = (
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_threads",
)


class Groups:
    """The cgroup directories of the container whose first process is `pid`; "" is the name of the v2 tree."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        roots = _mounted()
        self.directories: dict[str, str] = {}
        with open(f"/proc/{pid}/cgroup") as file:
            for line in file.read().splitlines():
                _, controllers, path = line.split(":", 2)
                for controller in controllers.split(","):
                    if controller in roots:
                        self.directories[controller] = roots[controller] + path

    def path(self, v1_controller: str, v1_file: str, v2_file: str) -> str:
        """The file of whichever tree has the controller."""
        v1 = self.directories.get(v1_controller)
        return f"{v1}/{v1_file}" if v1 else f"{self.directories['']}/{v2_file}"

    def number(self, v1_controller: str, v1_file: str, v2_file: str) -> int:
        """The one number of a file."""
        return int(read(self.path(v1_controller, v1_file, v2_file)))

    def keyed(self, v1_controller: str, v1_file: str, v2_file: str) -> dict[str, int]:
        """A file of "key number" lines."""
        return _keyed(read(self.path(v1_controller, v1_file, v2_file)))

    def has_pressure(self) -> bool:
        """Whether the kernel counts pressure for this group."""
        return "" in self.directories and os.path.exists(f"{self.directories['']}/cpu.pressure")

    def oom_kills(self) -> int:
        """Processes that were killed for want of memory."""
        return self.keyed("memory", "memory.oom_control", "memory.events")["oom_kill"]

    def figures(self) -> Figures:
        """All figures now of a container with all limits, by the metric that is to say the same."""
        cpu = self._cpu()
        throttling = self.keyed("cpu", "cpu.stat", "cpu.stat")
        v1_throttled = throttling.get("throttled_time")
        throttled = v1_throttled / 1e9 if v1_throttled is not None else throttling["throttled_usec"] / 1e6
        out = {
            **cpu,
            "container_cpu_cfs_periods_total": throttling["nr_periods"],
            "container_cpu_cfs_throttled_periods_total": throttling["nr_throttled"],
            "container_cpu_cfs_throttled_seconds_total": throttled,
            "container_oom_events_total": self.oom_kills(),
            "container_threads": self.number("pids", "pids.current", "pids.current"),
            "container_threads_max": self.number("pids", "pids.max", "pids.max"),
            **self._quota(),
            **self._memory(),
        }
        if self.has_pressure():
            out.update(self._pressure())
        return out | network(self.pid)

    def _cpu(self) -> Figures:
        if "" in self.directories:  # the v2 tree counts CPU time whether or not it has the controller
            used = _keyed(read(f"{self.directories['']}/cpu.stat"))
            return {f"container_cpu_{name}_seconds_total": used[f"{name}_usec"] / 1e6 for name in ("usage", "user", "system")}
        files = {"usage": "cpuacct.usage", "user": "cpuacct.usage_user", "system": "cpuacct.usage_sys"}
        group = self.directories["cpuacct"]
        return {f"container_cpu_{name}_seconds_total": int(read(f"{group}/{file}")) / 1e9 for name, file in files.items()}

    def _quota(self) -> Figures:
        if "cpu" in self.directories:
            words = [read(f"{self.directories['cpu']}/cpu.cfs_{name}_us") for name in ("quota", "period")]
        else:
            words = read(f"{self.directories['']}/cpu.max").split()
        return {"container_spec_cpu_quota": int(words[0]), "container_spec_cpu_period": int(words[1])}

    def _memory(self) -> Figures:
        usage = self.number("memory", "memory.usage_in_bytes", "memory.current")
        stat = self.keyed("memory", "memory.stat", "memory.stat")
        inactive = stat["total_inactive_file" if "memory" in self.directories else "inactive_file"]
        return {
            "container_memory_usage_bytes": usage,
            "container_memory_working_set_bytes": max(0, usage - inactive),
            "container_memory_rss": stat["total_rss" if "memory" in self.directories else "anon"],
            "container_spec_memory_limit_bytes": self.number("memory", "memory.limit_in_bytes", "memory.max"),
        }

    def _pressure(self) -> Figures:
        out = {}
        for what in ("cpu", "memory", "io"):
            for line in read(f"{self.directories['']}/{what}.pressure").splitlines():
                kind = {"some": "waiting", "full": "stalled"}[line.split()[0]]
                out[f"container_pressure_{what}_{kind}_seconds_total"] = int(line.rpartition("total=")[2]) / 1e6
        return out


def network(pid: int, interface: str = "eth0") -> Figures:
    """Bytes and packets of an interface in a process's network namespace."""
    line = next(line for line in read(f"/proc/{pid}/net/dev").splitlines() if line.strip().startswith(f"{interface}:"))
    columns = [int(word) for word in line.partition(":")[2].split()]
    names = ("receive_bytes", "receive_packets", "transmit_bytes", "transmit_packets")
    return {f"container_network_{name}_total": columns[index] for name, index in zip(names, (0, 1, 8, 9), strict=True)}


def read(path: str) -> str:
    """A file of the kernel, without its last newline."""
    with open(path) as file:
        return file.read().rstrip("\n")


def _keyed(text: str) -> dict[str, int]:
    return {key: int(number) for key, number in (line.split() for line in text.splitlines())}


def _mounted() -> dict[str, str]:
    """Mount point by v1 controller, "" for the v2 tree."""
    out: dict[str, str] = {}
    for line in read("/proc/self/mounts").splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2":
            out.setdefault("", where)
        elif kind == "cgroup":
            for option in options.split(","):
                out.setdefault(option, where)
    return out
