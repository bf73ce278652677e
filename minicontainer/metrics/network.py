"""Network figures of a container, from /proc/PID/net/dev (proc(5)).

What is kept from scrape to scrape is a descriptor of /proc/PID: it means this process for ever, and holds none of it. One of
net/dev itself would keep the network namespace of a dead container.
"""

from __future__ import annotations

import os

from minicontainer.metrics.notes import Notes
from minicontainer.metrics.source import Record

_READ_BYTES = 65536
# Columns behind "NAME:" in the order of families.NETWORK: receive bytes, packets, errs, drop; transmit the same.
_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)
_SHARED = {
    "host": "the container uses the host's network: its traffic is in the row of the host",
    "container": "the container shares the network of another, whose row has the traffic",
}


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


class Network:
    """The interfaces of one running container that has a network namespace of its own."""

    __slots__ = ("_fd", "_notes", "_path", "_shared")

    def __init__(self, record: Record, notes: Notes, proc: str = "/proc") -> None:
        self._path = f"{proc}/{record.pid}"
        self._shared = _SHARED.get(record.network.partition(":")[0])
        self._notes = notes
        self._fd = -1

    def read(self) -> list[tuple[str, list[int]]]:
        """(interface, values); [] if it has none, or another's."""
        if self._shared:
            self._notes.left_out("container_network_*", self._shared)
            return []
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            fd = os.open("net/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                return parse(os.read(fd, _READ_BYTES))
            finally:
                os.close(fd)
        except (FileNotFoundError, ProcessLookupError):
            return []  # it ended since its record was read
        except OSError as e:  # EINVAL: a process that is just ending has no network any more
            self._notes.failed("network", e)
            return []

    def close(self) -> None:
        """Lets the descriptor go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def of_host(proc: str = "/proc", sys: str = "/sys") -> list[tuple[str, list[int]]]:
    """The host's own interfaces; virtual ones (bridges, veths, tunnels) would count the same traffic again."""
    with open(f"{proc}/net/dev", "rb", buffering=0) as f:
        interfaces = parse(f.read(_READ_BYTES))
    return [(name, values) for name, values in interfaces if not os.path.exists(f"{sys}/devices/virtual/net/{name}")]
