"""The five capability sets of a process as ops (capabilities(7), config.md "Linux Process")."""

from __future__ import annotations

from struct import pack

from minicontainer.kernel.flags import CAPABILITIES, PR, PR_CAP_AMBIENT
from minicontainer.runtime.builder import Ops
from minicontainer.stub.ops import Blob

_VERSION_3 = 0x20080522
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


class Sets:
    """The sets asked for, as bit masks by name. What this kernel does not know, or we may not give, is left out with a warning.

    process: OCI's; without capabilities it has none, as in runc and crun.
    """

    def __init__(self, process: dict, warnings: list[str]) -> None:
        asked = process.get("capabilities") or {}
        self._known = CAPABILITIES[: last_capability() + 1]
        can = held() & (1 << len(self._known)) - 1
        numbers = {name: number for number, name in enumerate(CAPABILITIES)}
        self.masks: dict[str, int] = {}
        missing: dict[str, None] = {}
        for kind in SETS:
            mask = 0
            for name in asked.get(kind) or ():
                number = numbers.get(name)
                if number is None or not can >> number & 1:
                    missing[name] = None
                else:
                    mask |= 1 << number
            self.masks[kind] = mask
        may = self.masks["permitted"] & self.masks["inheritable"]
        for name, number in numbers.items():
            # Without any inheritable one nothing is meant by them: `runc spec` of 1.1 writes such configs.
            if self.masks["inheritable"] and self.masks["ambient"] & ~may & 1 << number:
                warnings.append(f"can't raise ambient capability {name}: it is not permitted and inheritable as well")
        self.masks["ambient"] &= may
        if missing:
            warnings.append(f"ignoring unknown or unavailable capabilities: [{' '.join(missing)}]")

    def bound(self, ops: Ops) -> None:
        """The bounding set: before the user is changed, since it takes CAP_SETPCAP."""
        for number, name in enumerate(self._known):
            if not self.masks["bounding"] >> number & 1:
                ops.call("prctl", PR["PR_CAPBSET_DROP"], number, 0, 0, 0, why=f"{name} can't be had any more, by no program")

    def keep(self, ops: Ops) -> None:
        """Before the user is changed."""
        ops.call("prctl", PR["PR_SET_KEEPCAPS"], 1, 0, 0, 0, why="keep the permitted set over setresuid, to set all sets as asked")

    def set(self, ops: Ops, *, kept: bool) -> None:
        """The other sets, after the user was changed (which clears them)."""
        if kept:
            ops.call("prctl", PR["PR_SET_KEEPCAPS"], 0, 0, 0, 0, why="no longer")
        effective, permitted, inheritable, ambient = (self.masks[kind] for kind in SETS[1:])
        low = 0xFFFFFFFF
        data = pack("6I", effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32)
        text = f"effective={effective:#x} permitted={permitted:#x} inheritable={inheritable:#x}"
        ops.call("capset", Blob(pack("Ii", _VERSION_3, 0), "version 3, self"), Blob(data, text), why="exactly these capabilities")
        clear, put = PR_CAP_AMBIENT["PR_CAP_AMBIENT_CLEAR_ALL"], PR_CAP_AMBIENT["PR_CAP_AMBIENT_RAISE"]
        ops.call("prctl", PR["PR_CAP_AMBIENT"], clear, 0, 0, 0, why="none survive an execve by themselves")
        for number, name in enumerate(CAPABILITIES):
            if ambient >> number & 1:
                ops.call("prctl", PR["PR_CAP_AMBIENT"], put, number, 0, 0, ok=(1,), why=f"but {name} does: asked for")


def last_capability(proc: str = "/proc") -> int:
    """The highest capability that this kernel knows."""
    with open(f"{proc}/sys/kernel/cap_last_cap", "rb") as f:
        return int(f.read())


def held(proc: str = "/proc") -> int:
    """The caller's own bounding set: what it lacks, nobody can give."""
    with open(f"{proc}/self/status", "rb") as f:
        for line in f:
            if line.startswith(b"CapBnd:"):
                return int(line[7:], 16)
    return (1 << 64) - 1
