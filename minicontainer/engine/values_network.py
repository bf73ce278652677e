"""What the values of docker's network flags mean: addresses, names, ports.

The same contract as in values: text in, plain data out, ValueError with the reason.
"""

from __future__ import annotations


def ip_address(text: str) -> str:
    """An IPv4 or IPv6 address in its canonical form."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_ntop(family, _socket.inet_pton(family, text.strip()))
        except OSError:
            continue
    raise ValueError(f"IP address is not correctly formatted: {text}")


def ipv4_address(text: str) -> str:
    address = ip_address(text)
    if ":" in address:
        raise ValueError(f"not an IPv4 address: {text} (--ip6 takes IPv6)")
    return address


def ipv6_address(text: str) -> str:
    address = ip_address(text)
    if ":" not in address:
        raise ValueError(f"not an IPv6 address: {text} (--ip takes IPv4)")
    return address


def mac_address(text: str) -> str:
    """Six octets in hex, with colons or dashes: "92:d0:c6:0a:29:33"; returned lower-case with colons."""
    parts = text.strip().lower().replace("-", ":").split(":")
    hexadecimal = all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts)
    if len(parts) != 6 or not hexadecimal:
        raise ValueError(f"{text} is not a valid mac address (like 92:d0:c6:0a:29:33)")
    if int(parts[0], 16) & 1:
        raise ValueError(f"{text} is a multicast address; the first octet must be even")
    return ":".join(parts)


def extra_host(text: str) -> str:
    """One --add-host: "name:1.2.3.4", "name=::1", "name:[::1]", "name:host-gateway", as "name:address"."""
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name or ":" in name:
        raise ValueError(f'bad format for add-host: "{text}" (name:address)')
    if any(character.isspace() for character in name):
        raise ValueError(f'bad format for add-host: "{text}" (the name contains whitespace)')
    if address == "host-gateway":
        return f"{name}:{address}"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return f"{name}:{ip_address(address)}"
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{address}"') from None


def dns_search(text: str) -> str:
    """A search domain, or "." for none."""
    domain = text.strip(" ").removesuffix(".")
    if text.strip(" ") == ".":
        return "."
    labels = domain.split(".")
    allowed = all(part and part.replace("-", "").isalnum() and part[0] != "-" != part[-1] for part in labels)
    if not allowed or not domain.isascii() or len(domain) >= 255 or not any(map(str.isalpha, domain)):
        raise ValueError(f"{text} is not a valid domain")
    return domain


def dns_option(text: str) -> str:
    """A resolv.conf option; one word, for it becomes part of a line of that file."""
    if not text or any(character.isspace() for character in text):
        raise ValueError(f"'{text}' is not one word (like ndots:2)")
    return text


def exposed_ports(text: str) -> list[str]:
    """ "80", "80/udp", "8000-8010/tcp" as ["80/tcp", …]."""
    ports, _, protocol = text.lower().partition("/")
    first, dash, last = ports.partition("-")
    protocol = protocol or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"invalid protocol: {protocol} (tcp, udp or sctp)")
    if not first.isdecimal() or not (last.isdecimal() if dash else True):
        raise ValueError(f"invalid port or range: {ports} (like 80 or 8000-8010)")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise ValueError(f"invalid port or range: {ports} (from 1 to 65535, the lower first)")
    return [f"{port}/{protocol}" for port in range(low, high + 1)]


def publish(text: str) -> str:
    """One -p as "[ip:]host:container[/proto]"; the form "published=8080,target=80" is turned into it."""
    if "=" not in text:
        return text
    fields = {"protocol": "tcp", "published": "", "target": ""}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        if key not in fields and not (key == "mode" and value in ("host", "ingress")):
            raise ValueError(f"unknown option '{key}' in '{field}' (published, target, protocol)")
        fields[key] = value
    if not fields["target"]:
        raise ValueError("target is missing (published=8080,target=80)")
    published = fields["published"] + ":" if fields["published"] else ""
    return f"{published}{fields['target']}/{fields['protocol']}"
