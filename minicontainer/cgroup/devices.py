"""Device rules: which device nodes a container may open or make, as OCI lists them; the last rule that matches wins.

v1 keeps a default and its exceptions (Documentation/admin-guide/cgroup-v1/devices.rst); v2 asks a BPF program (bpf.py).
"""

from __future__ import annotations

from minicontainer.cgroup.settings import Group, Setting, number
from minicontainer.errors import LimitError, Unsupported

LIMIT = "device rules (--device, --device-cgroup-rule)"
_ANY = -1

# What a runtime adds to the rules of a spec, so that the default /dev works: config-linux.md, "Default Devices", and
# making (not opening) any node, and tun, as runc and crun do.
DEFAULT_RULES = [
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None), (10, 200))
    ),
]


class Rule:
    """allow or deny; type "a", "b" or "c"; major and minor, -1 for any; access: a set of "r", "w", "m"."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, type: str, major: int, minor: int, access: frozenset[str]) -> None:
        self.allow = allow
        self.type = type
        self.major = major
        self.minor = minor
        self.access = access

    def everything(self) -> bool:
        """Whether it settles every device, whatever came before."""
        return self.type == "a" and self.major == self.minor == _ANY and len(self.access) == 3

    def covers(self, other: Rule) -> bool:
        """Whether every device of the other is one of this rule's."""
        return self.type in ("a", other.type) and self.major in (_ANY, other.major) and self.minor in (_ANY, other.minor)

    def meets(self, other: Rule) -> bool:
        """Whether there may be a device that both are about."""
        return (
            (self.type == other.type or "a" in (self.type, other.type))
            and (self.major == other.major or _ANY in (self.major, other.major))
            and (self.minor == other.minor or _ANY in (self.minor, other.minor))
        )

    def line(self) -> str:
        """As devices.allow takes it: "c 1:3 rwm"."""
        access = "".join(letter for letter in "rwm" if letter in self.access)
        return f"{self.type} {_number(self.major)}:{_number(self.minor)} {access}"


def _number(value: int) -> str:
    return "*" if value == _ANY else str(value)


def parse(entries: list[dict]) -> list[Rule]:
    """The rules of resources.devices, up to the last one that settles everything dropped. LimitError if one is malformed."""
    rules: list[Rule] = []
    for entry in entries:
        kind, access = entry.get("type") or "a", entry.get("access") or "rwm"
        if kind not in ("a", "b", "c") or not set(access) <= set("rwm"):
            raise LimitError(f"{LIMIT}: type {kind!r} with access {access!r} is no rule", "type is a, b or c, access some of rwm")
        major, minor = (
            _ANY if (value := number(entry, key, LIMIT, high=(1 << 32) - 1)) is None else value for key in ("major", "minor")
        )
        rule = Rule(bool(entry.get("allow")), kind, major, minor, frozenset(access))
        if rule.everything():
            rules.clear()
        rules.append(rule)
    return rules


def exceptions(rules: list[Rule]) -> list[Rule]:
    """The rules as v1 can hold them: the first settles everything, the others are exceptions to it, of the other sense.

    Unsupported for a rule that takes back part of an earlier one, which v1 has no form for.
    """
    default, *rest = rules
    kept: list[Rule] = []
    for rule in rest:
        if rule.allow != default.allow:
            kept += [
                Rule(rule.allow, kind, rule.major, rule.minor, rule.access)
                for kind in (("b", "c") if rule.type == "a" else (rule.type,))
            ]
            continue
        for old in kept:
            if rule.covers(old):
                old.access -= rule.access
            elif rule.meets(old) and rule.access & old.access:
                raise Unsupported(
                    f'{LIMIT}: cgroup v1 can\'t take "{rule.line()}" out of "{old.line()}"', "name the devices one by one"
                )
        kept = [old for old in kept if old.access]
    return kept


def v1_settings(resources: dict, group: Group) -> list[Setting]:
    """devices.deny and devices.allow; a group that has a deny list already gets the differences only, so it never opens up."""
    entries = resources.get("devices")
    if not entries:
        return []
    rules = parse(entries)
    now = group.current("devices", "devices.list").splitlines()
    if not rules[0].everything():
        return [_setting(rule.line(), rule.allow) for rule in rules]
    wanted = exceptions(rules)
    if rules[0].allow:
        return [_setting("a", True), *(_setting(rule.line(), False) for rule in wanted)]
    lines = list(dict.fromkeys(rule.line() for rule in wanted))
    if not now or now[0].startswith("a "):
        return [_setting("a", False), *(_setting(line, True) for line in lines)]
    return [*(_setting(line, True) for line in lines), *(_setting(line, False) for line in now if not _within(line, lines))]


def _within(line: str, wanted: list[str]) -> bool:
    """Whether a line of devices.list is one of those wanted, or holds what several of them gave the same device."""
    device, _, access = line.rpartition(" ")
    given = {letter for w in wanted if w.rpartition(" ")[0] == device for letter in w.rpartition(" ")[2]}
    return bool(given) and set(access) <= given


def _setting(line: str, allow: bool) -> Setting:
    if line == "a":
        if allow:
            return Setting(
                "devices",
                "devices.allow",
                "a",
                LIMIT,
                "every device, as --privileged asks for",
                lambda asked, got: got.startswith("a *:* rwm"),
                shown="devices.list",
            )
        return Setting(
            "devices",
            "devices.deny",
            "a",
            LIMIT,
            "no device at all, but for those that follow",
            lambda asked, got: not got.startswith("a "),
            shown="devices.list",
        )
    if allow:
        return Setting("devices", "devices.allow", line, LIMIT, "this device is allowed", _listed, shown="devices.list")
    return Setting(
        "devices",
        "devices.deny",
        line,
        LIMIT,
        "this device is not allowed",
        lambda asked, got: got.startswith("a ") or asked not in got.splitlines(),
        shown="devices.list",
    )


def _listed(asked: str, got: str) -> bool:
    """devices.list joins what several rules give the same device into one line."""
    device, _, access = asked.rpartition(" ")
    for line in got.splitlines():
        name, _, found = line.rpartition(" ")
        if name == device or line == "a *:* rwm":
            return set(access) <= set(found)
    return False
