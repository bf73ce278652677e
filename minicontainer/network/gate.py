"""The gate: a port published to others obeys the host's own input rules, although its traffic is forwarded.

Docker translates a packet for a published port before the host's input rules can see it, so they never apply to it: people who
`ufw deny 8080` find it open. Here the first packet of a connection is shown to the host twice, each time as it came:

    1. It comes in by, say, eth0, is not translated, and meets the host's input rules as any packet for host:8080 does. If they
       drop or reject it, that was all. Behind them, last in the input hook, our chain `gate` marks it with a number
       that stands for eth0, sends a copy into one end of a veth (nft's dup), and drops the packet itself.
    2. The copy comes out of the other end. There a filter of tc sends whatever bears the number of eth0 to eth0's ingress
       (mirred), as if it came by that cable just now. This time prerouting sees the mark and translates; the packet is
       routed to the container and meets the host's forward rules, with its true interface, its source address, and
       `ct original proto-dst` for the port it asked for.

    eth0 ─┬─▶ input: host's rules ─▶ gate: mark, dup ──▶ mcgateXXXXa ═══ mcgateXXXXb ─▶ tc: mark 1? mirred ─┐
          └─◀────────────────────────────────────────────────────────────────────────────────────────────┘
               second time: prerouting: dnat ─▶ forward: host's rules ─▶ bridge

No connection is remembered until both have let it through (conntrack confirms at the end of input or postrouting, and the first
packet never gets there), so all later packets are translated at once and cost nothing extra. No packet leaves the kernel.

tc cannot take the interface from a packet, so each interface of the host that has an address gets a number and a filter, when a
port is published. By one that came later the port is closed until the next publication: it fails to the safe side.
"""

from __future__ import annotations

import _socket
import os
from struct import Struct, pack

from minicontainer.errors import KernelError, MinicontainerError, NetworkError, Unsupported
from minicontainer.network import bridge as bridges
from minicontainer.network import rtnl
from minicontainer.network.config import NetworkConfig
from minicontainer.network.lock import locked
from minicontainer.network.netlink import (
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    attribute,
    message,
    nested,
    text,
)
from minicontainer.network.nft import GATEWAY

_MAC = "02:6d:63:67:61:74"  # of both ends: without ARP, what is sent goes to the sender's own address (arp_constructor())
_MTU = 65535
_MOST = 0xFFF  # the mark has twelve bits for the number
_RT_SCOPE_LINK = 253
_RTM_NEWQDISC, _RTM_NEWTFILTER = 36, 44
_TC_H_CLSACT, _TC_INGRESS = 0xFFFFFFF1, 0xFFFFFFF2
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_ACT, _TCA_BPF_OPS_LEN, _TCA_BPF_OPS = 1, 4, 5
_TCA_ACT_KIND, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS = 1, 2, 2
_TC_ACT_STOLEN, _TCA_INGRESS_REDIR = 4, 3
_ETH_P_ALL = 0x0003
_TCMSG = Struct("=BxxxiIII")


def ensure(config: NetworkConfig) -> None:
    """The gate stands and knows every interface of the host that has an address. Unsupported if this kernel can't."""
    with Netlink(NETLINK_ROUTE) as netlink:
        if _whole(config, netlink):
            return
        with locked(config):
            if not _whole(config, netlink):
                _build(config, netlink)
    try:
        bridges.ensure(config, anew=True)
    except NetworkError as e:
        # Without the gate all else still works, and has to.
        os.unlink(f"{config.dir}/gate")
        bridges.ensure(config, anew=True)
        raise _unsupported(e) from e


def marks(config: NetworkConfig) -> dict[int, int]:
    """interface index -> mark, as they were last set up; empty if there is no gate (or its links are gone)."""
    try:
        with open(f"{config.dir}/gate", "rb", buffering=0) as f:
            own, *numbered = f.read(1 << 16).decode().split()
        if _socket.if_nametoindex(config.gates[0]) != int(own):
            return {}
    except (FileNotFoundError, OSError):
        return {}
    return {int(index): config.gate_mark | int(number) for index, number in (pair.split(":") for pair in numbered)}


def filter_request(config_mark: int, number: int, index: int, gate_index: int) -> tuple[bytes, str]:
    """What comes by the gate with the mark of number goes in by the interface index (tc-bpf(8), tc-mirred(8)).

    cls_fw would say the same with less, but is rarer than cls_bpf among the kernels people run.
    """
    mark = config_mark | number
    # Classic BPF: load skb->mark (SKF_AD_OFF + SKF_AD_MARK), return -1 (matches) if it is the mark, else 0.
    program = b"".join(
        pack("=HBBI", *each)
        for each in ((0x20, 0, 0, 0xFFFFF000 + 20), (0x15, 0, 1, mark), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
    )
    # struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
    parameters = pack("=IIiiiiI", 0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_INGRESS_REDIR, index)
    mirred = nested(1, text(_TCA_ACT_KIND, "mirred"), nested(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, parameters)))
    matching = attribute(_TCA_BPF_OPS_LEN, pack("=H", 4)) + attribute(_TCA_BPF_OPS, program)
    body = (
        _TCMSG.pack(0, gate_index, number, _TC_INGRESS, 1 << 16 | _socket.htons(_ETH_P_ALL))
        + text(_TCA_KIND, "bpf")
        + nested(_TCA_OPTIONS, nested(_TCA_BPF_ACT, mirred), matching)
    )
    words = f"tc filter replace ingress handle {number} bpf (mark == {mark:#x}) action mirred ingress redirect index {index}"
    return message(_RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body), words


def _whole(config: NetworkConfig, netlink: Netlink) -> bool:
    return _addressed(netlink) <= marks(config).keys()


def _addressed(netlink: Netlink) -> set[int]:
    """Indexes of the interfaces, without lo, that have an address of more than their own link."""
    answers = netlink.ask(message(rtnl.RTM_GETADDR, NLM_F_DUMP, pack("=BBBBI", 0, 0, 0, 0, 0)), "ip addr")
    return {
        int.from_bytes(body[4:8], "little")
        for _, body in answers
        if body[3] < _RT_SCOPE_LINK and int.from_bytes(body[4:8], "little") != rtnl.LOOPBACK_INDEX
    }


def _build(config: NetworkConfig, netlink: Netlink) -> None:
    """Links, filters and the file that remembers them; the tables follow."""
    have = marks(config)
    try:
        if not have:
            _make_links(config, netlink)
        inner, outer = (_socket.if_nametoindex(name) for name in config.gates)
        wanted = _addressed(netlink)
        numbers = {index: mark & _MOST for index, mark in have.items() if index in wanted}
        free = iter(sorted(set(range(1, _MOST + 1)) - set(numbers.values())))
        for index in sorted(wanted - numbers.keys()):
            number = next(free, 0)
            if not number:
                break
            netlink.ask(*filter_request(config.gate_mark, number, index, outer))
            numbers[index] = number
    except KernelError as e:
        raise _unsupported(e) from e
    bridges.write_whole(f"{config.dir}/gate", " ".join([str(inner), *(f"{i}:{n}" for i, n in numbers.items())]))


def _unsupported(cause: MinicontainerError) -> Unsupported:
    return Unsupported(
        f"no port can be published to others: {cause.message}",
        "this needs nft_dup_ipv4, nft_dup_ipv6, cls_bpf, act_mirred of the kernel; publish on 127.0.0.1",
    )


def _make_links(config: NetworkConfig, netlink: Netlink) -> None:
    """Both ends down, without addresses of their own, then up."""
    from errno import EEXIST, ENODEV

    inner, outer = config.gates
    netlink.ask(*rtnl.delete_link(inner), ok=(ENODEV,))
    netlink.ask(*rtnl.veth_pair(inner, outer, _MAC, _MTU))
    indexes = [_socket.if_nametoindex(name) for name in config.gates]
    for name, index in zip(config.gates, indexes):
        if os.path.isdir(f"/proc/sys/net/ipv6/conf/{name}"):
            with open(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "w") as f:
                f.write("1")  # none: two ends with one MAC would find each other's address a duplicate
        netlink.ask(*rtnl.link_up(index, name))
    if bridges.has_ipv6():
        netlink.ask(*rtnl.host_route(indexes[0], inner, GATEWAY[10]), ok=(EEXIST,))
    qdisc = _TCMSG.pack(0, indexes[1], 0xFFFF0000, _TC_H_CLSACT, 0) + text(_TCA_KIND, "clsact")
    netlink.ask(message(_RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, qdisc), f"tc qdisc add dev {outer} clsact")
