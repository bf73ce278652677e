"""What the exporter needs to know of containers, and from whom."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Source(Protocol):
        """Whoever knows the containers (engine_source.EngineSource; tests have their own)."""

        phases: str  # path of the start-phase histogram (runtime/phases.py), "" if there is none

        def records(self) -> Iterable[Record]:
            """Every container that exists, running or not, and those that were OOM-killed and removed a while ago."""


class Record:
    """One container.

    ident, name, image; cgroup: its path below every hierarchy's root; pid: of its first process in our pid namespace, 0 if
    it does not run; state: created, running, paused, exited or removed; exit_code: None while unknown; oom_kills: at its
    last end, None while it runs; restarts; started, finished: seconds since the epoch, 0 if never; network: "bridge",
    "none", "host" or "container:ID"; labels; upper: its writable layer's folder, "" if it has none.
    """

    __slots__ = (
        "cgroup",
        "exit_code",
        "finished",
        "ident",
        "image",
        "labels",
        "name",
        "network",
        "oom_kills",
        "pid",
        "restarts",
        "started",
        "state",
        "upper",
    )

    def __init__(
        self,
        ident: str,
        *,
        name: str = "",
        image: str = "",
        cgroup: str = "",
        pid: int = 0,
        state: str = "created",
        exit_code: int | None = None,
        oom_kills: int | None = None,
        restarts: int = 0,
        started: float = 0,
        finished: float = 0,
        network: str = "bridge",
        labels: dict[str, str] | None = None,
        upper: str = "",
    ) -> None:
        self.ident = ident
        self.name = name
        self.image = image
        self.cgroup = cgroup
        self.pid = pid
        self.state = state
        self.exit_code = exit_code
        self.oom_kills = oom_kills
        self.restarts = restarts
        self.started = started
        self.finished = finished
        self.network = network
        self.labels = labels or {}
        self.upper = upper

    def alive(self) -> bool:
        """Whether it should have a cgroup with processes."""
        return self.state in ("running", "paused")
