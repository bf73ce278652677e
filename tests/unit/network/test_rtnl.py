"""Our rtnetlink messages against pyroute2: its encoder for the same request, and its decoder for ours."""

from __future__ import annotations

import socket

import pytest
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nla_slot
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from minicontainer.network import rtnl

NEW = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
SET = NLM_F_REQUEST | NLM_F_ACK


def decoded(kind: type, data: bytes) -> dict:
    message = kind(data)
    message.decode()
    return plain(message)


def encoded(kind: type, fields: dict, attrs: list, message_type: int, flags: int) -> bytes:
    message = kind()
    message.update(fields)
    message["attrs"] = attrs
    message["header"] = {"type": message_type, "flags": flags, "sequence_number": 1, "pid": 0}
    message.encode()
    return bytes(message.data)


def plain(value: object) -> object:
    """A message without what is not on the wire."""
    if hasattr(value, "items"):
        skipped = ("error", "target", "stats", "event")
        return {k: plain(v) for k, v in value.items() if k not in skipped}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, nla_slot):
        return (value.name, plain(value.value))
    return value


def test_a_veth_pair_is_asked_for_as_pyroute2_does() -> None:
    message, text = rtnl.veth("mc0123456789ab", 1073742115, "minicontainer0", 7, "02:42:0a:d5:00:02", 4711)
    peer = {
        "index": rtnl.ETH0_INDEX,
        "attrs": [["IFLA_IFNAME", "eth0"], ["IFLA_ADDRESS", "02:42:0a:d5:00:02"], ["IFLA_NET_NS_PID", 4711]],
    }
    theirs = encoded(
        ifinfmsg,
        {"family": 0, "index": 1073742115, "flags": 1, "change": 1},
        [
            ["IFLA_IFNAME", "mc0123456789ab"],
            ["IFLA_MASTER", 7],
            ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}]]}],
        ],
        16,
        NEW,
    )
    assert decoded(ifinfmsg, message) == decoded(ifinfmsg, theirs)
    assert without_nested_flag(message) == without_nested_flag(theirs)
    assert text == (
        "ip link add mc0123456789ab index 1073742115 master minicontainer0 up "
        "type veth peer eth0 index 1000 address 02:42:0a:d5:00:02 netns 4711"
    )


def without_nested_flag(message: bytes) -> bytes:
    """NLA_F_NESTED on IFLA_LINKINFO (18) and IFLA_INFO_DATA (2): the kernel takes these attributes with and without it."""
    return message.replace(b"\x12\x80", b"\x12\x00").replace(b"\x02\x80", b"\x02\x00")


@pytest.mark.parametrize(
    ("ours", "fields", "attrs", "kind", "flags"),
    [
        (rtnl.link_up(1, "lo"), {"index": 1, "flags": 1, "change": 1}, [], 16, SET),
        (rtnl.delete_link("mcabc"), {}, [["IFLA_IFNAME", "mcabc"]], 17, SET),
    ],
)
def test_links(ours: tuple, fields: dict, attrs: list, kind: int, flags: int) -> None:
    assert ours[0] == encoded(ifinfmsg, fields, attrs, kind, flags)


@pytest.mark.parametrize(
    ("ours", "fields", "attrs"),
    [
        (
            rtnl.address(1000, "eth0", "10.213.0.2", 16, "10.213.255.255"),
            {"family": socket.AF_INET, "prefixlen": 16, "flags": 0x80, "scope": 0, "index": 1000},
            [["IFA_ADDRESS", "10.213.0.2"], ["IFA_LOCAL", "10.213.0.2"], ["IFA_BROADCAST", "10.213.255.255"]],
        ),
        (
            rtnl.address(1000, "eth0", "fd6d:696e:6963::2", 64),
            {"family": socket.AF_INET6, "prefixlen": 64, "flags": 0x82, "scope": 0, "index": 1000},
            [["IFA_ADDRESS", "fd6d:696e:6963::2"], ["IFA_LOCAL", "fd6d:696e:6963::2"]],
        ),
    ],
)
def test_addresses(ours: tuple, fields: dict, attrs: list) -> None:
    assert ours[0] == encoded(ifaddrmsg, fields, attrs, 20, NEW)


@pytest.mark.parametrize(
    ("ours", "fields", "attrs"),
    [
        (
            rtnl.default_route(1000, "eth0", "10.213.0.1"),
            {"family": socket.AF_INET, "table": 254, "proto": 3, "scope": 0, "type": 1},
            [["RTA_GATEWAY", "10.213.0.1"], ["RTA_OIF", 1000]],
        ),
        (
            rtnl.default_route(1000, "eth0", "fd6d:696e:6963::1"),
            {"family": socket.AF_INET6, "table": 254, "proto": 3, "scope": 0, "type": 1},
            [["RTA_GATEWAY", "fd6d:696e:6963::1"], ["RTA_OIF", 1000]],
        ),
        (
            rtnl.local_loopback6(3, "br0"),
            {"family": socket.AF_INET6, "dst_len": 128, "table": 255, "proto": 3, "scope": 0, "type": 2},
            [["RTA_DST", "::1"], ["RTA_OIF", 3], ["RTA_PRIORITY", 4096]],
        ),
        (
            rtnl.host_route(3, "mcgate", "fe80::6d63"),
            {"family": socket.AF_INET6, "dst_len": 128, "table": 254, "proto": 3, "scope": 0, "type": 1},
            [["RTA_DST", "fe80::6d63"], ["RTA_OIF", 3]],
        ),
    ],
)
def test_routes(ours: tuple, fields: dict, attrs: list) -> None:
    assert ours[0] == encoded(rtmsg, fields, attrs, 24, NEW)
    # pyroute2's decoder agrees, too.
    assert dict(decoded(rtmsg, ours[0])["attrs"])["RTA_OIF"] == dict(attrs)["RTA_OIF"]


def test_the_texts_are_what_a_person_would_type() -> None:
    assert (
        rtnl.address(1000, "eth0", "10.213.0.2", 16, "10.213.255.255")[1]
        == "ip addr add 10.213.0.2/16 broadcast 10.213.255.255 dev eth0"
    )
    assert rtnl.address(1000, "eth0", "fd00::2", 64)[1] == "ip addr add fd00::2/64 nodad dev eth0"
    assert rtnl.default_route(1000, "eth0", "fd00::1")[1] == "ip -6 route add default via fd00::1 dev eth0"
    assert rtnl.link_up(1, "lo")[1] == "ip link set lo up"
