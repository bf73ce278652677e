"""One container's place in the bridge network.

    start:  attach(config, id, …)            bridge ready, addresses and host ports taken: names and numbers are known
            endpoint.host_ops(pid)           after the clone: the cable, and the ports in nftables
            endpoint.container_ops(socket)   in the container: lo, addresses, routes
    stop:   release(config, id, endpoint)    ports and addresses given back; the cable dies with its network namespace
    crash:  reclaim.reclaim(…)               finds the same by the id alone

`--network none` needs none of it: its container_ops are lo_ops(). With host, or another container's network,
there is nothing to do.
"""

from __future__ import annotations

from minicontainer.errors import NetworkError
from minicontainer.network import addresses, bridge, nft, ports, rtnl
from minicontainer.network.config import NetworkConfig, link_index, link_name
from minicontainer.network.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, SOCK_RAW_CLOEXEC
from minicontainer.network.ports import Port, Publication
from minicontainer.stub.ops import Op, Slot, syscall
from minicontainer.stub.ops import rtnl as request

_AF_NETLINK = 16
_ENODEV = 19


class Endpoint:
    """Addresses, names and ports of one container. ip6 is "" where the host has no IPv6. changes: see bridge.Bridge."""

    __slots__ = (
        "bridge",
        "bridge_index",
        "changes",
        "gateway",
        "gateway6",
        "ident",
        "ip",
        "ip6",
        "leftover",
        "mac",
        "ports",
        "prefix",
        "prefix6",
        "table",
        "_broadcast",
    )

    def __init__(
        self, config: NetworkConfig, ident: str, bridge_index: int, ip: str, ip6: str, mac: str, published: list[Port]
    ) -> None:
        self.ident = ident
        self.bridge = config.bridge
        self.bridge_index = bridge_index
        self.table = config.table
        self.ip, self.prefix, self.gateway = ip, config.ipv4.prefix, config.ipv4.gateway
        self.ip6, self.prefix6, self.gateway6 = ip6, config.ipv6.prefix if ip6 else 0, config.ipv6.gateway if ip6 else ""
        self.mac = mac or addresses.mac_of(ip)
        self.ports = published
        self.changes: list[str] = []
        self.leftover = False
        self._broadcast = config.ipv4.host(config.ipv4.size - 1)

    def host_ops(self, pid: int) -> list[Op]:
        """After the clone, in the host's network namespace. pid: the container's first process."""
        sock, link = Slot("rtnetlink"), link_name(self.ident)
        ops = [syscall("socket", _AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE, out=sock, why="to plug in the network cable")]
        if self.leftover:
            message, text = rtnl.delete_link(link)
            ops.append(
                request(
                    sock, message, text, ok=(_ENODEV,), why="the cable of its last run, which the kernel has not yet taken away"
                )
            )
        message, text = rtnl.veth(link, link_index(self.ident), self.bridge, self.bridge_index, self.mac, pid)
        ops.append(request(sock, message, text, why=f"a cable from the bridge {self.bridge} to eth0 in the container"))
        if any(port.for_others for port in self.ports):
            message, text = rtnl.hairpin(link_index(self.ident), link)
            ops.append(request(sock, message, text, why="so that it reaches itself by a port it published"))
        ops.append(syscall("close", sock, why="no longer needed"))
        return ops + self._publish_ops()

    def _publish_ops(self) -> list[Op]:
        if not self.ports:
            return []
        sock = Slot("nfnetlink")
        elements = [e for port in self.ports for e in port.elements(self.ident)]
        published = ", ".join(map(str, self.ports[:3])) + (f" and {len(self.ports) - 3} more" if len(self.ports) > 3 else "")
        return [
            syscall("socket", _AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER, out=sock, why="to publish ports"),
            *(request(sock, message, text, why=f"published: {published}") for message, text in nft.batches(self.table, elements)),
            syscall("close", sock, why="no longer needed"),
        ]

    def container_ops(self, sock: Slot) -> list[Op]:
        """In the container, over an rtnetlink socket of its network namespace."""
        eth0 = rtnl.ETH0_INDEX
        steps = [
            (rtnl.link_up(eth0, "eth0"), "the cable is live"),
            (rtnl.address(eth0, "eth0", self.ip, self.prefix, self._broadcast), "its IPv4 address"),
            (rtnl.default_route(eth0, "eth0", self.gateway), "to the world by way of the bridge"),
        ]
        if self.ip6:
            steps.append(
                (
                    rtnl.address(eth0, "eth0", self.ip6, self.prefix6),
                    "its IPv6 address, at once and without asking whether others have it",
                )
            )
            steps.append((rtnl.default_route(eth0, "eth0", self.gateway6), "the same for IPv6"))
        return lo_ops(sock) + [request(sock, message, text, why=why) for (message, text), why in steps]

    def to_dict(self) -> dict:
        """For state.json and inspect: JSON values only."""
        return {
            "bridge": self.bridge,
            "link": link_name(self.ident),
            "mac": self.mac,
            "ip": self.ip,
            "prefix": self.prefix,
            "gateway": self.gateway,
            "ip6": self.ip6,
            "prefix6": self.prefix6,
            "gateway6": self.gateway6,
            "ports": [[p.ip, p.port, p.protocol, p.target, p.target_port] for p in self.ports],
        }


def lo_ops(sock: Slot) -> list[Op]:
    """All that a container with --network none has."""
    message, text = rtnl.link_up(rtnl.LOOPBACK_INDEX, "lo")
    return [request(sock, message, text, why="127.0.0.1 and ::1 of its own")]


def ports_of(state: dict) -> list[Port]:
    """The published ports in a to_dict()."""
    return [Port(*each) for each in state.get("ports", ())]


def attach(
    config: NetworkConfig, ident: str, *, publications: list[Publication] | None = None, ip: str = "", ip6: str = "", mac: str = ""
) -> Endpoint:
    """Takes everything that has to be exclusive for the container; all or nothing.

    The container must be findable as live by then (see reclaim.py). publications: of -p; ip, ip6, mac: asked for by flag.
    Conflict for a port or address that is taken; NetworkError, Unsupported as in bridge.ensure() and gate.ensure().
    """
    ready = bridge.ensure(config)
    if ip6 and not ready.ipv6:
        raise NetworkError(
            f"--ip6 {ip6}: IPv6 is switched off on this host", "leave --ip6 out, or set net.ipv6.conf.all.disable_ipv6 = 0"
        )
    own = own6 = ""
    published: list[Port] = []
    try:
        own = addresses.allocate(config, ident, config.ipv4, ip)
        own6 = addresses.allocate(config, ident, config.ipv6, ip6) if ready.ipv6 else ""
        published = ports.reserve(config, ident, publications or [], own, own6)
        if any(port.for_others for port in published):
            from minicontainer.network import gate

            gate.ensure(config)
    except BaseException:
        ports.unpublish(config, ident, published)
        for address in filter(None, (own, own6)):
            addresses.release(config, ident, address)
        raise
    endpoint = Endpoint(config, ident, ready.index, own, own6, mac, published)
    endpoint.changes = ready.changes
    endpoint.leftover = bridge.index_of(link_name(ident)) != 0
    return endpoint


def preview(
    config: NetworkConfig, ident: str, *, publications: list[Publication] | None = None, ip: str = "", ip6: str = "", mac: str = ""
) -> Endpoint:
    """What attach() would give now, for --dry-run: nothing is made, nothing is taken; a random port shows as 0."""
    ip = ip or addresses.preview(config, config.ipv4)
    ip6 = ip6 or (addresses.preview(config, config.ipv6) if bridge.has_ipv6() else "")
    published = []
    for wanted in publications or []:
        address = wanted.ip or config.publish
        published.append(Port(address, wanted.first, wanted.protocol, ip6 if ":" in address else ip, wanted.container_port))
    return Endpoint(config, ident, bridge.index_of(config.bridge), ip, ip6, mac, published)


def release(config: NetworkConfig, ident: str, state: dict) -> None:
    """After the container's last process: state is its to_dict(). What is gone already, or another's by now, is left alone."""
    published = ports_of(state)
    if published:
        ports.unpublish(config, ident, published)
    for address in (state.get("ip"), state.get("ip6")):
        if address:
            addresses.release(config, ident, address)
