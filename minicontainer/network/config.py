"""What can be set of the network, and every name and number that follows from it."""

from __future__ import annotations

import _socket
from binascii import crc32

from minicontainer.errors import UsageError

# Neither docker's (172.17-31, 192.168), podman's (10.88, 10.89), libvirt's (192.168.122) nor the usual Kubernetes ones
# (10.42-43, 10.96, 10.244). The IPv6 one is a ULA (RFC 4193): fd, and "minic" in ASCII.
DEFAULT_IPV4 = "10.213.0.0/16"
DEFAULT_IPV6 = "fd6d:696e:6963::/64"

AF_INET, AF_INET6 = 2, 10


class Subnet:
    """A network prefix. family: AF_INET or AF_INET6; base: its lowest address as a number; prefix: its length in bits."""

    __slots__ = ("base", "bits", "family", "prefix")

    def __init__(self, text: str, family: int, setting: str) -> None:
        address, slash, length = text.partition("/")
        self.family = family
        self.bits = 32 if family == AF_INET else 128
        example = DEFAULT_IPV4 if family == AF_INET else DEFAULT_IPV6
        try:
            number = int.from_bytes(_socket.inet_pton(family, address), "big")
        except (OSError, ValueError):
            number = -1
        if number < 0 or not slash or not length.isdecimal() or not 8 <= int(length) <= self.bits - 2:
            raise UsageError(f'{setting} = "{text}" is no subnet', f'write it as in "{example}", with room for two hosts')
        self.prefix = int(length)
        self.base = number >> (self.bits - self.prefix) << (self.bits - self.prefix)

    @property
    def size(self) -> int:
        """How many addresses the prefix covers."""
        return 1 << (self.bits - self.prefix)

    def host(self, number: int) -> str:
        """The text of the number-th address."""
        return _socket.inet_ntop(self.family, (self.base + number).to_bytes(self.bits // 8, "big"))

    @property
    def gateway(self) -> str:
        """The bridge's own address: the first."""
        return self.host(1)

    def number(self, address: str) -> int:
        """The host number of an address in this subnet, -1 for one outside or no address."""
        try:
            n = int.from_bytes(_socket.inet_pton(self.family, address), "big") - self.base
        except (OSError, ValueError):
            return -1
        return n if 0 <= n < self.size else -1

    def __str__(self) -> str:
        return f"{self.host(0)}/{self.prefix}"


class NetworkConfig:
    """One bridge network.

    state: folder of live state, ours is <state>/network/<bridge>; bridge: at most 15 bytes; ipv4, ipv6: Subnets (empty text: the
    default); table: name of our nftables tables; publish: the address on which a port published without one listens.
    """

    __slots__ = ("bridge", "dir", "gate_mark", "gates", "ipv4", "ipv6", "publish", "table")

    def __init__(
        self,
        state: str,
        bridge: str = "minicontainer0",
        ipv4: str = "",
        ipv6: str = "",
        table: str = "minicontainer",
        publish: str = "127.0.0.1",
    ) -> None:
        if not 0 < len(bridge.encode()) <= 15 or "/" in bridge or not bridge.isprintable() or " " in bridge or bridge[0] in ".-":
            raise UsageError(f'network.bridge = "{bridge}" is no name for an interface', "1 to 15 characters, no slash, no space")
        if not table.replace("_", "").replace("-", "").isalnum() or not table[0].isalpha() or not table.isascii():
            raise UsageError(f'network.table = "{table}" is no name for an nftables table', "letters, digits, - and _")
        self.bridge = bridge
        self.table = table
        self.dir = f"{state}/network/{bridge}"
        self.ipv4 = Subnet(ipv4 or DEFAULT_IPV4, AF_INET, "network.ipv4")
        self.ipv6 = Subnet(ipv6 or DEFAULT_IPV6, AF_INET6, "network.ipv6")
        if not is_address(publish):
            raise UsageError(
                f'network.publish = "{publish}" is no IP address', "127.0.0.1 for this host only, 0.0.0.0 for everybody"
            )
        self.publish = publish
        short = crc32(f"{bridge} {table}".encode())
        # Two networks of one host (tests, a second --state) must not share a gate: see gate.py.
        self.gates = (f"mcgate{short & 0xFFFF:04x}a", f"mcgate{short & 0xFFFF:04x}b")
        self.gate_mark = 0x6D000000 | (short & 0xFFF) << 12


def is_address(text: str) -> bool:
    """Whether text is an IPv4 or IPv6 address."""
    try:
        _socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def packed(address: str) -> bytes:
    """4 or 16 bytes, network order."""
    return _socket.inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def link_name(ident: str) -> str:
    """The host's end of a container's veth."""
    return f"mc{ident[:12]}"


def link_index(ident: str) -> int:
    """Its interface index.

    Whoever names the index of one end of a new veth may name the other's too (veth_newlink()), and so the container's half
    of the plan knows eth0's before it exists. Far above what the kernel counts up to; two of 1,000 live containers
    meet with a chance of one in 2,000, and then the second start fails with EBUSY.
    """
    return 0x40000000 | crc32(ident.encode()) & 0x3FFFFFFF
