"""Who reaches what: addresses, routes, published ports and the host's own firewall, in a network of namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.errors import Unsupported
from tests.integration.network_lab import HOST4, HOST6, OUTSIDE4, OUTSIDE6, Lab, firewall, sh


def test_a_container_has_both_addresses_and_both_default_routes(lab: Lab) -> None:
    box = lab.attach()
    place = box.endpoint
    assert f"{place.ip}/16 brd 10.213.255.255 scope global eth0" in box.run("ip", "-4", "addr")
    assert f"{place.ip6}/64 scope global nodad" in box.run("ip", "-6", "addr", "show", "dev", "eth0")
    assert "tentative" not in box.run("ip", "-6", "addr", "show", "scope", "global")
    assert "default via 10.213.0.1 dev eth0" in box.run("ip", "route")
    assert "default via fd6d:696e:6963::1 dev eth0" in box.run("ip", "-6", "route")
    assert f"link/ether {place.mac}" in box.run("ip", "link", "show", "eth0")
    assert "LOOPBACK,UP" in box.run("ip", "link", "show", "lo")


def test_a_container_reaches_the_world_under_the_hosts_address(lab: Lab) -> None:
    lab.serve("ip", "netns", "exec", f"{lab.name}out", tcp=7000, udp=7001, name="world")
    box = lab.attach()
    assert lab.ask_from(box, OUTSIDE4, 7000) == f"world {HOST4}"
    assert lab.ask_from(box, OUTSIDE6, 7000) == f"world {HOST6}"


def test_without_an_address_a_port_is_published_to_this_host_only(lab: Lab) -> None:
    box = lab.attach("8080:80", "8081:81/udp")
    box.serve("box")
    assert lab.ask_here("127.0.0.1", 8080) == "box 10.213.0.1"
    assert lab.ask_here("127.0.0.1", 8081, "udp") == "box 10.213.0.1"
    assert lab.ask_from_outside(HOST4, 8080) == "refused"
    assert lab.ask_from_outside(HOST4, 8081, "udp") == "refused"


def test_a_neighbour_who_routes_127_0_0_1_to_this_host_reaches_no_loopback_port(lab: Lab) -> None:
    """Even on a host that has route_localnet on for the neighbour's cable."""
    box = lab.attach("8080:80")
    box.serve("box")
    Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
    lab.outside("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    lab.outside("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    lab.outside("ip", "route", "add", "127.0.0.1", "via", HOST4)
    lab.serve(tcp=7100, udp=7101, name="reached")  # shows that the way is open: a program of the host does answer
    assert lab.ask_from_outside("127.0.0.1", 7100) == f"reached {OUTSIDE4}"
    assert lab.ask_from_outside("127.0.0.1", 8080) in ("refused", "timeout")


def test_a_neighbour_who_routes_the_containers_subnet_to_this_host_reaches_no_container(lab: Lab) -> None:
    box = lab.attach("8080:80", "0.0.0.0:8082:82")
    box.serve("box")
    lab.outside("ip", "route", "add", "10.213.0.0/16", "via", HOST4)
    lab.outside("ip", "-6", "route", "add", "fd6d:696e:6963::/64", "via", HOST6)
    assert lab.ask_from_outside(box.endpoint.ip, 80) == "timeout"
    assert lab.ask_from_outside(box.endpoint.ip6, 80) == "timeout"


def test_published_on_all_addresses_a_port_answers_the_neighbours_and_sees_who_they_are(lab: Lab) -> None:
    box = lab.attach("0.0.0.0:8080:80", "[::]:8080:80", "0.0.0.0:8081:81/udp", "[::]:8081:81/udp")
    box.serve("box")
    assert lab.ask_from_outside(HOST4, 8080) == f"box {OUTSIDE4}"
    assert lab.ask_from_outside(HOST6, 8080) == f"box {OUTSIDE6}"
    assert lab.ask_from_outside(HOST4, 8081, "udp") == f"box {OUTSIDE4}"
    assert lab.ask_from_outside(HOST6, 8081, "udp") == f"box {OUTSIDE6}"
    assert lab.ask_here("127.0.0.1", 8080).startswith("box ")
    assert lab.ask_here(HOST4, 8080).startswith("box ")
    assert lab.ask_here(HOST6, 8080).startswith("box ")


def test_published_on_one_address_a_port_answers_on_that_one_only(lab: Lab) -> None:
    sh("ip", "addr", "add", "203.0.113.9/24", "dev", "eth0")
    box = lab.attach("203.0.113.9:8080:80")
    box.serve("box")
    assert lab.ask_from_outside("203.0.113.9", 8080) == f"box {OUTSIDE4}"
    assert lab.ask_from_outside(HOST4, 8080) == "refused"
    assert lab.ask_here("127.0.0.1", 8080) == "refused"


def test_the_hosts_input_rules_decide_who_reaches_a_published_port(lab: Lab) -> None:
    """The complaint about docker: a port that the administrator closed is open all the same."""
    box = lab.attach("0.0.0.0:8080:80", "[::]:8080:80", "0.0.0.0:8081:81/udp")
    box.serve("box")
    everything = ((HOST4, 8080, "tcp"), (HOST6, 8080, "tcp"), (HOST4, 8081, "udp"))

    chain = (
        "type filter hook input priority 0; policy {}; ct state established,related accept; icmpv6 type nd-neighbor-solicit accept;"
    )
    firewall(f"chain input {{ {chain.format('drop')}\n}}")
    assert [lab.ask_from_outside(*each) for each in everything] == ["timeout"] * 3
    firewall(f"chain input {{ {chain.format('accept')} tcp dport 8080 drop; udp dport 8081 drop;\n}}")
    assert [lab.ask_from_outside(*each) for each in everything] == ["timeout"] * 3
    firewall(f"chain input {{ {chain.format('accept')} ip saddr {OUTSIDE4} reject;\n}}")
    assert [lab.ask_from_outside(*each) for each in everything] == ["refused", f"box {OUTSIDE6}", "refused"]
    firewall(f"chain input {{ {chain.format('drop')} iifname eth0 tcp dport 8080 accept; iifname eth0 udp dport 8081 accept;\n}}")
    assert [lab.ask_from_outside(*each) for each in everything] == [f"box {OUTSIDE4}", f"box {OUTSIDE6}", f"box {OUTSIDE4}"]


def test_the_hosts_forward_rules_decide_too_and_see_the_true_interface_and_port(lab: Lab) -> None:
    box = lab.attach("0.0.0.0:8080:80")
    box.serve("box")
    chain = "type filter hook forward priority 0; policy drop; ct state established,related accept;"
    firewall(f"chain forward {{ {chain}\n}}")
    assert lab.ask_from_outside(HOST4, 8080) == "timeout"
    firewall(f"chain forward {{ {chain} iifname != eth0 accept;\n}}")
    assert lab.ask_from_outside(HOST4, 8080) == "timeout"
    firewall(f"chain forward {{ {chain} iifname eth0 ip saddr {OUTSIDE4} tcp dport 80 ct original proto-dst 8080 accept;\n}}")
    assert lab.ask_from_outside(HOST4, 8080) == f"box {OUTSIDE4}"


def test_the_hosts_prerouting_rules_see_the_port_as_it_was_asked_for(lab: Lab) -> None:
    box = lab.attach("0.0.0.0:8080:80")
    box.serve("box")
    firewall("chain early { type filter hook prerouting priority -300; iifname eth0 tcp dport 8080 drop;\n}")
    assert lab.ask_from_outside(HOST4, 8080) == "timeout"


def test_the_mark_of_the_gate_is_gone_before_the_packet_is_routed(lab: Lab) -> None:
    """Host rules and routes that go by marks see none that they did not set."""
    box = lab.attach("0.0.0.0:8080:80")
    box.serve("box")
    firewall("chain forward { type filter hook forward priority 0; meta mark != 0 drop;\n}")
    assert lab.ask_from_outside(HOST4, 8080) == f"box {OUTSIDE4}"


def test_an_interface_that_came_later_is_let_in_with_the_next_publication(lab: Lab) -> None:
    box = lab.attach("0.0.0.0:8080:80")
    box.serve("box")
    sh("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", f"{lab.name}out")
    sh("ip", "addr", "add", "198.51.100.1/24", "dev", "eth1")
    sh("ip", "link", "set", "eth1", "up")
    lab.outside("ip", "addr", "add", "198.51.100.2/24", "dev", "eth1")
    lab.outside("ip", "link", "set", "eth1", "up")
    assert lab.ask_from_outside("198.51.100.1", 8080) == "refused"
    lab.attach("0.0.0.0:8090:80")
    assert lab.ask_from_outside("198.51.100.1", 8080) == "box 198.51.100.2"


def test_containers_reach_published_ports_by_the_hosts_address_their_own_included(lab: Lab) -> None:
    box = lab.attach("0.0.0.0:8080:80")
    box.serve("box")
    other = lab.attach()
    assert lab.ask_from(other, HOST4, 8080).startswith("box ")
    assert lab.ask_from(box, HOST4, 8080).startswith("box ")
    assert lab.ask_from(other, box.endpoint.ip, 80) == f"box {other.endpoint.ip}"
    assert lab.ask_from(other, box.endpoint.ip6, 80) == f"box {other.endpoint.ip6}"


def test_a_container_that_sends_to_127_0_0_1_by_the_bridge_does_not_reach_the_hosts_own(lab: Lab) -> None:
    """CVE-2020-8558: route_localnet alone would let it."""
    lab.serve(tcp=7200, udp=7201, name="host")
    box = lab.attach()
    box.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    box.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    box.run("ip", "route", "add", "127.0.0.1", "via", "10.213.0.1")
    assert lab.ask_from(box, "127.0.0.1", 7200) == "timeout"
    sh("nft", "flush", "chain", "ip", lab.config.table, "martians")
    assert lab.ask_from(box, "127.0.0.1", 7200) == f"host {box.endpoint.ip}"  # shows that the rule is what stops it


def _bridge_netfilter(value: str) -> None:
    path = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
    if path.exists():
        path.write_text(value)
    elif value == "1":
        pytest.skip("br_netfilter is not loaded here")


def test_ipv6_loopback_is_published_where_br_netfilter_is_off(lab: Lab) -> None:
    _bridge_netfilter("0")
    box = lab.attach("[::1]:8080:80", "[::]:8090:80")
    box.serve("box")
    assert lab.ask_here("::1", 8080) == "box fd6d:696e:6963::1"
    assert lab.ask_here("::1", 8090) == "box fd6d:696e:6963::1"
    assert lab.ask_from_outside(HOST6, 8080) == "refused"


def test_ipv6_loopback_is_refused_with_the_reason_where_br_netfilter_is_on(lab: Lab) -> None:
    _bridge_netfilter("1")
    with pytest.raises(Unsupported, match="bridge-nf-call-ip6tables"):
        lab.attach("[::1]:8080:80")
    box = lab.attach("[::]:8090:80")
    box.serve("box")
    assert lab.ask_here("::1", 8090) == "refused"  # and not a wait without end
    assert lab.ask_here(HOST6, 8090).startswith("box ")
