"""OCI resources and annotations as properties of a systemd unit, so that systemd, when it writes limits anew, writes ours.

What systemd has no property for is written to the group's files only, as everything is (systemd.py).
Sources: systemd.resource-control(5), org.freedesktop.systemd1(5); the same properties as runc (docs/systemd.md) and crun set.
"""

from __future__ import annotations

from minicontainer.cgroup.cpu import weight_of_shares
from minicontainer.cgroup.settings import cpu_numbers
from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Property = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

_INFINITY = (1 << 64) - 1
ANNOTATION = "org.systemd.property."
_SIGNATURES = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t", "double": "d",
    "boolean": "b", "string": "s", "objectpath": "o",
}  # fmt: skip
_NUMBERS = frozenset("ynqiuxtd")


def round_quota(resources: dict) -> dict:
    """resources with a quota of whole percents of a CPU: systemd keeps no finer one, and would write its own rounding later."""
    section = resources.get("cpu") or {}
    quota = section.get("quota") or 0
    if quota <= 0:
        return resources
    period = section.get("period") or 100000
    return {**resources, "cpu": {**section, "quota": _per_second(quota, period) * period // 1000000}}


def _per_second(quota: int, period: int) -> int:
    """µs of CPU time a second, rounded up to 1 %."""
    return -(-(quota * 1000000 // period) // 10000) * 10000


def of_resources(resources: dict, *, v2: bool, version: int) -> list[Property]:
    """The properties of limits. version: systemd's."""
    out = _memory(resources.get("memory") or {}, v2)
    section = resources.get("cpu") or {}
    idle = section.get("idle") == 1 and v2 and version >= 252  # CPUWeight=idle
    if idle:
        out.append(("CPUWeight", ("t", 0)))
    elif section.get("shares"):
        shares = section["shares"]
        out.append(("CPUWeight", ("t", weight_of_shares(shares))) if v2 else ("CPUShares", ("t", shares)))
    quota, period = section.get("quota") or 0, section.get("period") or 0
    if period and version >= 242:
        out.append(("CPUQuotaPeriodUSec", ("t", period)))
    if quota or period:
        out.append(("CPUQuotaPerSecUSec", ("t", _per_second(quota, period or 100000) if quota > 0 else _INFINITY)))
    if version >= 244:
        for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
            if section.get(key):
                out.append((name, ("ay", _bits(section[key], key))))
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        out.append(("TasksMax", ("t", _INFINITY if limit < 0 else max(limit, 1))))
    weight = (resources.get("blockIO") or {}).get("weight")
    if weight and not v2:
        out.append(("BlockIOWeight", ("t", weight)))
    return out + _unified(resources.get("unified") or {}, version)


def _memory(section: dict, v2: bool) -> list[Property]:
    limit, swap = section.get("limit") or 0, section.get("swap") or 0
    out: list[Property] = []
    if limit:
        out.append(("MemoryMax" if v2 else "MemoryLimit", ("t", _number(limit))))
    if not v2:
        return out
    if section.get("reservation"):
        out.append(("MemoryLow", ("t", _number(section["reservation"]))))
    if swap or limit == -1:
        alone = _INFINITY if swap in (0, -1) else swap - max(limit, 0)
        out.append(("MemorySwapMax", ("t", alone)))
    return out


def _number(value: int) -> int:
    return _INFINITY if value < 0 else value


def _bits(text: str, key: str) -> bytes:
    """A list of numbers as systemd's bit mask, the lowest byte first."""
    mask = sum(1 << number for number in cpu_numbers(text, key))
    return mask.to_bytes(mask.bit_length() // 8 + 1, "little")


_UNIFIED = {
    "memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
}  # fmt: skip


def _unified(unified: dict, version: int) -> list[Property]:
    out: list[Property] = []
    for file, value in unified.items():
        words = value.split()
        numbers = [_INFINITY if word == "max" else int(word) for word in words if word == "max" or _is_plain(word)]
        if len(numbers) < len(words) or not words:
            numbers = []  # a form of the kernel's that is not systemd's: the kernel judges it
        if file in _UNIFIED and numbers:
            out.append((_UNIFIED[file], ("t", numbers[0])))
        elif file == "cpu.max" and numbers:
            period = numbers[1] if len(numbers) > 1 else 100000
            if 0 < period < _INFINITY:
                out.append(("CPUQuotaPeriodUSec", ("t", period)))
                out.append(("CPUQuotaPerSecUSec", ("t", _INFINITY if words[0] == "max" else _per_second(numbers[0], period))))
        elif file in ("cpuset.cpus", "cpuset.mems") and version >= 244:
            out.append(("AllowedCPUs" if file == "cpuset.cpus" else "AllowedMemoryNodes", ("ay", _bits(value, file))))
    return out


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) < 1 << 50  # so that µs a second fit as well


def of_devices(entries: list[dict]) -> list[Property]:
    """DevicePolicy and DeviceAllow, for cgroup v1: there systemd would open every device of a unit without a policy when it
    writes its limits anew. Rules that it has no form for stay out, so what it may do for a moment is deny more."""
    from minicontainer.cgroup.devices import exceptions, parse

    rules = parse(entries)
    if rules[0].everything() and rules[0].allow:
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    allowed = []
    for rule in exceptions(rules) if rules[0].everything() else ():
        kind = {"b": "block", "c": "char"}[rule.type]
        access = "".join(letter for letter in "rwm" if letter in rule.access)
        if rule.major < 0 and rule.minor < 0:
            allowed.append((f"{kind}-*", access))
        elif rule.minor < 0:
            allowed.append((f"{kind}-{rule.major}", access))
        elif rule.major >= 0:
            allowed.append((f"/dev/{kind}/{rule.major}:{rule.minor}", access))
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", [])), ("DeviceAllow", ("a(ss)", allowed))]


def of_annotations(annotations: dict[str, str]) -> list[Property]:
    """`org.systemd.property.NAME`: its value in GVariant's text form; NAME ending in Sec is given in seconds (NAME…USec is set)."""
    out = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key[len(ANNOTATION) :]
        if len(name) < 3:
            raise UsageError(f"annotation {key} name incorrect: too short")
        if not (name.isascii() and name.isalpha()):
            raise UsageError(f"annotation {key} name incorrect: contains non-alphabetic character")
        try:
            signature, value = variant(text)
            if name.endswith("Sec") and len(name) > 3 and name[-4].islower():
                if signature not in _NUMBERS:
                    raise ValueError("not a number")
                name, signature, value = f"{name[:-3]}USec", "t", int(value * 1000000)  # type: ignore[operator]  # a number
            _check_range(signature, value)
        except (ValueError, OverflowError) as e:  # OverflowError: 1e999 seconds
            raise UsageError(
                f"annotation {key}={text} value parse error: {e}", "write it like 'text', true, 7 or uint64 7"
            ) from None
        out.append((name, (signature, value)))
    return out


_BITS = {"y": 8, "q": 16, "u": 32, "t": 64, "n": 16, "i": 32, "x": 64}


def _check_range(signature: str, value: object) -> None:
    """ValueError for a number that its type can't hold, which D-Bus would not take."""
    bits = _BITS.get(signature[-1], 0)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signature[-1] in "nix" else (0, 1 << bits)
    numbers: list[int] = value if isinstance(value, list) else [value]  # type: ignore[list-item]  # numbers, by their signature
    if bits and not all(low <= each < high for each in numbers):
        raise ValueError(f"out of range for {signature[-1]} (D-Bus)")


def variant(text: str) -> tuple[str, object]:
    """(signature, value) of a GVariant in text form: 'a', true, 7, 1.5, uint64 7, ['a', 'b']. ValueError for anything else."""
    text = text.strip()
    if text[:1] == "[" and text[-1:] == "]":
        items = [variant(item) for item in _items(text[1:-1])]
        if not items or any(item[0] != items[0][0] for item in items):
            raise ValueError("an array is of values of one type")
        return f"a{items[0][0]}", [item[1] for item in items]
    kind, space, rest = text.partition(" ")
    if space and kind in _SIGNATURES:
        signature, value = _SIGNATURES[kind], variant(rest)[1]
        if (signature in _NUMBERS) != (type(value) in (int, float)) or (signature != "d" and type(value) is float):
            raise ValueError(f"not of type {kind}")
        return signature, value
    if text in ("true", "false"):
        return "b", text == "true"
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0] and text[0] not in text[1:-1] and "\\" not in text:
        return "s", text[1:-1]
    if text.lstrip("+-").replace(".", "", 1).replace("e", "", 1).isdigit():
        return ("d", float(text)) if "." in text or "e" in text else ("i", int(text))
    raise ValueError("not a value of D-Bus")


def _items(text: str) -> list[str]:
    """The parts between commas that are not inside quotes."""
    out, quote = [""], ""
    for letter in text:
        if letter == "," and not quote:
            out.append("")
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        out[-1] += letter
    return [item for item in out if item.strip()]
