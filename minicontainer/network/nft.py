"""The nftables rules and their elements: two tables of our own, `ip minicontainer` and `ip6 minicontainer`.

A packet that opens a connection, and the chains of ours that it meets ("host" is what the host's own rules say):

    from outside    prerouting ─▶ route: this host ─▶ input: host ─▶ input: gate ──┐  published? its copy goes round, see gate.py
                    prerouting(dnat) ◀── by the same interface again ◀─────────────┘
                        └──▶ route: container ─▶ forward: host, guard ─▶ postrouting ─▶ bridge
    from the host   output(dnat) ─▶ output: host ─▶ postrouting(masquerade 127.0.0.1) ─▶ bridge
    from a container to the world             ─▶ forward: host ─▶ postrouting(masquerade)

All later packets of the connection take the short way: conntrack knows their translation.
We only translate and drop; nothing here accepts, so nothing of the host's filter is overruled.

Sets and maps, the same in both tables:
    here    address . protocol . port -> address . port     published on one address of this host
    any     protocol . port -> address . port               published on all of them
    gate    interface -> mark                               interfaces that the gate can give a packet back to
    open, openany                                           what of here and any is also for others than this host
"""

from __future__ import annotations

import os
from struct import pack

from minicontainer.errors import KernelError, NetworkError, Unsupported
from minicontainer.network.config import AF_INET, AF_INET6, NetworkConfig, packed
from minicontainer.network.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    Netlink,
    attribute,
    attributes,
    message,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GETTABLE, _NEWSETELEM, _GETSETELEM, _DELSETELEM = (_SUBSYSTEM << 8 | n for n in (1, 12, 13, 14))
_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_KEY, _DATA, _USERDATA = 1, 2, 6  # NFTA_SET_ELEM_*
_VALUE = 1  # NFTA_DATA_VALUE, and NFTA_LIST_ELEM
_TABLE_HANDLE = 4  # NFTA_TABLE_HANDLE
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
FAMILY = {AF_INET: "ip", AF_INET6: "ip6"}
# Where the copy is said to go. Nobody answers there: 192.0.0.8 is the dummy address of RFC 7600.
GATEWAY = {AF_INET: "192.0.0.8", AF_INET6: "fe80::6d63"}


class Element:
    """One element of a map or set. target: (address, port) of a map, None of a set; address: "" in any and openany."""

    __slots__ = ("address", "family", "ident", "name", "port", "protocol", "target")

    def __init__(
        self, family: int, name: str, address: str, protocol: str, port: int, target: tuple[str, int] | None, ident: str
    ) -> None:
        self.family = family
        self.name = name
        self.address = address
        self.protocol = protocol
        self.port = port
        self.target = target
        self.ident = ident

    def words(self) -> str:
        """As nft(8) writes it."""
        where = f"{self.address} . " if self.address else ""
        to = f" : {self.target[0]} . {self.target[1]}" if self.target else ""
        return f'{where}{self.protocol} . {self.port} comment "{self.ident}"{to}'

    def encoded(self) -> bytes:
        """NFTA_LIST_ELEM. Each part of a concatenation fills whole words (nft's netlink_gen_concat_key)."""
        key = (packed(self.address) if self.address else b"") + pack(">B3xH2x", PROTOCOLS[self.protocol], self.port)
        parts = [nested(_KEY, attribute(_VALUE, key))]
        if self.target:
            parts.append(nested(_DATA, attribute(_VALUE, packed(self.target[0]) + pack(">H2x", self.target[1]))))
        comment = self.ident.encode() + b"\0"
        # libnftnl's user data: type 0 is a comment; length; NUL-terminated text.
        parts.append(attribute(_USERDATA, bytes((0, len(comment))) + comment))
        return nested(_VALUE, *parts)


def _head(family: int, resource: int = 0) -> bytes:
    """struct nfgenmsg."""
    return pack(">BBH", family, 0, resource)


def batch(table: str, elements: list[Element], *, delete: bool = False) -> bytes:
    """One transaction that adds or deletes elements: all or none. One acknowledgement comes back, for its last message.

    Adding an element that is there with the same target is no error; so a repair of the tables may meanwhile have added it.
    """
    groups: dict[tuple[int, str], list[Element]] = {}
    for element in elements:
        groups.setdefault((element.family, element.name), []).append(element)
    kind, flags = (_DELSETELEM, 0) if delete else (_NEWSETELEM, NLM_F_CREATE)
    parts = []
    for number, ((family, name), members) in enumerate(groups.items(), 1):
        listed = nested(_ELEMENTS, *[e.encoded() for e in members])
        last = NLM_F_ACK if number == len(groups) else 0
        parts.append(message(kind, flags | last, _head(family) + text(_TABLE, table) + text(_SET, name) + listed, number))
    return _transaction(parts)


def _transaction(messages: list[bytes]) -> bytes:
    begin, end = (message(kind, 0, _head(0, _SUBSYSTEM)) for kind in (_BATCH_BEGIN, _BATCH_END))
    return b"".join((begin, *messages, end))


def batches(table: str, elements: list[Element], *, delete: bool = False) -> list[tuple[bytes, str]]:
    """(transaction, words) for as many as it takes: a netlink attribute has 64 KiB, and a range of ports can be long."""
    verb = "delete" if delete else "add"
    return [
        (
            batch(table, part, delete=delete),
            "; ".join(f"nft {verb} element {FAMILY[e.family]} {table} {e.name} {{ {e.words()} }}" for e in part),
        )
        for part in (elements[i : i + 200] for i in range(0, len(elements), 200))
    ]


def table_handle(netlink: Netlink, family: int, table: str) -> int:
    """The kernel's number of the table, another one whenever it is made anew; 0 if there is none."""
    from errno import ENOENT

    answers = netlink.ask(
        message(_GETTABLE, NLM_F_ACK, _head(family) + text(_TABLE, table)), f"nft list table {FAMILY[family]} {table}", ok=(ENOENT,)
    )
    return int.from_bytes(attributes(answers[0][1], 4)[_TABLE_HANDLE], "big") if answers else 0


# The socket of the last withdraw(). To close it waits for an RCU grace period (nft_rcv_nl_event(): 5 to 15 ms) if elements
# were just deleted, and nobody needs to wait: it is closed by the next withdraw(), or with the process, when that is over.
_parked: list[Netlink] = []


def withdraw(table: str, elements: list[Element], addresses: Iterable[str]) -> None:
    """Takes elements out, and lets conntrack forget the connections to the containers of addresses.

    Elements that are gone already (a host's `nft flush ruleset`) are no error.
    """
    from errno import ENOENT

    while _parked:
        _parked.pop().close()
    netlink = Netlink(NETLINK_NETFILTER)
    _parked.append(netlink)
    try:
        for request, words in batches(table, elements, delete=True):
            netlink.ask(request, words)
    except KernelError as e:
        if e.errno != ENOENT:
            raise
        # A transaction fails as a whole: one missing element keeps the others in.
        for element in elements:
            netlink.ask(batch(table, [element], delete=True), element.words(), ok=(ENOENT,))
    for address in addresses:
        _forget_connections(netlink, address)


def elements_of(netlink: Netlink, family: int, table: str, name: str) -> list[tuple[str, bytes]]:
    """(id, key as the kernel has it) of each element of a set or map; none if there is no such table."""
    from errno import ENOENT

    request = message(_GETSETELEM, NLM_F_DUMP, _head(family) + text(_TABLE, table) + text(_SET, name))
    found = []
    for _, body in netlink.ask(request, f"nft list set {FAMILY[family]} {table} {name}", ok=(ENOENT,)):
        listed = attributes(body, 4).get(_ELEMENTS, b"")
        while len(listed) >= 4:
            length = int.from_bytes(listed[:2], "little")
            element = attributes(listed[4:length])
            comment = element.get(_USERDATA, b"")
            found.append((comment[2:].rstrip(b"\0").decode(), attributes(element[_KEY])[_VALUE]))
            listed = listed[length + 3 & ~3 :]
    return found


def delete_raw(table: str, name: tuple[int, str], keys: list[bytes]) -> None:
    """Takes elements of the set (family, name) out by keys of elements_of(); one that is gone is no error."""
    from errno import ENOENT

    with Netlink(NETLINK_NETFILTER) as netlink:
        for key in keys:
            listed = nested(_ELEMENTS, nested(_VALUE, nested(_KEY, attribute(_VALUE, key))))
            body = _head(name[0]) + text(_TABLE, table) + text(_SET, name[1]) + listed
            netlink.ask(
                _transaction([message(_DELSETELEM, NLM_F_ACK, body)]), f"nft delete element {table} {name[1]}", ok=(ENOENT,)
            )


def ruleset(config: NetworkConfig, families: Iterable[int], elements: list[Element], gates: dict[int, int]) -> str:
    """The text for `nft -f`: our tables replaced as a whole, in one transaction.

    gates: interface index -> mark; empty for no gate (and then nothing is open to others).
    """
    return "".join(_table(config, family, [e for e in elements if e.family == family], gates) for family in families)


def _table(config: NetworkConfig, family: int, elements: list[Element], gates: dict[int, int]) -> str:
    ip, kind = FAMILY[family], "ipv4_addr" if family == AF_INET else "ipv6_addr"
    subnet = config.ipv4 if family == AF_INET else config.ipv6
    bridge = f'"{config.bridge}"'
    loopback = "127.0.0.0/8" if family == AF_INET else "::1"
    # ::1 is left out of "all addresses": it needs what publish() makes for it, and then has an element of its own.
    any_of_this_host = "fib daddr type local" + (" ip6 daddr != ::1" if family == AF_INET6 else "")
    translate = f"""dnat {ip} to {ip} daddr . meta l4proto . th dport map @here
    {any_of_this_host} dnat {ip} to meta l4proto . th dport map @any"""

    def collection(sort: str, name: str, key: str, to: str) -> str:
        own = ", ".join(e.words() for e in elements if e.name == name)
        return f"  {sort} {name} {{ type {key}{to};{f' elements = {{ {own} }};' if own else ''} }}\n"

    port, target = "inet_proto . inet_service", f" : {kind} . inet_service"
    return f"""add table {ip} {config.table}
delete table {ip} {config.table}
table {ip} {config.table} {{
{collection("map", "here", f"{kind} . {port}", target)}{collection("map", "any", port, target)}\
{collection("set", "open", f"{kind} . {port}", "")}{collection("set", "openany", port, "")}\
  chain martians {{
    comment "route_localnet makes 127.0.0.1 reachable by the bridge: never for what comes from a container";
    type filter hook prerouting priority -300;
    iifname {bridge} {ip} daddr {loopback} drop
    iifname {bridge} {ip} saddr {loopback} drop
  }}
  chain prerouting {{
    type nat hook prerouting priority -100;
    meta mark & 0xfffff000 != {config.gate_mark:#x} return
    {translate}
  }}
  chain unmark {{
    type filter hook prerouting priority -99;
    meta mark & 0xfffff000 == {config.gate_mark:#x} ct status dnat meta mark set 0
  }}
  chain output {{
    type nat hook output priority -100;
    {translate}
  }}
  chain guard {{
    comment "a container is reached by what it published, not by whoever sets a route to it";
    type filter hook forward priority 0;
    ct state established,related return
    ct status dnat return
    iifname != {bridge} oifname {bridge} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname {bridge} {ip} saddr {loopback} masquerade
    oifname {bridge} {ip} saddr {subnet} ct status dnat masquerade
    oifname != {bridge} {ip} saddr {subnet} masquerade
  }}
{_gate(config, family, gates) if gates else ""}}}
"""


def _gate(config: NetworkConfig, family: int, gates: dict[int, int]) -> str:
    """The chain that sends a copy of what the host's input rules let through on its second way; see gate.py."""
    ip = FAMILY[family]
    round_again = f'meta mark set iif map @gate dup to {GATEWAY[family]} device "{config.gates[0]}" drop'
    members = ", ".join(f"{index} : {mark:#x}" for index, mark in gates.items())
    return f"""  map gate {{ type iface_index : mark; elements = {{ {members} }}; }}
  chain gate {{
    comment "after every filter of the host: what got here was accepted for this host and port";
    type filter hook input priority 1000;
    ct state != new return
    meta mark & 0xfffff000 == {config.gate_mark:#x} return
    {ip} daddr . meta l4proto . th dport @open {round_again}
    fib daddr type local meta l4proto . th dport @openany {round_again}
  }}
"""


def load(rules: str) -> str:
    """`nft -f -`: all of it or nothing. What it says (for `list …`); NetworkError if it refuses; Unsupported if there is no nft."""
    inlet, outlet = os.pipe(), os.pipe()
    moves = [(os.POSIX_SPAWN_DUP2, inlet[0], 0), (os.POSIX_SPAWN_DUP2, outlet[1], 1), (os.POSIX_SPAWN_DUP2, outlet[1], 2)]
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        pid = os.posix_spawnp("nft", ["nft", "-f", "-"], environment, file_actions=moves)
    except FileNotFoundError:
        for fd in (inlet[1], outlet[0]):
            os.close(fd)
        raise Unsupported(
            "this host has no nft, which the bridge network's rules need", "install nftables, or use --network none or host"
        ) from None
    finally:
        os.close(inlet[0])
        os.close(outlet[1])
    with os.fdopen(outlet[0], "rb") as answer:
        with os.fdopen(inlet[1], "wb") as f:
            f.write(rules.encode())
        said = answer.read().decode(errors="replace")
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        lines = [line for line in said.splitlines() if line.strip() and "^" not in line]
        raise NetworkError(
            f"nft does not take the network's rules: {lines[0] if lines else 'it says nothing'}",
            "the kernel needs nf_tables with nat, fib and conntrack",
        )
    return said


def _forget_connections(netlink: Netlink, address: str) -> None:
    """Else a UDP client that goes on sending from its port would still be translated to a container that is no more.

    The kernel finds them (CTA_FILTER, Linux 5.8): of the reply's tuple the source address decides, and nothing else. Before 6.3
    it does so only for a dump, which takes twenty times as long, and they are deleted one by one.
    """
    from errno import EINVAL, ENOENT

    get, delete, original, reply, tuple_ip, filter_ = 1 << 8 | 1, 1 << 8 | 2, 1, 2, 1, 25
    family = AF_INET6 if ":" in address else AF_INET
    source = attribute(3 if family == AF_INET6 else 1, packed(address))  # CTA_IP_V6_SRC, CTA_IP_V4_SRC
    only = nested(
        filter_, attribute(1, pack("=I", 0)), attribute(2, pack("=I", 1))
    )  # flags of both tuples: CTA_FILTER_F_CTA_IP_SRC
    wanted = _head(family) + nested(reply, nested(tuple_ip, source)) + only
    try:
        netlink.ask(message(delete, NLM_F_ACK, wanted), f"conntrack -D --reply-src {address}", ok=(ENOENT,))
    except KernelError as e:
        if e.errno != EINVAL:
            raise
        for _, body in netlink.ask(message(get, NLM_F_DUMP, wanted), f"conntrack -L --reply-src {address}"):
            which = _head(family) + nested(original, attributes(body, 4)[original])
            netlink.ask(message(delete, NLM_F_ACK, which), f"conntrack -D --reply-src {address}", ok=(ENOENT,))
