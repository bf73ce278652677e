"""The systemd cgroup driver: a container's group is that of a transient scope, which systemd makes and removes.

systemd owns the tree from its root down, so where it runs a group is asked for, over D-Bus:

    clone3 ──▶ the stub (born in our own group) ──▶ … waits
    adopt(pid): StartTransientUnit, Delegate=yes, PIDs=[pid], limits as properties ──▶ systemd moves the process
    enter_ops(pid): all limits in the group's files too, and the trees that systemd does not manage ──▶ go

Delegate=yes gives what is below the unit to the container. The limits stand in both places, because systemd writes its
properties anew when it likes (daemon-reload), and has none for many files.

Without the host's root it is the user's own systemd (user@UID.service), over the user's bus, and the tree is what was delegated
to that: the unit lies below its manager's group, which the unit's name has as its fourth part.
"""

from __future__ import annotations

from minicontainer.cgroup import making
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy
from minicontainer.errors import Unsupported, UsageError
from minicontainer.stub.ops import Op, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cgroup.settings import Setting
    from minicontainer.cgroup.unit_properties import Property

_DEFAULT_SLICE = "system.slice"
_DEFAULT_SLICE_OF_USERS = "user.slice"
_PREFIX = "minicontainer"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_UNIT_NAME_MAX = 255


def full_name(asked: str, ident: str, manager: str = "") -> str:
    """linux.cgroupsPath "slice:prefix:name" with what it leaves out, and ":manager" if that is given.

    manager: the group of a user's systemd (dbus.user_manager). UsageError in runc's words for another form.
    """
    parts = asked.split(":") if asked else ["", _PREFIX, ident]
    if len(parts) != 3:
        raise UsageError(f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{asked}" instead')
    slice_, prefix, name = parts
    slice_ = slice_ or (_DEFAULT_SLICE_OF_USERS if manager else _DEFAULT_SLICE)
    expand(slice_)
    unit = unit_name(prefix, name)
    if not name or not set(unit) <= _LETTERS or len(unit) > _UNIT_NAME_MAX:
        raise UsageError(
            f'"{unit}" is not the name of a systemd unit', "letters, digits and : - _ . \\ @, at most 255 (systemd.unit(5))"
        )
    if name.endswith(".slice"):
        raise UsageError(
            f'cgroupsPath "{asked}" names a slice, which has no processes of its own', "name a scope, like x:docker:web"
        )
    return ":".join([slice_, prefix, name, *([manager] if manager else [])])


def unit_name(prefix: str, name: str) -> str:
    """The scope, as runc names it."""
    return f"{prefix}-{name}.scope"


def expand(slice_: str) -> str:
    """Where a slice is: "a-b.slice" lies in "a.slice" (systemd.slice(5)). UsageError for a name that is none."""
    name = slice_.removesuffix(".slice")
    if name == "-" and slice_ == "-.slice":
        return ""
    parts = name.split("-")
    if name == slice_ or "" in parts or not set(slice_) <= _LETTERS:
        raise UsageError(f"invalid slice name: {slice_}", "like system.slice or a-b.slice")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


class Unit(Cgroup):
    """The group of a scope; name: as of full_name()."""

    born_outside = True  # systemd moves the process; it can't be born in a group that does not exist before it

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        slice_, prefix, short, *manager = name.split(":", 3)
        self.slice = slice_
        self.unit = unit_name(prefix, short)
        self._of_user = bool(manager)
        super().__init__(hierarchy, f"{''.join(manager)}{expand(slice_)}/{self.unit}")
        self._resources: dict = {}

    def sweep(self) -> tuple[list[str], list[list[str]]]:
        """systemd has its part in it."""
        return [], []

    def settings(self, resources: dict) -> list[Setting]:
        """As of Cgroup, with the quota that systemd can hold."""
        from minicontainer.cgroup.unit_properties import round_quota

        return super().settings(round_quota(resources))

    def create_ops(self, resources: dict) -> list[Op]:
        """None yet: systemd makes the group. But what is wrong with the limits, or in the way, is told now."""
        if self._of_user and self.hierarchy.mode != "v2":
            raise Unsupported(
                "--systemd-cgroup without root needs cgroup v2: v1 groups are never delegated", "run it as root, or boot with v2"
            )
        self._resources = resources
        self.settings(resources)
        making.existing_ops(self.directories(), self.frozen)
        return []

    def adopt(self, pid: int, annotations: dict[str, str]) -> None:
        """Has systemd start the scope with the process in it, and waits for that. SystemdError if it refuses."""
        from minicontainer.cgroup import dbus, unit_properties

        v2 = self.hierarchy.mode == "v2"
        properties: list[Property] = [
            ("Description", ("s", f"minicontainer container {self.unit}")),
            ("Slice", ("s", self.slice)),
            ("Delegate", ("b", True)),
            ("PIDs", ("au", [pid])),
            ("MemoryAccounting", ("b", True)),
            ("CPUAccounting", ("b", True)),
            ("IOAccounting" if v2 else "BlockIOAccounting", ("b", True)),
            ("TasksAccounting", ("b", True)),
            ("DefaultDependencies", ("b", False)),
            # A scope that ended by the OOM killer would stay as failed, under the name that the next one wants.
            ("CollectMode", ("s", "inactive-or-failed")),
            *unit_properties.of_annotations(annotations),
        ]
        with dbus.Systemd(of_user=self._of_user) as systemd:
            properties += self._limits(self._resources, systemd.version())
            try:
                systemd.start(self.unit, properties)
            except dbus.SystemdError as e:
                if e.name != dbus.UNIT_EXISTS:
                    raise
                systemd.reset_failed(self.unit)  # one that ended long ago may still be remembered
                systemd.start(self.unit, properties)

    def _limits(self, resources: dict, version: int) -> list[Property]:
        from minicontainer.cgroup import unit_properties

        v2 = self.hierarchy.mode == "v2"
        out = unit_properties.of_resources(resources, v2=v2, version=version)
        if resources.get("devices") and not v2:
            out += unit_properties.of_devices(resources["devices"])
        return out

    def enter_ops(self, pid: int = 0) -> list[Op]:
        """After adopt(): host ops that set all limits, and put the process into the trees that systemd does not manage."""
        ops = self._make_ops(self.settings(self._resources), self._resources) if pid else []
        ops += super().enter_ops(pid)
        unified = self.unified_dir()
        if pid and unified and self.hierarchy.mode == "hybrid":
            ops.append(write_file(f"{unified}/cgroup.procs", str(pid), why="the process enters the group"))
        return ops

    def announce(self, resources: dict) -> None:
        """Tells systemd the limits that update_ops is about to set."""
        from minicontainer.cgroup import dbus

        self.settings(resources)  # what is wrong is told before anything has changed
        with dbus.Systemd(of_user=self._of_user) as systemd:
            properties = self._limits(resources, systemd.version())
            if properties:
                systemd.set(self.unit, properties)

    def remove(self, timeout_seconds: float = 2.0) -> None:
        """Has systemd stop the scope, and removes what is left in any tree."""
        from minicontainer.cgroup import dbus

        with dbus.Systemd(of_user=self._of_user) as systemd:
            systemd.stop(self.unit)
        super().remove(timeout_seconds)
