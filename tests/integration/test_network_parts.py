"""The network's parts on a real kernel: bridge, cables, nftables, and hosts outside, each in a network namespace of its own.

    outside (203.0.113.2, 2001:db8:1::2) ══ eth0 host (203.0.113.1, 2001:db8:1::1) minicontainer0 ══ containers

The machine's own network and firewall are never touched: the pytest process itself moves into the namespace `host`.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicontainer.errors import Conflict, NetworkError, Unsupported
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE
from minicontainer.network import bridge, endpoint, nft, reclaim
from minicontainer.network.config import NetworkConfig
from minicontainer.network.netlink import NETLINK_NETFILTER, Netlink
from minicontainer.network.ports import parse_publish
from minicontainer.stub import program
from minicontainer.stub.ops import Slot, syscall

HOST4, HOST6, OUTSIDE4, OUTSIDE6 = "203.0.113.1", "2001:db8:1::1", "203.0.113.2", "2001:db8:1::2"

# Answers with the address of who asks: TCP on argv[1], UDP on argv[2].
SERVER = """
import socket, sys, threading
def tcp():
    s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=50)
    print("up", flush=True)
    while True:
        c, a = s.accept()
        c.sendall((sys.argv[3] + " " + a[0].removeprefix("::ffff:")).encode())
        c.close()
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
u.bind(("::", int(sys.argv[2])))
threading.Thread(target=tcp, daemon=True).start()
while True:
    d, a = u.recvfrom(2000)
    u.sendto((sys.argv[3] + " " + a[0].removeprefix("::ffff:")).encode(), a)
"""
CLIENT = """
import socket, sys
host, port, udp, source = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "udp", int(sys.argv[4])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
s.settimeout(float(sys.argv[5]))
try:
    if source:
        s.bind(("", source))
    s.connect((host, port))
    if udp:
        s.send(b"?")
    print(s.recv(100).decode())
except TimeoutError:
    print("timeout")
except OSError as e:
    print("refused" if e.errno in (111, 113) else e)
"""


def _missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    return next((f"the tests need {tool}" for tool in ("ip", "nft", "unshare", "nsenter") if not shutil.which(tool)), "")


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "ready")


@functools.cache
def patience_seconds() -> str:
    """How long a client waits before it says "timeout": longer where Python is slow (a guest without KVM)."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", "import socket"], check=True)
    return str(max(0.7, 8 * (time.monotonic() - begin)))


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Box:
    """A container's network namespace, with something in it that answers."""

    def __init__(self, ident: str) -> None:
        self.ident = ident
        self.processes: list[subprocess.Popen] = []
        self.endpoint: endpoint.Endpoint
        self.sleeper = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        self.processes.append(self.sleeper)
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.sleeper.pid}/ns/net") == own:
            time.sleep(0.002)

    def run(self, *command: str) -> str:
        return sh("nsenter", "-t", str(self.sleeper.pid), "-n", *command)

    def serve(self, name: str, tcp: int = 80, udp: int = 81) -> None:
        command = ["nsenter", "-t", str(self.sleeper.pid), "-n", sys.executable, "-c", SERVER, str(tcp), str(udp), name]
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.processes.append(server)
        assert server.stdout and server.stdout.readline() == b"up\n"

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


class Lab:
    """Two hosts, and containers on the one we are in."""

    def __init__(self, state: str) -> None:
        self.config = NetworkConfig(state)
        self.name = f"mct{os.getpid()}"
        self.boxes: list[Box] = []
        self.programs: list[subprocess.Popen] = []
        self._numbers = itertools.count(1)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        for end in ("host", "out"):
            sh("ip", "netns", "add", f"{self.name}{end}")
            sh("ip", "-n", f"{self.name}{end}", "link", "set", "lo", "up")
        self.enter(f"/run/netns/{self.name}host")
        sh("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", f"{self.name}out")
        # Both ends up before the addresses, and no duplicate address detection: a cable as it is after a while.
        sides = (([], HOST4, HOST6), (["-n", f"{self.name}out"], OUTSIDE4, OUTSIDE6))
        for where, _, _ in sides:
            sh("ip", *where, "link", "set", "eth0", "addrgenmode", "none", "up")
        for where, four, six in sides:
            sh("ip", *where, "addr", "add", f"{four}/24", "dev", "eth0")
            sh("ip", *where, "addr", "add", f"{six}/64", "dev", "eth0", "nodad")
            sh("ip", *where, "addr", "add", f"fe80::{four.rpartition('.')[2]}/64", "dev", "eth0", "nodad")

    def enter(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        calls.setns(fd, CLONE["CLONE_NEWNET"])
        os.close(fd)

    def close(self) -> None:
        for box in self.boxes:
            box.kill()
        for process in self.programs:
            process.kill()
            process.wait()
        calls.setns(self._home, CLONE["CLONE_NEWNET"])
        os.close(self._home)
        for end in ("host", "out"):
            sh("ip", "netns", "del", f"{self.name}{end}")

    def attach(self, *publish: str, ident: str = "", **asked: str) -> Box:
        """A started container: what runtime does with an endpoint, by the same interpreter of ops."""
        box = Box(ident or f"{next(self._numbers):012x}" + "0" * 52)
        self.boxes.append(box)
        wanted = [p for text in publish for p in parse_publish(text)]
        box.endpoint = endpoint.attach(self.config, box.ident, publications=wanted, **asked)
        carry_out(box.endpoint.host_ops(box.sleeper.pid))
        host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.enter(f"/proc/{box.sleeper.pid}/ns/net")
        try:
            sock = Slot("rtnetlink")
            carry_out([syscall("socket", 16, 3, 0, out=sock), *box.endpoint.container_ops(sock), syscall("close", sock)])
        finally:
            calls.setns(host, CLONE["CLONE_NEWNET"])
            os.close(host)
        return box

    def detach(self, box: Box) -> None:
        box.kill()
        self.boxes.remove(box)
        endpoint.release(self.config, box.ident, box.endpoint.to_dict())

    def outside(self, *command: str) -> str:
        return sh("ip", "netns", "exec", f"{self.name}out", *command)

    def ask_from_outside(self, address: str, port: int, kind: str = "tcp", source: int = 0) -> str:
        return self.outside(sys.executable, "-c", CLIENT, address, str(port), kind, str(source), patience_seconds()).strip()

    def ask_here(self, address: str, port: int, kind: str = "tcp") -> str:
        return sh(sys.executable, "-c", CLIENT, address, str(port), kind, "0", patience_seconds()).strip()

    def ask_from(self, box: Box, address: str, port: int, kind: str = "tcp") -> str:
        return box.run(sys.executable, "-c", CLIENT, address, str(port), kind, "0", patience_seconds()).strip()

    def serve(self, *where: str, tcp: int, udp: int, name: str) -> None:
        server = subprocess.Popen([*where, sys.executable, "-c", SERVER, str(tcp), str(udp), name], stdout=subprocess.PIPE)
        self.programs.append(server)
        assert server.stdout and server.stdout.readline() == b"up\n"


def carry_out(ops: list) -> None:
    made = program.Program(ops, {})
    failed = spawn.run_here(made.code)
    assert failed < 0, f"{ops[failed].call} {ops[failed].why}: {made.results()[failed].errno}"


def firewall(rules: str) -> None:
    """The host administrator's own rules."""
    subprocess.run(
        ["nft", "-f", "-"],
        input=f"table inet filter\ndelete table inet filter\ntable inet filter {{ {rules}\n}}",
        text=True,
        check=True,
    )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(str(tmp_path))
    try:
        yield made
    finally:
        made.close()


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
