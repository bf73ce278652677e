"""The network's parts over time: ports taken and let go, crashes, hosts that lack something, in a network of namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicontainer.errors import Conflict, NetworkError, Unsupported
from minicontainer.network import bridge, endpoint, nft, reclaim
from minicontainer.network.config import NetworkConfig
from minicontainer.network.netlink import NETLINK_NETFILTER, Netlink
from minicontainer.network.ports import parse_publish
from minicontainer.stub.ops import Slot
from tests.integration.network_lab import HOST4, OUTSIDE4, Lab, firewall, sh


def test_a_taken_port_is_refused_whoever_has_it(lab: Lab) -> None:
    lab.attach("8080:80")
    for publish in ("8080:80", "0.0.0.0:8080:80"):
        with pytest.raises(Conflict, match="Bind for .*:8080 failed: port is already allocated\ncontainer 000000000001 has it"):
            lab.attach(publish)
    lab.attach("[::]:8080:80")
    lab.serve(tcp=9000, udp=9001, name="host")
    with pytest.raises(Conflict, match="(?s)Bind for 127.0.0.1:9000 failed: port is already allocated.*ss -tlnp"):
        lab.attach("9000:80")
    with pytest.raises(Conflict, match="(?s)Bind for 0.0.0.0:9001 failed: port is already allocated.*ss -ulnp"):
        lab.attach("0.0.0.0:9001:80/udp")
    with pytest.raises(NetworkError, match="this host has no address 198.51.100.77"):
        lab.attach("198.51.100.77:8080:80")
    lab.attach("9001:80/tcp")
    # What failed half-way kept nothing.
    assert len(os.listdir(f"{lab.config.dir}/addresses")) == 2 * 3


def test_a_port_is_chosen_where_none_or_a_range_is_given(lab: Lab) -> None:
    first = lab.attach("80", "9100-9101:80")
    second = lab.attach("9100-9101:80")
    assert first.endpoint.ports[0].port > 1023
    assert (first.endpoint.ports[1].port, second.endpoint.ports[0].port) == (9100, 9101)
    first.serve("first")
    assert lab.ask_here("127.0.0.1", first.endpoint.ports[0].port) == "first 10.213.0.1"
    with pytest.raises(Conflict, match="9100-9101"):
        lab.attach("9100-9101:80")


def test_a_stopped_container_leaves_nothing_and_its_port_leads_to_the_next(lab: Lab) -> None:
    box = lab.attach("8080:80", "0.0.0.0:8081:81/udp")
    box.serve("one")
    assert lab.ask_from_outside(HOST4, 8081, "udp", source=5555) == f"one {OUTSIDE4}"
    lab.detach(box)
    assert os.listdir(f"{lab.config.dir}/addresses") == os.listdir(f"{lab.config.dir}/ports") == []
    assert "elements" not in sh("nft", "list", "map", "ip", lab.config.table, "here")
    box = lab.attach("8080:80", "0.0.0.0:8081:81/udp")
    box.serve("two")
    # The same UDP client goes on from the same port: conntrack must not remember the first container.
    assert lab.ask_from_outside(HOST4, 8081, "udp", source=5555) == f"two {OUTSIDE4}"
    assert lab.ask_here("127.0.0.1", 8080) == "two 10.213.0.1"


def test_a_container_can_be_started_again_before_the_kernel_took_its_old_cable_away(lab: Lab) -> None:
    box = lab.attach(ident="a" * 64, ip="10.213.7.7")
    endpoint.release(lab.config, box.ident, box.endpoint.to_dict())
    again = lab.attach(ident="a" * 64, ip="10.213.7.7")
    assert again.endpoint.leftover
    assert "10.213.7.7/16" in again.run("ip", "addr")


def test_an_administrator_who_flushes_the_rules_breaks_nothing_for_longer_than_to_the_next_command(lab: Lab) -> None:
    box = lab.attach("8080:80", "0.0.0.0:8081:80")
    box.serve("box")
    sh("nft", "flush", "ruleset")
    assert lab.ask_here("127.0.0.1", 8080) == "refused"
    bridge.ensure(lab.config)
    assert lab.ask_here("127.0.0.1", 8080) == "box 10.213.0.1"
    assert lab.ask_from_outside(HOST4, 8081) == f"box {OUTSIDE4}"
    lab.detach(box)


def test_release_after_a_flush_is_no_error(lab: Lab) -> None:
    box = lab.attach("8080:80", "8081:80")
    sh("nft", "flush", "ruleset")
    lab.detach(box)
    assert os.listdir(f"{lab.config.dir}/ports") == []


def test_nothing_of_the_hosts_firewall_is_touched(lab: Lab) -> None:
    firewall("chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept;\n}")
    before = sh("nft", "list", "table", "inet", "filter")
    lab.detach(lab.attach("0.0.0.0:8080:80", "8081:80"))
    assert sh("nft", "list", "table", "inet", "filter") == before
    assert sorted(sh("nft", "list", "tables").split("\n")) == [
        "",
        "table inet filter",
        "table ip minicontainer",
        "table ip6 minicontainer",
    ]
    bridge.remove(lab.config)
    assert sh("nft", "list", "tables") == "table inet filter\n"
    assert "minicontainer0" not in sh("ip", "link") and "mcgate" not in sh("ip", "link")


def test_elements_in_our_own_encoding_are_what_nft_would_have_made(lab: Lab) -> None:
    bridge.ensure(lab.config)
    ident = "f" * 64
    elements = [
        nft.Element(2, "here", "127.0.0.1", "tcp", 8080, ("10.213.0.2", 80), ident),
        nft.Element(2, "any", "", "udp", 53, ("10.213.0.2", 5353), ident),
        nft.Element(2, "openany", "", "udp", 53, None, ident),
        nft.Element(10, "here", "2001:db8::5", "sctp", 65535, ("fd6d:696e:6963::2", 1), ident),
        nft.Element(10, "open", "2001:db8::5", "sctp", 65535, None, ident),
    ]
    # The text that --explain shows, given to nft itself.
    texts = [nft.batches(lab.config.table, [each])[0][1] for each in elements]
    nft.load("".join(text.removeprefix("nft ") + "\n" for text in texts))
    by_nft = sh("nft", "list", "ruleset")
    nft.withdraw(lab.config.table, elements, [])
    assert "ffff" not in sh("nft", "list", "ruleset")
    with Netlink(NETLINK_NETFILTER) as netlink:
        for request, words in nft.batches(lab.config.table, elements):
            netlink.ask(request, words)
    assert sh("nft", "list", "ruleset") == by_nft


def test_a_thousand_ports_of_one_container_are_published_at_once(lab: Lab) -> None:
    box = lab.attach("20000-20999:20000-20999")
    box.serve("box", tcp=20999)
    assert lab.ask_here("127.0.0.1", 20999) == "box 10.213.0.1"
    lab.detach(box)
    assert "elements" not in sh("nft", "list", "map", "ip", lab.config.table, "here")


def test_commands_at_the_same_time_make_one_bridge(lab: Lab) -> None:
    code = "import sys; from minicontainer.network import bridge, config; bridge.ensure(config.NetworkConfig(sys.argv[1]))"
    state = lab.config.dir.partition("/network/")[0]
    running = [subprocess.Popen([sys.executable, "-c", code, state], cwd=Path(__file__).parents[2]) for _ in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    assert sh("ip", "-o", "link", "show", "type", "bridge").count("minicontainer0:") == 1
    assert sh("nft", "list", "tables").count("minicontainer") == 2


def test_what_killed_commands_left_is_found_by_its_id_and_what_lives_is_spared(lab: Lab) -> None:
    alive = lab.attach("8080:80", "0.0.0.0:8081:80")
    alive.serve("alive")
    dead = lab.attach("8090:80", "[::]:8091:80", "0.0.0.0:8092:80")
    stray = nft.Element(2, "here", "127.0.0.1", "tcp", 8099, ("10.213.0.9", 80), "d" * 64)
    with Netlink(NETLINK_NETFILTER) as netlink:
        netlink.ask(*nft.batches(lab.config.table, [stray])[0])
    done = reclaim.reclaim(lab.config, lambda: [alive.ident])
    assert any(dead.ident[:12] in line for line in done)
    assert dead.ident not in sh("nft", "list", "ruleset") and "8099" not in sh("nft", "list", "ruleset")
    assert "mc000000000002" not in sh("ip", "link")
    assert lab.ask_here("127.0.0.1", 8080) == "alive 10.213.0.1"
    assert lab.ask_from_outside(HOST4, 8081) == f"alive {OUTSIDE4}"
    assert sorted(os.listdir(f"{lab.config.dir}/addresses")) == sorted([alive.endpoint.ip, alive.endpoint.ip6])
    assert reclaim.reclaim(lab.config, lambda: [alive.ident]) == []
    lab.detach(alive)


def test_a_subnet_that_the_host_uses_elsewhere_is_refused(lab: Lab) -> None:
    sh("ip", "route", "add", "10.213.5.0/24", "dev", "eth0")
    with pytest.raises(NetworkError, match="(?s)10.213.0.0/16 of minicontainer0 overlaps .*10.213.5.0/24 by eth0.*ipv4"):
        bridge.ensure(lab.config)
    assert "minicontainer0" not in sh("ip", "link")


def test_a_name_that_is_no_bridge_is_refused(lab: Lab) -> None:
    sh("ip", "link", "add", "minicontainer0", "type", "veth", "peer", "name", "x")
    with pytest.raises(NetworkError, match="minicontainer0 is no bridge"):
        bridge.ensure(lab.config)


def test_a_bridge_of_another_state_folder_is_refused(lab: Lab, tmp_path: Path) -> None:
    bridge.ensure(lab.config)
    with pytest.raises(NetworkError, match="belongs to the containers of"):
        bridge.ensure(NetworkConfig(str(tmp_path / "other")))


def test_a_bridge_that_somebody_deleted_is_made_again(lab: Lab) -> None:
    bridge.ensure(lab.config)
    sh("ip", "link", "del", "minicontainer0")
    bridge.ensure(lab.config)
    box = lab.attach("8080:80")
    box.serve("box")
    assert lab.ask_here("127.0.0.1", 8080) == "box 10.213.0.1"


def test_what_changes_on_the_host_is_said_once(lab: Lab) -> None:
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path(f"/proc/sys/net/{path}").write_text("0")
    Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("1")
    said = "\n".join(bridge.ensure(lab.config).changes)
    for name in ("net.ipv4.ip_forward: 0 -> 1", "net.ipv6.conf.all.forwarding: 0 -> 1", "net.ipv6.conf.eth0.accept_ra: 1 -> 2"):
        assert name in said
    assert bridge.ensure(lab.config).changes == []


def test_a_host_whose_forward_chain_cuts_containers_off_is_told_what_to_allow(lab: Lab) -> None:
    """docker and ufw set such a policy, and we never overrule it."""
    lab.serve("ip", "netns", "exec", f"{lab.name}out", tcp=7000, udp=7001, name="world")
    firewall("chain forward { type filter hook forward priority 0; policy drop;\n}")
    (note,) = [line for line in bridge.ensure(lab.config).changes if line.startswith("note: ")]
    box = lab.attach()
    assert lab.ask_from(box, OUTSIDE4, 7000) == "timeout"
    sh("nft", note.split("nft '")[1].removesuffix("'"))
    assert lab.ask_from(box, OUTSIDE4, 7000) == f"world {HOST4}"


def test_strict_reverse_path_filtering_does_not_stop_published_ports(lab: Lab) -> None:
    Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("1")
    box = lab.attach("0.0.0.0:8080:80", "8081:80")
    box.serve("box")
    assert lab.ask_from_outside(HOST4, 8080) == f"box {OUTSIDE4}"
    assert lab.ask_here("127.0.0.1", 8081) == "box 10.213.0.1"
    assert lab.ask_from(box, HOST4, 8080).startswith("box ")


def test_on_a_host_without_ipv6_containers_have_ipv4(lab: Lab) -> None:
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    box = lab.attach("8080:80", "0.0.0.0:8081:80")
    box.serve("box")
    assert box.endpoint.ip6 == ""
    assert lab.ask_here("127.0.0.1", 8080) == "box 10.213.0.1"
    assert lab.ask_from_outside(HOST4, 8081) == f"box {OUTSIDE4}"
    with pytest.raises(NetworkError, match="IPv6"):
        lab.attach("[::]:8080:80")


def test_a_host_without_nft_says_what_to_install(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_program(*_: object, **__: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "posix_spawnp", no_such_program)
    with pytest.raises(Unsupported, match="install nftables"):
        bridge.ensure(lab.config)


def test_a_kernel_without_the_gates_parts_publishes_to_this_host_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """nft_dup is a module of its own: without it nft refuses the table."""
    load = nft.load
    monkeypatch.setattr(bridge, "load", lambda rules: load(rules.replace(" dup to ", " no such statement ")))
    with pytest.raises(Unsupported, match="no port can be published to others"):
        lab.attach("0.0.0.0:8080:80")
    box = lab.attach("8080:80")
    box.serve("box")
    assert lab.ask_here("127.0.0.1", 8080) == "box 10.213.0.1"


def test_the_ready_bridge_is_recognised_without_pyroute2(lab: Lab) -> None:
    bridge.ensure(lab.config)
    code = (
        "import sys; from minicontainer.network import bridge, config; bridge.ensure(config.NetworkConfig(sys.argv[1]));"
        "print([m for m in ('pyroute2', 'json', 're', 'socket', 'subprocess') if m in sys.modules])"
    )
    state = lab.config.dir.partition("/network/")[0]
    said = subprocess.run(
        [sys.executable, "-S", "-c", code, state], cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    assert said.stdout == "[]\n"


def test_a_preview_takes_nothing(lab: Lab) -> None:
    place = endpoint.preview(lab.config, "e" * 64, publications=parse_publish("8080:80"))
    assert place.ip == "10.213.0.2" and str(place.ports[0]) == "127.0.0.1:8080->80/tcp"
    assert place.host_ops(4711) and place.container_ops(Slot("rtnetlink"))
    assert not os.path.exists(lab.config.dir)


def test_kill_9_at_any_moment_of_attach_leaves_only_what_reclaim_finds(lab: Lab) -> None:
    bridge.ensure(lab.config)
    code = (
        "import sys; from minicontainer.network import endpoint, config, ports; c = config.NetworkConfig(sys.argv[1])\n"
        "wanted = ports.parse_publish('0.0.0.0::80') + ports.parse_publish('80')\n"
        "for i in range(1000): endpoint.attach(c, f'{i:064x}', publications=wanted)"
    )
    state = lab.config.dir.partition("/network/")[0]
    for wait in (0, 0.013, 0.05):
        victim = subprocess.Popen([sys.executable, "-c", code, state], cwd=Path(__file__).parents[2])
        while not os.path.isdir(f"{lab.config.dir}/addresses") or not os.listdir(f"{lab.config.dir}/addresses"):
            time.sleep(0.001)
        time.sleep(wait)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        reclaim.reclaim(lab.config, lambda: [])
        assert os.listdir(f"{lab.config.dir}/addresses") == []
        assert not os.path.exists(f"{lab.config.dir}/ports") or os.listdir(f"{lab.config.dir}/ports") == []
        box = lab.attach("0.0.0.0:8080:80")
        lab.detach(box)
