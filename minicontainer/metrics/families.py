"""The table of what is exported: name, type, help, and the key under which readers leave the value of a container.

The container_* names, labels and meanings are cAdvisor's, so that dashboards and rules made for it work: 32 families that
they read, PSI, and threads. What cAdvisor has no name for is minicontainer_*.
"""

from __future__ import annotations


class Family:
    """name, kind ("counter" or "gauge"), key (see the readers), help."""

    __slots__ = ("help", "key", "kind", "name")

    def __init__(self, name: str, kind: str, key: str, help: str) -> None:
        self.name = name
        self.kind = kind
        self.key = key
        self.help = help


# One row for each container and one for the host (id="/"), whose key is a number in Row.numbers.
CONTAINER = tuple(
    Family(*line)
    for line in (
        ("container_cpu_usage_seconds_total", "counter", "cpu_usage_seconds", "CPU time used."),
        ("container_cpu_user_seconds_total", "counter", "cpu_user_seconds", "CPU time used in user mode."),
        ("container_cpu_system_seconds_total", "counter", "cpu_system_seconds", "CPU time used in kernel mode."),
        ("container_cpu_cfs_periods_total", "counter", "cfs_periods", "Periods in which a CPU quota was in force and used."),
        (
            "container_cpu_cfs_throttled_periods_total",
            "counter",
            "cfs_throttled_periods",
            "Periods in which the CPU quota ran out.",
        ),
        ("container_cpu_cfs_throttled_seconds_total", "counter", "cfs_throttled_seconds", "Time spent waiting for CPU quota."),
        ("container_memory_usage_bytes", "gauge", "memory_usage_bytes", "Memory charged, page cache included."),
        ("container_memory_working_set_bytes", "gauge", "memory_working_set_bytes", "Memory charged less inactive page cache."),
        ("container_memory_rss", "gauge", "memory_rss_bytes", "Anonymous memory, in bytes."),
        ("container_memory_cache", "gauge", "memory_cache_bytes", "Page cache, in bytes."),
        ("container_memory_swap", "gauge", "memory_swap_bytes", "Swap used, in bytes."),
        ("container_fs_reads_total", "counter", "io_reads", "Reads from disks."),
        ("container_fs_writes_total", "counter", "io_writes", "Writes to disks."),
        ("container_fs_reads_bytes_total", "counter", "io_read_bytes", "Bytes read from disks."),
        ("container_fs_writes_bytes_total", "counter", "io_write_bytes", "Bytes written to disks."),
        (
            "container_fs_usage_bytes",
            "gauge",
            "fs_usage_bytes",
            "Disk used by the writable layer, up to some minutes ago; for the host, by the file system of the data root.",
        ),
        ("container_fs_inodes_free", "gauge", "fs_inodes_free", "Free inodes of the file system that holds the writable layer."),
        ("container_fs_inodes_total", "gauge", "fs_inodes_total", "Inodes of the file system that holds the writable layer."),
        ("container_spec_cpu_quota", "gauge", "cpu_quota_microseconds", "CPU quota in microseconds a period; absent without one."),
        ("container_spec_cpu_period", "gauge", "cpu_period_microseconds", "Period of the CPU quota in microseconds."),
        ("container_spec_memory_limit_bytes", "gauge", "spec_memory_limit_bytes", "Memory limit; 0 without one."),
        ("container_last_seen", "gauge", "last_seen", "Time at which it was last seen running, in seconds since the epoch."),
        ("container_start_time_seconds", "gauge", "start_time_seconds", "Time of its last start, in seconds since the epoch."),
        ("container_oom_events_total", "counter", "oom_kills", "Processes killed for want of memory, since its last start."),
        ("container_threads", "gauge", "pids", "Processes and threads."),
        ("container_threads_max", "gauge", "pids_limit", "Limit of processes and threads; absent without one."),
        *(
            (
                f"container_pressure_{what}_{kind}_seconds_total",
                "counter",
                f"pressure_{what}_{kind}_seconds",
                f"Time in which {who} waited for {what} (pressure stall information).",
            )
            for what in ("cpu", "memory", "io")
            for kind, who in (("waiting", "a task"), ("stalled", "all tasks at once"))
        ),
        ("minicontainer_container_exit_code", "gauge", "exit_code", "Exit code of its last run, 128 + n after signal n."),
        ("minicontainer_container_restarts_total", "counter", "restarts", "Restarts since it was created."),
        (
            "minicontainer_container_finished_time_seconds",
            "gauge",
            "finished_time_seconds",
            "Time at which it ended, in seconds since the epoch.",
        ),
    )
)

# With a label `interface`, one value for each column of /proc/PID/net/dev (network.py).
NETWORK = tuple(
    Family(f"container_network_{way}_{what}_total", "counter", "", f"{text} {done}.")
    for way, done in (("receive", "received"), ("transmit", "sent"))
    for what, text in (
        ("bytes", "Bytes"),
        ("packets", "Packets"),
        ("errors", "Broken packets"),
        ("packets_dropped", "Packets dropped instead of being"),
    )
)

STATE = Family(
    "minicontainer_container_state", "gauge", "", "1 for the state that it is in: created, running, paused, exited or removed."
)

# Of the exporter itself; the names are prometheus_client's.
PROCESS = (
    Family("process_cpu_seconds_total", "counter", "", "CPU time used by the exporter."),
    Family("process_resident_memory_bytes", "gauge", "", "Memory of the exporter."),
)
