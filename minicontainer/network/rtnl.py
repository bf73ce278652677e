"""The rtnetlink requests of a container start (rtnetlink(7), linux/if_link.h, linux/veth.h).

Each function returns (message, text): the bytes, and the words in which ip(8) would ask for the same. They are made here
and not by pyroute2 because its import alone takes five times as long as a container start; tests hold them against its.
"""

from __future__ import annotations

from struct import pack

from minicontainer.network.config import packed
from minicontainer.network.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    message,
    nested,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    Request = tuple[bytes, str]

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE = 16, 17, 19, 20, 22, 24
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_PID = 1, 3, 4, 10, 18, 19
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
_AF_BRIDGE, _IFLA_PROTINFO, _IFLA_BRPORT_MODE = 7, 12, 4
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_BOOT, RTN_UNICAST, RTN_LOCAL = 254, 255, 3, 1, 2
IFF_UP, IFF_NOARP = 0x1, 0x80
LOOPBACK_INDEX, ETH0_INDEX = 1, 1000
_NEW = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


def _ifinfo(index: int = 0, flags: int = 0) -> bytes:
    """struct ifinfomsg; of the flags only those given are changed."""
    return pack("=BxHiII", 0, 0, index, flags, flags)


def mac_bytes(mac: str) -> bytes:
    """Six bytes of "02:42:0a:d5:00:02"."""
    return bytes.fromhex(mac.replace(":", ""))


def veth(name: str, index: int, bridge: str, bridge_index: int, mac: str, pid: int) -> Request:
    """A veth pair, made whole: our end up and in the bridge, the other one as eth0 in the network namespace of pid.

    eth0 gets ETH0_INDEX, which the kernel honours only if our end's index is given too.
    """
    peer = (
        _ifinfo(ETH0_INDEX)
        + text(IFLA_IFNAME, "eth0")
        + attribute(IFLA_ADDRESS, mac_bytes(mac))
        + attribute(IFLA_NET_NS_PID, pack("=I", pid))
    )
    body = (
        _ifinfo(index, IFF_UP)
        + text(IFLA_IFNAME, name)
        + attribute(IFLA_MASTER, pack("=I", bridge_index))
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)))
    )
    words = f"ip link add {name} index {index} master {bridge} up type veth peer eth0 index {ETH0_INDEX} address {mac} netns {pid}"
    return message(RTM_NEWLINK, _NEW, body), words


def delete_link(name: str) -> Request:
    """The end of a link, and of its other end if it is a veth."""
    return message(RTM_DELLINK, NLM_F_ACK, _ifinfo() + text(IFLA_IFNAME, name)), f"ip link del {name}"


def hairpin(index: int, name: str) -> Request:
    """Lets the bridge send frames back to the port they came from (bridge(8)).

    With br_netfilter the bridge itself translates later packets of a connection, and so needs this for a container that
    reaches itself by its published port.
    """
    body = pack("=BxHiII", _AF_BRIDGE, 0, index, 0, 0) + nested(_IFLA_PROTINFO, attribute(_IFLA_BRPORT_MODE, b"\1"))
    return message(RTM_SETLINK, NLM_F_ACK, body), f"bridge link set dev {name} hairpin on"


def link_up(index: int, name: str) -> Request:
    """Sets a link up."""
    return message(RTM_NEWLINK, NLM_F_ACK, _ifinfo(index, IFF_UP)), f"ip link set {name} up"


def address(index: int, name: str, address: str, prefix: int, broadcast: str = "") -> Request:
    """An address of a link. IPv6 without duplicate address detection: we hand out each address once, and
    a second's wait for it would be the longest step of a start.
    """
    raw = packed(address)
    if ":" in address:
        head = pack("=BBBBI", 10, prefix, IFA_F_PERMANENT | IFA_F_NODAD, 0, index)
        body, words = head + attribute(IFA_ADDRESS, raw) + attribute(IFA_LOCAL, raw), " nodad"
    else:
        head = pack("=BBBBI", 2, prefix, IFA_F_PERMANENT, 0, index)
        body = head + attribute(IFA_ADDRESS, raw) + attribute(IFA_LOCAL, raw) + attribute(IFA_BROADCAST, packed(broadcast))
        words = f" broadcast {broadcast}"
    return message(RTM_NEWADDR, _NEW, body), f"ip addr add {address}/{prefix}{words} dev {name}"


def default_route(index: int, name: str, gateway: str) -> Request:
    """The default route by way of gateway."""
    family = 10 if ":" in gateway else 2
    head = pack("=BBBBBBBBI", family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
    body = head + attribute(RTA_GATEWAY, packed(gateway)) + attribute(RTA_OIF, pack("=I", index))
    return message(RTM_NEWROUTE, _NEW, body), f"ip {'-6 ' if family == 10 else ''}route add default via {gateway} dev {name}"


def local_loopback6(index: int, name: str) -> Request:
    """::1 as a local address of a link too, after lo's own.

    IPv6 has no route_localnet. An answer that comes back to ::1 by the bridge is looked up strictly among the bridge's
    routes (rt6_need_strict()), and this one is there for it. Nothing from the wire gets so far: ip6_rcv_core()
    drops packets that have ::1 in their header on any link but lo.
    """
    head = pack("=BBBBBBBBI", 10, 128, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, 0, RTN_LOCAL, 0)
    body = (
        head + attribute(RTA_DST, packed("::1")) + attribute(RTA_OIF, pack("=I", index)) + attribute(RTA_PRIORITY, pack("=I", 4096))
    )
    return message(RTM_NEWROUTE, _NEW, body), f"ip -6 route add local ::1 dev {name} table local metric 4096"


def host_route(index: int, name: str, address: str) -> Request:
    """A route to one IPv6 address on a link."""
    head = pack("=BBBBBBBBI", 10, 128, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0)
    body = head + attribute(RTA_DST, packed(address)) + attribute(RTA_OIF, pack("=I", index))
    return message(RTM_NEWROUTE, _NEW, body), f"ip -6 route add {address} dev {name}"


def veth_pair(name: str, peer_name: str, mac: str, mtu: int) -> Request:
    """A veth pair with both ends here, down, without ARP, of one MAC."""
    common = attribute(IFLA_ADDRESS, mac_bytes(mac)) + attribute(IFLA_MTU, pack("=I", mtu))
    peer = _ifinfo(0, IFF_NOARP) + text(IFLA_IFNAME, peer_name) + common
    body = (
        _ifinfo(0, IFF_NOARP)
        + text(IFLA_IFNAME, name)
        + common
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)))
    )
    return message(
        RTM_NEWLINK, _NEW, body
    ), f"ip link add {name} address {mac} mtu {mtu} type veth peer {peer_name} address {mac} mtu {mtu}"
