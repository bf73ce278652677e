"""Published ports: what -p says, who has which port, and the nftables elements that follow.

A reservation is a symlink <state>/network/<bridge>/ports/<protocol>-<port>-<address> -> "id container-address container-port".
It says all that an element says, so the tables can be made again when the host's administrator has flushed them.
"""

from __future__ import annotations

import _socket
import errno
import os

from minicontainer.errors import Conflict, NetworkError, Unsupported, UsageError
from minicontainer.network.config import AF_INET, AF_INET6, NetworkConfig, is_address
from minicontainer.network.lock import locked
from minicontainer.network.nft import PROTOCOLS, Element, withdraw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERYWHERE = ("0.0.0.0", "::")
_FORM = "write -p [ip:]host:container[/tcp|udp|sctp], as in 8080:80, 0.0.0.0:8080:80 or [::1]:8000-8010:80-90/udp"
_RANDOM_TRIES = 100


class Publication:
    """One port of a container to publish. first, last: host ports to choose from, 0 for any; ip: "" for the default address."""

    __slots__ = ("container_port", "first", "ip", "last", "protocol")

    def __init__(self, ip: str, first: int, last: int, container_port: int, protocol: str) -> None:
        self.ip = ip
        self.first = first
        self.last = last
        self.container_port = container_port
        self.protocol = protocol


class Port:
    """One published port: ip, port and protocol on the host, target address and port of the container."""

    __slots__ = ("ip", "port", "protocol", "target", "target_port")

    def __init__(self, ip: str, port: int, protocol: str, target: str, target_port: int) -> None:
        self.ip = ip
        self.port = port
        self.protocol = protocol
        self.target = target
        self.target_port = target_port

    def __str__(self) -> str:
        """As in docker's ps: "0.0.0.0:8080->80/tcp"."""
        ip = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{ip}:{self.port}->{self.target_port}/{self.protocol}"

    @property
    def family(self) -> int:
        return AF_INET6 if ":" in self.ip else AF_INET

    @property
    def for_others(self) -> bool:
        """Whether anybody but this host may come in."""
        return not (self.ip.startswith("127.") or self.ip == "::1")

    def file_name(self) -> str:
        return f"{self.protocol}-{self.port}-{self.ip}"

    def elements(self, ident: str) -> list[Element]:
        """What nftables needs to know: see nft.py."""
        address = "" if self.ip in _EVERYWHERE else self.ip
        to = (self.target, self.target_port)
        found = [Element(self.family, "here" if address else "any", address, self.protocol, self.port, to, ident)]
        if self.for_others:
            found.append(Element(self.family, "open" if address else "openany", address, self.protocol, self.port, None, ident))
        return found


def parse_publish(text: str) -> list[Publication]:
    """What one -p asks for. UsageError names what is wrong in it."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise UsageError(f'-p {text}: invalid proto: "{protocol}"', _FORM)
    ip = ""
    if rest.startswith("["):
        ip, bracket, rest = rest[1:].partition("]")
        if not bracket or not rest.startswith(":") or not is_address(ip) or ":" not in ip:
            raise UsageError(f'-p {text}: invalid IP address: "{ip}"', _FORM)
        rest = rest[1:]
    elif rest.count(":") == 2:
        ip, _, rest = rest.partition(":")
        if not is_address(ip):
            raise UsageError(f'-p {text}: invalid IP address: "{ip}"', _FORM)
    elif rest.count(":") > 2:
        raise UsageError(f"-p {text}: an IPv6 address stands in brackets", _FORM)
    host, _, container = rest.rpartition(":")
    first, last = _ports(text, container, "container")
    if not first:
        raise UsageError(f'-p {text}: invalid container port: "{container}"', _FORM)
    low, high = _ports(text, host, "host") if host else (0, 0)
    ip = _canonical(ip)
    if first == last:
        return [Publication(ip, low, high, first, protocol)]
    if low and high - low != last - first:
        raise UsageError(f"-p {text}: invalid ranges: {high - low + 1} host and {last - first + 1} container ports", _FORM)
    return [Publication(ip, low + i if low else 0, low + i if low else 0, first + i, protocol) for i in range(last - first + 1)]


def _ports(text: str, given: str, what: str) -> tuple[int, int]:
    first, dash, last = given.partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(n.isascii() and n.isdigit() and int(n) <= 65535 for n in numbers) or int(numbers[0]) > int(numbers[1]):
        raise UsageError(f'-p {text}: invalid {what} port: "{given}"', _FORM)
    return int(numbers[0]), int(numbers[1])


def _canonical(ip: str) -> str:
    if not ip:
        return ""
    family = AF_INET6 if ":" in ip else AF_INET
    return _socket.inet_ntop(family, _socket.inet_pton(family, ip))


def reserve(config: NetworkConfig, ident: str, publications: list[Publication], ipv4: str, ipv6: str) -> list[Port]:
    """Takes the host ports, all or none. ipv4, ipv6: the container's addresses.

    Conflict if a port is taken, by a container or by a program of the host; NetworkError for an address that is not the host's.
    """
    taken: list[Port] = []
    if not publications:
        return taken
    with locked(config):
        try:
            for publication in publications:
                taken += _reserve_one(config, ident, publication, ipv4, ipv6)
        except BaseException:
            for port in taken:
                os.unlink(f"{config.dir}/ports/{port.file_name()}")
            raise
    return taken


def _reserve_one(config: NetworkConfig, ident: str, wanted: Publication, ipv4: str, ipv6: str) -> list[Port]:
    ip = wanted.ip or config.publish
    target = ipv6 if ":" in ip else ipv4
    if not target:
        raise NetworkError(
            f"-p {wanted.container_port}: the container has no {'IPv6' if ':' in ip else 'IPv4'} address for {ip}",
            "this host has IPv6 switched off: publish on an IPv4 address",
        )
    if ip == "::1" and not loopback6_works():
        raise Unsupported(
            "-p [::1]: with net.bridge.bridge-nf-call-ip6tables = 1 the kernel drops the container's answers to ::1",
            "publish on 127.0.0.1, or set that sysctl to 0 (docker and Kubernetes set it to 1)",
        )
    os.makedirs(f"{config.dir}/ports", 0o700, exist_ok=True)
    candidates: Iterator[int] = iter(range(wanted.first, wanted.last + 1)) if wanted.first else _random_ports(ip, wanted.protocol)
    problem = ""
    for number in candidates:
        port = Port(ip, number, wanted.protocol, target, wanted.container_port)
        problem = _taken_by(config, port)
        if not problem:
            also = [Port("::1", number, wanted.protocol, target, wanted.container_port)] if ip == "::" and loopback6_works() else []
            for each in (port, *also):
                os.symlink(f"{ident} {each.target} {each.target_port}", f"{config.dir}/ports/{each.file_name()}")
            return [port, *also]
    where = f"[{ip}]" if ":" in ip else ip
    ports = f"{wanted.first}" if wanted.first == wanted.last else f"{wanted.first}-{wanted.last}"
    raise Conflict(f"Bind for {where}:{ports} failed: port is already allocated", problem)


def _taken_by(config: NetworkConfig, port: Port) -> str:
    """Who has the port, in words; "" if it is free. "All addresses" and any one address exclude each other."""
    folder = f"{config.dir}/ports"
    everywhere = "::" if port.family == AF_INET6 else "0.0.0.0"
    if port.ip == everywhere:
        start = f"{port.protocol}-{port.port}-"
        names = [n for n in os.listdir(folder) if n.startswith(start) and (":" in n) == (":" in port.ip)]
    else:
        names = [port.file_name(), Port(everywhere, port.port, port.protocol, "", 0).file_name()]
    for name in names:
        try:
            owner = os.readlink(f"{folder}/{name}").partition(" ")[0]
            return f"container {owner[:12]} has it: stop that one, or choose another port"
        except FileNotFoundError:
            continue
    return "" if _bind(port.ip, port.port, port.protocol) else _listener(port)


def _listener(port: Port) -> str:
    flag = {"tcp": "t", "udp": "u", "sctp": "S"}[port.protocol]
    return f"a program of this host has it (which: ss -{flag}lnp 'sport = {port.port}'): stop it, or choose another port"


def _bind(ip: str, port: int, protocol: str) -> int:
    """The port that a program of the host could listen on now (any free one for port 0); 0 if this one is taken."""
    kind = _socket.SOCK_DGRAM if protocol == "udp" else _socket.SOCK_STREAM
    family = AF_INET6 if ":" in ip else AF_INET
    try:
        probe = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    except OSError as e:
        if e.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return port or 32768 + os.getpid() % 28000  # no sockets of that protocol here, so nobody has one (sctp)
        raise
    try:
        if protocol != "udp":
            # Connections in TIME_WAIT are nobody's; a listener is refused in spite of it. Of UDP it would allow sharing.
            probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == AF_INET6:
            probe.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        probe.bind((ip, port))
        return probe.getsockname()[1]
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            return 0
        if e.errno == errno.EADDRNOTAVAIL:
            raise NetworkError(f"-p {ip}:{port}: this host has no address {ip}", "ip addr shows which it has") from None
        raise NetworkError(f"-p {ip}:{port}: {os.strerror(e.errno or 0)}", "publish on another address or port") from None
    finally:
        probe.close()


def _random_ports(ip: str, protocol: str) -> Iterator[int]:
    """Free ports of the host, as the kernel chooses them."""
    for _ in range(_RANDOM_TRIES):
        yield _bind(ip, 0, protocol)


def loopback6_works() -> bool:
    """Whether [::1] can be published.

    With br_netfilter the reverse translation happens already in the bridge, and ip6_rcv_core() then drops a packet to ::1 that did
    not come by lo. IPv4 has route_localnet for that; IPv6 has nothing.
    """
    try:
        with open("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "rb", buffering=0) as f:
            return f.read(1) == b"0"
    except FileNotFoundError:
        return True


def reserved(config: NetworkConfig) -> list[tuple[str, Port]]:
    """(id, port) of every reservation."""
    folder = f"{config.dir}/ports"
    found = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        protocol, port, ip = name.split("-", 2)
        try:
            ident, target, target_port = os.readlink(f"{folder}/{name}").split(" ")
        except FileNotFoundError:
            continue  # given back since listdir
        found.append((ident, Port(ip, int(port), protocol, target, int(target_port))))
    return found


def unpublish(config: NetworkConfig, ident: str, ports: list[Port]) -> None:
    """Takes the elements out, ends the connections through them, and gives the ports back.

    What is not there, or not this container's, is left alone.
    """
    folder = f"{config.dir}/ports"
    with locked(config):
        own = []
        for port in ports:
            try:
                if os.readlink(f"{folder}/{port.file_name()}").partition(" ")[0] == ident:
                    own.append(port)
            except FileNotFoundError:
                continue  # somebody reclaimed it before
        if own:
            withdraw(config.table, [e for port in own for e in port.elements(ident)], {port.target for port in own})
        for port in own:
            os.unlink(f"{folder}/{port.file_name()}")
