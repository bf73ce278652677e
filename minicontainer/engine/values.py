"""What the values of docker's flags mean: numbers, sizes, environment, labels, signals, logs, security.

Every function takes the text of one value and returns plain data (JSON types, units in the name), or raises
ValueError with the reason and the form that would be right; the caller names the flag. Limits and devices
are in values_limits, mounts in values_mounts. Source of the rules: docker's CLI (`opts`, go-units), as its
documentation and behaviour have them.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_DURATION_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MAX_INT64 = (1 << 63) - 1


def whole_number(text: str) -> int:
    """A whole number of 64 bits as Go reads it: "512", "-1", "0x200", "0o17", "017", "1_000"."""
    digits = text.lstrip("+-")
    try:
        if text.strip() != text or len(text) - len(digits) > 1:
            raise ValueError(text)
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
        number = int(text, 8 if octal else 0)
    except ValueError:
        raise ValueError("must be a whole number") from None
    if not -_MAX_INT64 - 1 <= number <= _MAX_INT64:
        raise ValueError("number does not fit in 64 bits")
    return number


def size_bytes(text: str, units: Mapping[str, int] = _BINARY) -> int:
    """A size in bytes: "64m", "1.5g", "512 KiB", "1024", "3b"; k, m, g, t, p are powers of 1024."""
    end = max(text.rfind(character) for character in "0123456789. ")
    if end < 0:
        raise ValueError(f"invalid size: '{text}' (a number with b, k, m or g, like 512m)")
    number, suffix = text[: end + 1], text[end + 1 :].lower()
    number = number.removesuffix(" ")
    try:
        if number.strip() != number or "_" in number:
            raise ValueError(number)
        size = float(number)
    except ValueError:
        raise ValueError(f"invalid size: '{text}' (a number with b, k, m or g, like 512m)") from None
    if suffix not in ("", "b"):
        if suffix[0] not in units or suffix[1:] not in ("", "b", "ib"):
            raise ValueError(f"invalid suffix: '{suffix}' (b, k, m or g)")
        size *= units[suffix[0]]
    if not 0 <= size <= _MAX_INT64:
        raise ValueError(f"invalid size: '{text}' (from 0 to 8 EiB)")
    return int(size)


def swap_bytes(text: str) -> int:
    """Memory plus swap in bytes; -1 is unlimited."""
    return -1 if text == "-1" else size_bytes(text)


def nano_cpus(text: str) -> int:
    """CPUs in billionths: "1.5", ".5", "1/2", "2e-1". Finer than a billionth is refused, as in docker."""
    above, slash, below = text.partition("/")
    try:
        numerator, scale = _decimal(above)
        denominator = int(below) if slash else 1
        if denominator <= 0:
            raise ValueError(below)
    except ValueError:
        raise ValueError(f"failed to parse {text} as a rational number (like 1.5)") from None
    nano, remainder = divmod(numerator * 10**9, denominator * scale)
    if remainder:
        raise ValueError("value is too precise (nine digits after the point at most)")
    return nano


def _decimal(text: str) -> tuple[int, int]:
    """A decimal number as (numerator, denominator), exactly."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    if not (whole.lstrip("+-") + fraction).isdecimal() or (fraction and not fraction.isdecimal()):
        raise ValueError(text)
    power = (int(exponent) if "e" in text.lower() else 0) - len(fraction)
    if abs(power) > 400:
        raise ValueError(text)
    number = int(whole + fraction)
    return (number * 10**power, 1) if power >= 0 else (number, 10**-power)


def duration_seconds(text: str) -> float:
    """Go's durations in seconds: "1h30m", "1.5s", "250ms", "0"."""
    rest = text.lstrip("+-")
    total = 0.0
    if not rest or len(text) - len(rest) > 1:
        raise ValueError(f'invalid duration "{text}" (like 90s or 1h30m)')
    while rest and rest != "0":
        unit_at = len(rest) - len(rest.lstrip("0123456789."))
        next_at = unit_at + len(rest[unit_at:]) - len(rest[unit_at:].lstrip("nuµmsh"))
        number, unit = rest[:unit_at], rest[unit_at:next_at]
        if unit_at and not unit:
            raise ValueError(f'missing unit in duration "{text}" (ns, us, ms, s, m or h)')
        if unit not in _DURATION_SECONDS or not number.replace(".", "", 1).isdecimal():
            raise ValueError(f'invalid duration "{text}" (like 90s or 1h30m)')
        total += float(number) * _DURATION_SECONDS[unit]
        rest = rest[next_at:]
    return -total if text.startswith("-") else total


def env_entry(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """One -e.

    "NAME=value" as it is; "NAME" with the caller's value, or bare (it then removes NAME from the image's).
    """
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text} (NAME=value, or NAME to pass on the caller's)")
    if "\0" in text:
        raise ValueError("invalid environment variable: it contains a NUL")
    return text if equals or name not in environ else f"{name}={environ[name]}"


def env_file(path: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The "NAME=value" lines of a file.

    A bare NAME takes the caller's value or is dropped; # begins a comment line.
    """
    return _key_value_file(path, environ)


def label_file(path: str) -> list[str]:
    """The "key=value" lines of a file of labels; bare names are dropped, as docker does."""
    return _key_value_file(path, {})


def _key_value_file(path: str, environ: Mapping[str, str]) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    lines = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise ValueError(f"{path}: line {number} is not UTF-8") from None
        if not line or line[0] == "#":
            continue
        name, equals, _ = line.partition("=")
        if not name:
            raise ValueError(f"{path}: no variable name on line {number}: '{line}'")
        if " " in name or "\t" in name:
            raise ValueError(f"{path}: variable '{name}' on line {number} contains whitespaces")
        if equals:
            lines.append(line)
        elif name in environ:
            lines.append(f"{name}={environ[name]}")
    return lines


def label(text: str) -> str:
    """One -l: "key=value" or "key"."""
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name (key=value)")
    if " " in key or "\t" in key:
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def annotation(text: str) -> tuple[str, str]:
    """One --annotation: "key=value" as (key, value)."""
    key, _, value = text.partition("=")
    if not key:
        raise ValueError(f"invalid annotation '{text}': empty name (key=value)")
    return key, value


def signal_number(text: str) -> int:
    """A signal by number or name, with or without SIG: "9", "TERM", "sigusr1", "RTMIN+3"."""
    import _signal  # type: ignore[import-not-found]  # the signal module would make enums at import

    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if name.isdecimal():
        number = int(name)
    elif sign and base in ("RTMIN", "RTMAX") and offset.isdecimal():
        number = getattr(_signal, "SIG" + base) + int(sign + offset)
    else:
        number = getattr(_signal, "SIG" + name, 0) if name.isalnum() else 0
    if not 1 <= number < _signal.NSIG:
        raise ValueError(f"invalid signal: {text} (a name like SIGTERM, or a number from 1 to {_signal.NSIG - 1})")
    return number


def signal_name(text: str) -> str:
    """The text, if it names a signal."""
    signal_number(text)
    return text


def restart_policy(text: str) -> tuple[str, int]:
    """(name, retries): "no", "always", "unless-stopped", "on-failure[:N]"."""
    name, colon, count = text.partition(":")
    name = name or ("" if colon else "no")
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise ValueError(f"unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'")
    if count and not count.isdecimal():
        raise ValueError("maximum retry count must be an integer")
    if count and name != "on-failure":
        raise ValueError("maximum retry count can only be used with 'on-failure'")
    return name, int(count or 0)


def stream(text: str) -> str:
    """One -a: stdin, stdout or stderr."""
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def log_option(text: str) -> tuple[str, int]:
    """One --log-opt: ("max-size", bytes; units are powers of 1000, as docker's) or ("max-file", files)."""
    key, equals, value = text.partition("=")
    if not equals or key not in ("max-size", "max-file"):
        raise ValueError(f"unknown log opt '{key}' for json-file log driver (max-size, max-file)")
    if key == "max-size":
        size = -1 if value == "-1" else size_bytes(value, _DECIMAL)
        if not size:
            raise ValueError("max-size must be a positive number, or -1 for no limit")
        return key, size
    if not value.isdecimal() or int(value) < 1:
        raise ValueError("max-file cannot be less than 1")
    return key, int(value)


def security_option(text: str) -> tuple[str, str]:
    """One --security-opt as (key, value).

    "no-new-privileges" alone means true. "key:value" is docker's old spelling.
    """
    separator = "=" if "=" in text else ":"
    key, given, value = text.partition(separator)
    if key in ("no-new-privileges", "writable-cgroups"):
        if value not in ("", "true", "false", "1", "0") or (given and not value):
            raise ValueError(f'invalid --security-opt: "{text}" ({key}=true or {key}=false)')
        return key, "false" if value in ("false", "0") else "true"
    if not value:
        raise ValueError(f'invalid --security-opt: "{text}" (key=value, like seccomp=unconfined)')
    if key not in ("seccomp", "apparmor", "label", "systempaths", "mask", "unmask"):
        raise ValueError(f'invalid --security-opt: "{text}"')
    if key == "systempaths" and value != "unconfined":
        raise ValueError(f'invalid --security-opt: "{text}" (systempaths=unconfined)')
    if key == "apparmor" and value != "unconfined":
        raise ValueError(f"minicontainer applies no AppArmor profile, so it cannot apply {value} (apparmor=unconfined)")
    if key == "label" and value != "disable":
        raise ValueError("minicontainer sets no SELinux labels (label=disable)")
    return key, value


def pull_policy(text: str) -> str:
    """When to pull: "missing" and "never"; there is no registry to pull from yet, so "always" is refused."""
    if text not in ("always", "missing", "never"):
        raise ValueError(f'invalid pull option: \'{text}\': must be one of "always", "missing" or "never"')
    if text == "always":
        raise ValueError("minicontainer cannot pull from a registry yet; import an image with 'minicontainer import'")
    return text


def platform(text: str) -> str:
    """ "linux/ARCH" where ARCH is this machine's: no other could run."""
    machine = os.uname().machine
    native = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64")}.get(machine, (machine,))
    parts = text.lower().split("/")
    wanted = parts if parts[0] != "linux" else parts[1:]
    if wanted and wanted[0] not in native:
        raise ValueError(f"this machine is linux/{native[0]}")
    return text
