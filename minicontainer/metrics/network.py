"""Network figures of a container, from /proc/PID/net/dev (proc(5)).

No descriptor of it is kept from scrape to scrape: that would keep the network namespace of a dead container.
"""

from __future__ import annotations

import os

from minicontainer.metrics.notes import Notes
from minicontainer.metrics.source import Record

_READ_BYTES = 65536
# Columns behind "NAME:" in the order of families.NETWORK: receive bytes, packets, errs, drop; transmit the same.
_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)
_SHARED = {"host": "the container uses the host's network: its traffic is in the row of the host",
           "container": "the container shares the network of another, whose row has the traffic"}


def parse(data: bytes) -> list[tuple[str, list[int]]]:
    """(interface, values) for each line but loopback's."""
    out = []
    for line in data.split(b"\n")[2:]:
        name, colon, rest = line.partition(b":")
        interface = name.strip()
        if colon and interface != b"lo":
            columns = rest.split()
            out.append((interface.decode(errors="replace"), [int(columns[i]) for i in _COLUMNS]))
    return out


def of_container(record: Record, notes: Notes, proc: str = "/proc") -> list[tuple[str, list[int]]]:
    """The interfaces of a running container that has a network namespace of its own."""
    reason = _SHARED.get(record.network.partition(":")[0])
    if reason:
        notes.left_out("container_network_*", reason)
        return []
    try:
        fd = os.open(f"{proc}/{record.pid}/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse(os.read(fd, _READ_BYTES))
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return []  # it ended since its record was read
    except OSError as e:  # EINVAL: a process that is just ending has no network any more
        notes.failed("network", e)
        return []


def of_host(proc: str = "/proc", sys: str = "/sys") -> list[tuple[str, list[int]]]:
    """The host's own interfaces; virtual ones (bridges, veths, tunnels) would count the same traffic again."""
    with open(f"{proc}/net/dev", "rb", buffering=0) as f:
        interfaces = parse(f.read(_READ_BYTES))
    return [(name, values) for name, values in interfaces if not os.path.exists(f"{sys}/devices/virtual/net/{name}")]
