"""The bridge of a network: made when it is first needed, checked before each start, repaired if somebody broke it.

What changes on the host besides the bridge and our tables (ensure() returns it as sentences, for the user to read):
    net.ipv4.ip_forward, net.ipv6.conf.all.forwarding = 1    containers reach the world
    net.ipv6.conf.<link>.accept_ra = 2, where it is 1        a host that forwards would else lose the IPv6 default route
                                                             that it learned (rt6_purge_dflt_routers(), ip-sysctl.rst)
Set on the bridge alone: route_localnet = 1 (127.0.0.1:8080 of the host leads to a container; the chain `martians` keeps
containers out of the host's own 127.0.0.1), accept_ra = 0 (no container is the host's router).
"""

from __future__ import annotations

import _socket
import os
from binascii import crc32

from minicontainer.errors import NetworkError, Unsupported
from minicontainer.network.config import AF_INET, AF_INET6, NetworkConfig, Subnet
from minicontainer.network.lock import locked
from minicontainer.network.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from minicontainer.network.nft import load, ruleset, table_handle

_IPV4_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_IPV6 = "/proc/sys/net/ipv6/conf"
_LINK_LOCAL = "fe80::1"


class Bridge:
    """A bridge that is ready.

    index: its interface index; ipv6: whether it has IPv6; changes: what was changed on the host just now, and what of the
    host stands in the way, as sentences.
    """

    __slots__ = ("changes", "index", "ipv6")

    def __init__(self, index: int, ipv6: bool, changes: list[str]) -> None:
        self.index = index
        self.ipv6 = ipv6
        self.changes = changes


def ensure(config: NetworkConfig, *, anew: bool = False) -> Bridge:
    """The bridge with its addresses, sysctls and tables; anew: the tables are made again, with all that is published.

    NetworkError if its subnet is in use elsewhere or its name is another's; Unsupported if nft or the kernel's part is missing.
    """
    found = None if anew else _ready(config)
    if found:
        return found
    with locked(config):
        return (None if anew else _ready(config)) or _make(config)


def index_of(name: str) -> int:
    """An interface's index, 0 if there is none."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return 0


def has_ipv6() -> bool:
    """Whether this host's IPv6 is there and not switched off as a whole."""
    return _read(f"{_IPV6}/all/disable_ipv6") == "0"


def write_whole(path: str, text: str) -> None:
    """Replaces a file in one step."""
    with open(f"{path}.new", "w") as f:
        f.write(text)
    os.rename(f"{path}.new", path)


def remove(config: NetworkConfig) -> None:
    """Takes bridge, gate and tables away (make uninstall, tests). The sysctls stay: others may rely on them by now."""
    from errno import ENODEV

    from minicontainer.network import rtnl

    with locked(config):
        with Netlink(NETLINK_ROUTE) as netlink:
            for name in (config.bridge, config.gates[0]):
                netlink.ask(*rtnl.delete_link(name), ok=(ENODEV,))
        with Netlink(NETLINK_NETFILTER) as netlink:
            there = [ip for family, ip in ((AF_INET, "ip"), (AF_INET6, "ip6")) if table_handle(netlink, family, config.table)]
        if there:
            load("".join(f"delete table {ip} {config.table}\n" for ip in there))
        for name in ("ready", "gate"):
            if os.path.exists(f"{config.dir}/{name}"):
                os.unlink(f"{config.dir}/{name}")


def _read(path: str) -> str:
    """A sysctl's value; "" if this kernel has no such."""
    try:
        with open(path, "rb", buffering=0) as f:
            return f.read(64).decode().strip()
    except FileNotFoundError:
        return ""


def _ready(config: NetworkConfig) -> Bridge | None:
    """The bridge if all stands as _make() left it: the same link, the same two tables, forwarding still on."""
    marker = _read(f"{config.dir}/ready").split()
    if len(marker) != 4 or index_of(config.bridge) != int(marker[0]) or _read(_IPV4_FORWARD) != "1":
        return None
    ipv6 = marker[3] == "6"
    if ipv6 and _read(f"{_IPV6}/all/forwarding") != "1":
        return None
    with Netlink(NETLINK_NETFILTER) as netlink:
        if table_handle(netlink, AF_INET, config.table) != int(marker[1]):
            return None
        if ipv6 and table_handle(netlink, AF_INET6, config.table) != int(marker[2]):
            return None
    return Bridge(int(marker[0]), ipv6, [])


def _make(config: NetworkConfig) -> Bridge:
    ipv6 = has_ipv6()
    changes: list[str] = []
    index = _make_link(config, ipv6)
    _sysctls(config, ipv6, changes)
    handles = _load_tables(config, ipv6)
    changes += _obstacles(config)
    write_whole(f"{config.dir}/ready", f"{index} {handles[0]} {handles[1]} {'6' if ipv6 else '4'}")
    return Bridge(index, ipv6, changes)


def _load_tables(config: NetworkConfig, ipv6: bool) -> tuple[int, int]:
    """Both tables, with every port that is reserved; their handles."""
    from minicontainer.network import gate, ports

    elements = [e for ident, port in ports.reserved(config) for e in port.elements(ident)]
    load(ruleset(config, (AF_INET, AF_INET6) if ipv6 else (AF_INET,), elements, gate.marks(config)))
    with Netlink(NETLINK_NETFILTER) as netlink:
        return table_handle(netlink, AF_INET, config.table), table_handle(netlink, AF_INET6, config.table) if ipv6 else 0


def _obstacles(config: NetworkConfig) -> list[str]:
    """Forward chains of the host that drop by default (docker and ufw make one), as sentences.

    Nothing of ours overrules them, so their owner has to let the bridge through.
    """
    table, found = "", []
    for line in load("list chains\n").splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = f"{words[1]} {words[2]}"
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook forward" in line and "policy drop" in line:
            found.append(
                f"note: the host's chain {table} {chain} drops what it does not accept, and so cuts containers off, "
                f"until you allow it: nft 'insert rule {table} {chain} iifname {config.bridge} accept; "
                f"insert rule {table} {chain} oifname {config.bridge} ct state established,related accept'"
            )
    return found


def _make_link(config: NetworkConfig, ipv6: bool) -> int:
    """The link with its addresses, by pyroute2: this is the rare case, and its import is dear."""
    from errno import EEXIST

    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    from minicontainer.network import rtnl

    try:
        with IPRoute() as route:
            index = _existing(route, config) or _new_link(route, config)
            if ipv6:
                # With an automatic one the bridge's neighbour discovery for what it forwards would wait for duplicate address
                # detection (ndisc_send_ns()): 2 s of silence for the first container after each time that there was none.
                _set(f"{_IPV6}/{config.bridge}/addr_gen_mode", "1")
            route.link("set", index=index, state="up")
            route.addr("replace", index=index, address=config.ipv4.gateway, prefixlen=config.ipv4.prefix)
            for address, prefix in ((config.ipv6.gateway, config.ipv6.prefix), (_LINK_LOCAL, 64)) if ipv6 else ():
                route.addr("replace", index=index, address=address, prefixlen=prefix, family=AF_INET6, flags=rtnl.IFA_F_NODAD)
    except NetlinkError as e:
        raise NetworkError(
            f"the bridge {config.bridge} can't be made: {os.strerror(e.code)}",
            "the network needs root and a kernel with bridge and veth; --network none needs neither",
        ) from e
    if ipv6:
        with Netlink(NETLINK_ROUTE) as netlink:
            netlink.ask(*rtnl.local_loopback6(index, config.bridge), ok=(EEXIST,))
    return index


def _existing(route: object, config: NetworkConfig) -> int:
    """The index of our bridge if it is there; NetworkError if the name is another's."""
    index = index_of(config.bridge)
    if not index:
        return 0
    link = route.get_links(index)[0]  # type: ignore[attr-defined]
    kind = (link.get_attr("IFLA_LINKINFO") or {}).get("attrs", [("", "")])
    if ("IFLA_INFO_KIND", "bridge") not in [tuple(a) for a in kind]:
        raise NetworkError(f"the interface {config.bridge} is no bridge", 'choose another name: bridge = "…" under [network]')
    owner = link.get_attr("IFLA_IFALIAS") or ""
    mine = f"minicontainer {config.dir}"
    if owner != mine and owner.startswith("minicontainer ") and os.path.exists(owner.partition(" ")[2]):
        state = owner.partition(" ")[2].rpartition("/network/")[0]
        raise NetworkError(
            f"the bridge {config.bridge} belongs to the containers of {state}",
            "a state folder of its own needs a bridge of its own: set bridge and table under [network] in the configuration file",
        )
    if owner != mine:
        route.link("set", index=index, IFLA_IFALIAS=mine)  # type: ignore[attr-defined]
    return index


def _new_link(route: object, config: NetworkConfig) -> int:
    _refuse_overlap(route, config)
    # A MAC of its own: else the bridge takes its ports', and changes it as containers come and go.
    mac = "02:6d:63:" + ":".join(f"{b:02x}" for b in crc32(config.dir.encode()).to_bytes(4, "big")[:3])
    route.link("add", ifname=config.bridge, kind="bridge", address=mac)  # type: ignore[attr-defined]
    index = index_of(config.bridge)
    route.link("set", index=index, IFLA_IFALIAS=f"minicontainer {config.dir}")  # type: ignore[attr-defined]
    return index


def _refuse_overlap(route: object, config: NetworkConfig) -> None:
    """NetworkError if a route of the host leads into one of our subnets, or one of ours would cover it."""
    for subnet in (config.ipv4, config.ipv6):
        for known in route.get_routes(family=subnet.family, table=254):  # type: ignore[attr-defined]
            text = known.get_attr("RTA_DST")
            if text and _overlaps(subnet, text, known["dst_len"]):
                device = next((name for i, name in _socket.if_nameindex() if i == known.get_attr("RTA_OIF")), "?")
                setting = "ipv4" if subnet.family == AF_INET else "ipv6"
                raise NetworkError(
                    f"the subnet {subnet} of {config.bridge} overlaps this host's route to {text}/{known['dst_len']} by {device}",
                    f'choose another: {setting} = "…" under [network] in the configuration file',
                )


def _overlaps(subnet: Subnet, address: str, prefix: int) -> bool:
    shift = subnet.bits - min(prefix, subnet.prefix)
    other = int.from_bytes(_socket.inet_pton(subnet.family, address), "big")
    return subnet.base >> shift == other >> shift


def _sysctls(config: NetworkConfig, ipv6: bool, changes: list[str]) -> None:
    if ipv6:
        if _read(f"{_IPV6}/all/forwarding") != "1":
            for link in sorted(os.listdir(_IPV6)):
                if link not in ("all", "default", "lo", config.bridge) and _read(f"{_IPV6}/{link}/accept_ra") == "1":
                    _set(f"{_IPV6}/{link}/accept_ra", "2", changes, "keeps the IPv6 routes it learned")
        _set(f"{_IPV6}/all/forwarding", "1", changes, "containers reach the world by IPv6")
        _set(f"{_IPV6}/{config.bridge}/accept_ra", "0")
    _set(_IPV4_FORWARD, "1", changes, "containers reach the world")
    _set(f"/proc/sys/net/ipv4/conf/{config.bridge}/route_localnet", "1")


def _set(path: str, value: str, changes: list[str] | None = None, why: str = "") -> None:
    before = _read(path)
    if before == value:
        return
    name = path.removeprefix("/proc/sys/").replace("/", ".")
    try:
        with open(path, "w") as f:
            f.write(value)
    except OSError as e:
        reason = why or "the bridge needs it"
        raise Unsupported(f"sysctl {name} = {value}: {os.strerror(e.errno or 0)}", f"set it yourself ({reason})") from e
    if changes is not None:
        changes.append(f"{name}: {before} -> {value} ({why})")
