"""-p: what it may say, what it says when it is wrong, and who has a port."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import Conflict, MinicontainerError, NetworkError, UsageError
from minicontainer.network import ports
from minicontainer.network.config import NetworkConfig
from minicontainer.network.nft import Element, batches
from minicontainer.network.ports import Port, parse_publish, reserve


def told(text: str) -> list[tuple]:
    return [(p.ip, p.first, p.last, p.container_port, p.protocol) for p in parse_publish(text)]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("80", [("", 0, 0, 80, "tcp")]),
        ("8080:80", [("", 8080, 8080, 80, "tcp")]),
        (":80", [("", 0, 0, 80, "tcp")]),
        ("0:80", [("", 0, 0, 80, "tcp")]),
        ("8080:80/UDP", [("", 8080, 8080, 80, "udp")]),
        ("127.0.0.1:8080:80/sctp", [("127.0.0.1", 8080, 8080, 80, "sctp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 0, 80, "tcp")]),
        ("0.0.0.0:8080:80", [("0.0.0.0", 8080, 8080, 80, "tcp")]),
        ("[::]:8080:80", [("::", 8080, 8080, 80, "tcp")]),
        ("[2001:DB8:0::1]:8080:80", [("2001:db8::1", 8080, 8080, 80, "tcp")]),
        ("[::1]::80", [("::1", 0, 0, 80, "tcp")]),
        ("8000-8002:80-82", [("", 8000, 8000, 80, "tcp"), ("", 8001, 8001, 81, "tcp"), ("", 8002, 8002, 82, "tcp")]),
        ("80-81", [("", 0, 0, 80, "tcp"), ("", 0, 0, 81, "tcp")]),
        ("8000-8010:80", [("", 8000, 8010, 80, "tcp")]),
    ],
)
def test_what_it_means(text: str, meaning: list[tuple]) -> None:
    assert told(text) == meaning


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", 'container port: ""'),
        ("x", 'container port: "x"'),
        ("0", 'container port: "0"'),
        ("8080:", 'container port: ""'),
        ("x:80", 'host port: "x"'),
        ("80:65536", 'container port: "65536"'),
        ("-1:80", 'host port: "-1"'),
        ("80:80/icmp", 'proto: "icmp"'),
        ("80:80/", 'proto: ""'),
        ("1.2.3:80:80", 'IP address: "1.2.3"'),
        ("localhost:80:80", 'IP address: "localhost"'),
        (":80:80", 'IP address: ""'),
        ("::1:80:80", "brackets"),
        ("[::1]80:80", 'IP address: "::1"'),
        ("[::1:80:80", "IP address"),
        ("[1.2.3.4]:80:80", 'IP address: "1.2.3.4"'),
        ("[fe80::1%eth0]:80:80", "IP address"),
        ("8000-8001:80-82", "2 host and 3 container ports"),
        ("9-8:80", 'host port: "9-8"'),
        ("80:\u0661", "container port"),
        ("80 :80", "host port"),
    ],
)
def test_what_is_wrong_is_named_with_the_flag_and_the_form(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_publish(text)
    assert why in caught.value.message
    assert caught.value.message.startswith(f"-p {text}: ") and "\n" not in caught.value.message
    assert "[ip:]host:container" in caught.value.hint


@given(st.text(alphabet="0123456789:[]-/.tcpud fx%", max_size=25))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        for each in parse_publish(text):
            assert 0 < each.container_port <= 65535 and 0 <= each.first <= each.last <= 65535
    except MinicontainerError as e:
        assert isinstance(e, UsageError)


@pytest.fixture
def config(tmp_path: Path) -> NetworkConfig:
    return NetworkConfig(str(tmp_path))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def take(config: NetworkConfig, ident: str, *texts: str) -> list[Port]:
    return reserve(config, ident, [p for t in texts for p in parse_publish(t)], "10.213.0.2", "fd6d:696e:6963::2")


def test_a_port_has_one_owner_on_each_address(config: NetworkConfig) -> None:
    port = free_port()
    take(config, "first", f"127.0.0.1:{port}:80")
    take(config, "second", f"127.0.0.2:{port}:80")
    for taken in (f"127.0.0.1:{port}:80", f"0.0.0.0:{port}:80", f"{port}:80"):
        with pytest.raises(Conflict, match=f":{port} failed: port is already allocated\ncontainer (first|second) has it"):
            take(config, "third", taken)
    take(config, "third", f"{port}:80/udp", f"[::]:{port}:80")


def test_of_several_ports_all_or_none_are_taken(config: NetworkConfig) -> None:
    one, two = free_port(), free_port()
    take(config, "first", f"{two}:80")
    with pytest.raises(Conflict):
        take(config, "second", f"{one}:80", f"{two}:80")
    assert os.listdir(f"{config.dir}/ports") == [f"tcp-{two}-127.0.0.1"]


def test_a_listener_of_the_host_is_seen(config: NetworkConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"(?s)Bind for 127.0.0.1:{port} failed.*ss -tlnp 'sport = {port}'"):
            take(config, "a", f"{port}:80")
        with pytest.raises(Conflict):
            take(config, "a", f"0.0.0.0:{port}:80")
    take(config, "a", f"{port}:80")


def test_connections_in_time_wait_do_not_hold_a_port(config: NetworkConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    take(config, "a", f"{port}:80")


def test_an_address_of_another_host_is_refused(config: NetworkConfig) -> None:
    with pytest.raises(NetworkError, match="this host has no address 198.51.100.1"):
        take(config, "a", "198.51.100.1:8080:80")


def test_a_container_without_ipv6_publishes_none(config: NetworkConfig) -> None:
    with pytest.raises(NetworkError, match="no IPv6 address for ::"):
        reserve(config, "a", parse_publish("[::]:8080:80"), "10.213.0.2", "")


def test_the_default_address_is_a_setting(tmp_path: Path) -> None:
    config = NetworkConfig(str(tmp_path), publish="0.0.0.0")
    port = free_port()
    (published,) = take(config, "a", f"{port}:80")
    assert str(published) == f"0.0.0.0:{port}->80/tcp" and published.for_others


def test_a_reservation_says_all_that_its_elements_say(config: NetworkConfig) -> None:
    port = free_port()
    (published,) = take(config, "a", f"0.0.0.0:{port}:80/udp")
    ((ident, found),) = ports.reserved(config)
    assert (ident, str(found)) == ("a", str(published))
    assert [e.words() for e in found.elements("a")] == [f'udp . {port} comment "a" : 10.213.0.2 . 80', f'udp . {port} comment "a"']


def test_a_loopback_port_is_open_to_nobody_else() -> None:
    for ip in ("127.0.0.1", "127.9.9.9", "::1"):
        assert [e.name for e in Port(ip, 80, "tcp", "x", 80).elements("a")] == ["here"]
    assert [e.name for e in Port("203.0.113.1", 80, "tcp", "x", 80).elements("a")] == ["here", "open"]
    assert [e.name for e in Port("::", 80, "tcp", "x", 80).elements("a")] == ["any", "openany"]


def test_elements_go_in_transactions_that_fit_a_netlink_attribute() -> None:
    elements = [Element(2, "here", "127.0.0.1", "tcp", port, ("10.213.0.2", port), "f" * 64) for port in range(1, 1001)]
    made = batches("minicontainer", elements)
    assert len(made) == 5
    assert all(len(message) < 1 << 16 for message, _ in made)
    assert made[0][1].startswith('nft add element ip minicontainer here { 127.0.0.1 . tcp . 1 comment "fff')
