"""linux.netDevices: network devices of the host that move into the container, with their addresses (config-linux.md)."""

from __future__ import annotations

import _socket
from struct import pack, unpack_from

from minicontainer.errors import UsageError
from minicontainer.network import netlink, rtnl
from minicontainer.runtime.builder import Ops
from minicontainer.runtime.plan import Network
from minicontainer.stub.ops import Op, Slot, store
from minicontainer.stub.ops import rtnl as request

_AF_NETLINK = 16
_IFLA_NEW_IFINDEX = 49  # Linux 5.13
_IFLA_NET_NS_FD = 28
_FIRST_VALUE = 16 + 16 + 4  # behind struct nlmsghdr, struct ifinfomsg and an attribute's head
_SCOPE_UNIVERSE = 0
_IFF_UP = 1
_FIRST_INDEX = 1 << 16  # in a network namespace that others made, smaller ones may be taken


class NetDevices(Network):
    """What linux.netDevices contributes to a plan. devices: the spec's; joined: the path of the namespace, "" if it is new.

    UsageError if the host lacks one. Where each goes in the container is decided here, by index: the kernel may choose its name.
    """

    def __init__(self, devices: dict, joined: str) -> None:
        self._joined = joined
        self._devices: list[tuple[str, str, int, int, list[bytes]]] = []  # name, name inside, index, index inside, addresses
        found = _addresses()
        for name, device in devices.items():
            try:
                index = _socket.if_nametoindex(name)
            except OSError:
                raise UsageError(f"linux.netDevices: the host has no network device {name}", "see `ip link`") from None
            inside = index | _FIRST_INDEX if joined else index
            self._devices.append((name, device.get("name") or name, index, inside, found.get(index, [])))

    def host(self, pid: int) -> list[Op]:
        """Ops in the caller's process: each device goes down, and then into the network namespace of pid, or the one to join."""
        ops, sock, there = Ops(), Slot("rtnetlink"), Slot("nowhere")
        if self._joined:  # pid may not have joined it yet
            there = ops.open(None, self._joined, 0, name="network namespace", why="where they move to")
        ops.call("socket", _AF_NETLINK, netlink.SOCK_RAW_CLOEXEC, netlink.NETLINK_ROUTE, out=sock, why="to move network devices")
        for name, new, index, inside, _ in self._devices:
            down = netlink.message(rtnl.RTM_NEWLINK, netlink.NLM_F_ACK, pack("=BxHiII", 0, 0, index, 0, _IFF_UP))
            ops.append(request(sock, down, f"ip link set {name} down", why=f"nobody on the host uses {name} any more"))
            moved = netlink.message(
                rtnl.RTM_NEWLINK,
                netlink.NLM_F_ACK,
                pack("=BxHiII", 0, 0, index, 0, 0)
                + netlink.attribute(_IFLA_NET_NS_FD if self._joined else rtnl.IFLA_NET_NS_PID, pack("=I", pid))
                + netlink.text(rtnl.IFLA_IFNAME, new)
                + (netlink.attribute(_IFLA_NEW_IFINDEX, pack("=i", inside)) if inside != index else b""),
            )
            words = f"ip link set {name} netns {self._joined or pid} name {new}{f' index {inside}' if inside != index else ''}"
            move = request(sock, moved, words, why=f"{name} becomes the container's, as {new}")
            if self._joined:
                ops.append(store(there, move.args[1], _FIRST_VALUE, why="by descriptor"))
            ops.append(move)
        for fd in (sock, *([there] if self._joined else ())):
            ops.call("close", fd, why="they are moved")
        return list(ops)

    def container(self, sock: Slot) -> list[Op]:
        """Ops in the container: the addresses that the kernel took from the devices on their way, and up."""
        ops = [] if self._joined else super().container(sock)
        for _, new, _, inside, addresses in self._devices:
            for body in addresses:
                data = netlink.message(
                    rtnl.RTM_NEWADDR,
                    netlink.NLM_F_ACK | netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
                    body[:4] + pack("=I", inside) + body[8:],
                )
                ops.append(request(sock, data, f"ip addr add {_words(body)} dev {new}", why="an address that it had on the host"))
            ops.append(request(sock, *rtnl.link_up(inside, new), why=f"{new} can be used"))
        return ops


def _addresses() -> dict[int, list[bytes]]:
    """The permanent addresses of global scope, by the index of their device: struct ifaddrmsg and attributes for RTM_NEWADDR."""
    found: dict[int, list[bytes]] = {}
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    with netlink.Netlink(netlink.NETLINK_ROUTE) as sock:
        for kind, body in sock.ask(netlink.message(rtnl.RTM_GETADDR, flags, pack("=BBBBI", 0, 0, 0, 0, 0)), "ip addr"):
            if kind != rtnl.RTM_NEWADDR:
                continue
            family, prefix, marks, scope, index = unpack_from("=BBBBI", body)
            if not marks & rtnl.IFA_F_PERMANENT or scope != _SCOPE_UNIVERSE:
                continue
            parts = netlink.attributes(body, 8)
            kept = (rtnl.IFA_ADDRESS, rtnl.IFA_LOCAL, rtnl.IFA_BROADCAST)
            head = pack("=BBBBI", family, prefix, rtnl.IFA_F_PERMANENT, scope, index)
            found.setdefault(index, []).append(head + b"".join(netlink.attribute(k, parts[k]) for k in kept if k in parts))
    return found


def _words(body: bytes) -> str:
    family, prefix = body[0], body[1]
    return f"{_socket.inet_ntop(family, netlink.attributes(body, 8)[rtnl.IFA_ADDRESS])}/{prefix}"
