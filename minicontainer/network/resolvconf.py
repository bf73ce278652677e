"""/etc/resolv.conf and /etc/hosts of a container, as docker makes them (its libnetwork/resolvconf and libnetwork/etchosts)."""

from __future__ import annotations

_RESOLVED_STUB = "127.0.0.53"
_RESOLVED = "run/systemd/resolve/resolv.conf"
_PUBLIC4 = ("8.8.8.8", "8.8.4.4")
_PUBLIC6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def resolv_conf(
    *, dns: list[str], search: list[str], options: list[str], ipv6: bool, host_network: bool = False, root: str = "/"
) -> str:
    """The content of a container's resolv.conf.

    dns, search, options: of --dns, --dns-search ("." alone for none), --dns-option: each replaces what the host has of its
    kind. ipv6: whether the container has IPv6 (nameservers it cannot reach are left out). host_network: loopback nameservers
    stay. root: where etc/resolv.conf lies.
    """
    text = _host_file(root, host_network)
    if host_network and not (dns or search or options):
        return text
    if not host_network:
        text = _reachable(text, ipv6)
    if not (dns or search or options):
        return text
    words = [line.split() for line in text.splitlines()]
    dns = dns or [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
    search = search or next((w[1:] for w in reversed(words) if w and w[0] in ("search", "domain")), [])
    options = options or [option for w in words if w and w[0] == "options" for option in w[1:]]
    lines = [f"search {' '.join(search)}"] if search and search != ["."] else []
    lines += [f"nameserver {address}" for address in dns]
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(line + "\n" for line in lines)


def hosts(*, ip: str, ip6: str, hostname: str, domainname: str = "", extra: list[str] | None = None, gateway: str = "") -> str:
    """The content of a container's hosts file.

    ip, ip6: its addresses, "" for none; extra: of --add-host, "name:address", where the address host-gateway stands for gateway.
    """
    lines = [_HOSTS]
    for entry in extra or []:
        name, _, address = entry.partition(":")
        lines.append(f"{gateway if address == 'host-gateway' else address}\t{name}\n")
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{names}\n" for address in (ip, ip6) if address]
    return "".join(lines)


def host_hosts(extra: list[str], root: str = "/") -> str:
    """With --network host: the host's own hosts file, and extra as in hosts()."""
    lines = []
    for entry in extra:
        name, _, address = entry.partition(":")
        lines.append(f"{'127.0.0.1' if address == 'host-gateway' else address}\t{name}\n")
    return _read(f"{root}etc/hosts") + "".join(lines)


def _host_file(root: str, host_network: bool) -> str:
    """The host's resolv.conf; with systemd-resolved's stub as its only nameserver, the file that says who is behind it."""
    text = _read(f"{root}etc/resolv.conf")
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver") and len(line.split()) > 1]
    if servers == [_RESOLVED_STUB] and not host_network:
        return _read(f"{root}{_RESOLVED}") or text
    return text


def _reachable(text: str, ipv6: bool) -> str:
    """Without nameservers of the host's own loopback, or IPv6 ones for a container without; public ones if none is left."""
    kept, servers = [], 0
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            address = words[1]
            if address.startswith("127.") or address == "::1" or (":" in address and not ipv6):
                continue
            servers += 1
        kept.append(line)
    if not servers:
        kept += [f"nameserver {address}" for address in (*_PUBLIC4, *(_PUBLIC6 if ipv6 else ()))]
    return "".join(line + "\n" for line in kept)


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as f:
            return f.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
