"""What running containers use now: two looks at their cgroups and network, and the difference."""

from __future__ import annotations

import os
from time import monotonic, sleep

from minicontainer.cgroup.accounting import stats
from minicontainer.engine import attach_network
from minicontainer.engine.container import Container
from minicontainer.engine.options import RunOptions
from minicontainer.runtime.cgroups import hierarchy


class Usage:
    """numbers: cgroup.accounting's; cpu_percent of one CPU; network: (received, sent) bytes, None where it is the host's."""

    __slots__ = ("container", "cpu_percent", "network", "numbers")

    def __init__(
        self, container: Container, numbers: dict[str, float], cpu_percent: float, network: tuple[int, int] | None
    ) -> None:
        self.container = container
        self.numbers = numbers
        self.cpu_percent = cpu_percent
        self.network = network


def measure(containers: list[Container], seconds: float = 1.0) -> list[Usage]:
    """The usage of those of these containers that run, over so many seconds."""
    states = [(c, s) for c in containers if (s := c.live())]
    before = [_cpu_seconds(s["cgroup"]) for _, s in states]
    began = monotonic()
    sleep(seconds)
    found = []
    for (container, state), cpu in zip(states, before, strict=True):
        numbers = stats(hierarchy(), state["cgroup"])
        if numbers:
            spent = numbers.get("cpu_usage_seconds", 0) - cpu
            found.append(Usage(container, numbers, 100 * spent / (monotonic() - began), _network(container, state["pid"])))
    return found


def _cpu_seconds(cgroup: str) -> float:
    return stats(hierarchy(), cgroup).get("cpu_usage_seconds", 0)


def _network(container: Container, pid: int) -> tuple[int, int] | None:
    """Bytes received and sent by all links but lo (proc_pid_net(5), dev); a host-network container's would be the host's."""
    if attach_network.mode_of(RunOptions(**container.record["options"])) in ("host", "container"):
        return None
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev") as f:
            for line in f.readlines()[2:]:
                name, _, counters = line.partition(":")
                if name.strip() != "lo":
                    fields = counters.split()
                    received, sent = received + int(fields[0]), sent + int(fields[8])
    except FileNotFoundError:
        return None
    return received, sent


def memory_total_bytes() -> int:
    """The host's memory: the limit of whoever has none."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
