"""Addresses: one owner each, also when many ask at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicontainer.errors import Conflict, NetworkError, UsageError
from minicontainer.network import addresses
from minicontainer.network.config import AF_INET, NetworkConfig, Subnet


@pytest.fixture
def config(tmp_path: Path) -> NetworkConfig:
    return NetworkConfig(str(tmp_path), ipv4="10.9.8.0/29")


def test_network_gateway_and_broadcast_are_nobodys(config: NetworkConfig) -> None:
    given = [addresses.allocate(config, f"c{i}", config.ipv4) for i in range(5)]
    assert given == [f"10.9.8.{n}" for n in (2, 3, 4, 5, 6)]


def test_when_all_are_taken_the_error_says_how_many_there_were(config: NetworkConfig) -> None:
    for i in range(5):
        addresses.allocate(config, f"c{i}", config.ipv4)
    with pytest.raises(NetworkError, match="(?s)all 5 addresses of 10.9.8.0/29 are in use.*larger subnet"):
        addresses.allocate(config, "one more", config.ipv4)


def test_an_address_given_back_is_the_last_to_be_given_again(config: NetworkConfig) -> None:
    first = addresses.allocate(config, "a", config.ipv4)
    addresses.release(config, "a", first)
    later = [addresses.allocate(config, f"b{i}", config.ipv4) for i in range(5)]
    assert later == ["10.9.8.3", "10.9.8.4", "10.9.8.5", "10.9.8.6", "10.9.8.2"]


def test_ipv6_addresses_are_given_in_the_same_way(config: NetworkConfig) -> None:
    assert addresses.allocate(config, "a", config.ipv6) == "fd6d:696e:6963::2"
    assert addresses.allocate(config, "b", config.ipv6) == "fd6d:696e:6963::3"


def test_only_its_owner_gives_an_address_back(config: NetworkConfig) -> None:
    address = addresses.allocate(config, "a", config.ipv4)
    addresses.release(config, "b", address)
    assert addresses.owner(f"{config.dir}/addresses/{address}") == "a"
    addresses.release(config, "a", address)
    addresses.release(config, "a", address)


def test_an_address_can_be_asked_for(config: NetworkConfig) -> None:
    assert addresses.allocate(config, "a", config.ipv4, "10.9.8.5") == "10.9.8.5"
    with pytest.raises(Conflict, match="--ip 10.9.8.5: Address already in use by container a"):
        addresses.allocate(config, "b", config.ipv4, "10.9.8.5")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("10.9.8.0", "network's or broadcast"),
        ("10.9.8.7", "network's or broadcast"),
        ("10.9.8.1", "bridge's own"),
        ("10.9.9.2", "not an address of"),
        ("nonsense", "not an address of"),
    ],
)
def test_an_address_that_is_not_to_give_is_refused(config: NetworkConfig, wanted: str, why: str) -> None:
    with pytest.raises(NetworkError, match=why):
        addresses.allocate(config, "a", config.ipv4, wanted)
    with pytest.raises(NetworkError, match="--ip6 fd00::5: not an address of"):
        addresses.allocate(config, "a", config.ipv6, "fd00::5")


def test_a_preview_takes_nothing(config: NetworkConfig) -> None:
    assert addresses.preview(config, config.ipv4) == "10.9.8.2"
    assert not os.path.exists(config.dir)
    addresses.allocate(config, "a", config.ipv4)
    assert addresses.preview(config, config.ipv4) == "10.9.8.3" == addresses.allocate(config, "b", config.ipv4)


def test_a_spoilt_hint_where_to_go_on_does_no_harm(config: NetworkConfig) -> None:
    addresses.allocate(config, "a", config.ipv4)
    Path(f"{config.dir}/addresses.last32").write_bytes(b"\xff\x00 10.9")
    assert addresses.allocate(config, "b", config.ipv4) == "10.9.8.3"


def test_twenty_processes_at_once_get_different_addresses(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from minicontainer.network import addresses\n"
        "from minicontainer.network.config import NetworkConfig\n"
        "config = NetworkConfig(sys.argv[1], ipv4='10.9.8.0/24')\n"
        "sys.stdin.read(1)\n"
        "for i in range(10):\n"
        "    ident = f'{os.getpid()}-{i}'\n"
        "    print(addresses.allocate(config, ident, config.ipv4), addresses.allocate(config, ident, config.ipv6))\n"
    )
    ready, go = os.pipe()
    running = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", code, str(tmp_path)],
            stdin=ready,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for _ in range(20)
    ]
    os.close(ready)
    os.write(go, b"x" * 20)
    os.close(go)
    lines = [line for process in running for line in process.communicate()[0].splitlines()]
    for each in zip(*(line.split() for line in lines)):
        assert len(each) == len(set(each)) == 200


def test_the_mac_follows_from_the_address() -> None:
    assert addresses.mac_of("10.213.0.2") == "02:42:0a:d5:00:02"


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "10.0.0.0/x", "fd00::/64", "x/8", ""])
def test_a_subnet_that_is_none_is_refused_with_the_setting(text: str) -> None:
    with pytest.raises(UsageError, match=r"network.ipv4 = .*no subnet"):
        Subnet(text, AF_INET, "network.ipv4")


def test_a_subnet_is_written_by_its_lowest_address() -> None:
    assert str(Subnet("10.1.2.3/20", AF_INET, "x")) == "10.1.0.0/20"


@pytest.mark.parametrize(
    "wrong",
    [
        {"bridge": "sixteen-letters-"},
        {"bridge": "a/b"},
        {"bridge": ""},
        {"table": "a b"},
        {"table": "1a"},
        {"publish": "everywhere"},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"network.{next(iter(wrong))} = "):
        NetworkConfig("/nowhere", **wrong)
