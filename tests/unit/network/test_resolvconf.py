"""resolv.conf and hosts, held against what docker writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.network.resolvconf import host_hosts, hosts, resolv_conf


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def made(root: Path, host: str | None, *, ipv6: bool = True, host_network: bool = False, **flags: list[str]) -> str:
    if host is not None:
        (root / "etc/resolv.conf").write_text(host)
    given = {"dns": [], "search": [], "options": [], **flags}
    return resolv_conf(**given, ipv6=ipv6, host_network=host_network, root=f"{root}/")


def test_the_hosts_own_is_kept_as_it_is(root: Path) -> None:
    text = "# by hand\nnameserver 192.0.2.53\nsearch example.com\noptions ndots:2\n"
    assert made(root, text) == text


def test_loopback_nameservers_are_nobodys_in_a_container(root: Path) -> None:
    assert made(root, "nameserver 127.0.0.1\nnameserver ::1\nnameserver 192.0.2.53\n") == "nameserver 192.0.2.53\n"
    assert made(root, "nameserver 127.0.0.1\n", ipv6=False) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert made(root, "nameserver 127.0.0.1\n", host_network=True) == "nameserver 127.0.0.1\n"


def test_ipv6_nameservers_are_left_out_without_ipv6(root: Path) -> None:
    assert made(root, "nameserver 2001:db8::53\nnameserver 192.0.2.53\n", ipv6=False) == "nameserver 192.0.2.53\n"


def test_behind_systemd_resolved_are_the_real_ones(root: Path) -> None:
    (root / "run/systemd/resolve").mkdir(parents=True)
    (root / "run/systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.7\n")
    assert made(root, "nameserver 127.0.0.53\noptions edns0\n") == "nameserver 192.0.2.7\n"
    assert made(root, "nameserver 127.0.0.53\n", host_network=True) == "nameserver 127.0.0.53\n"


def test_no_file_at_all_gives_public_nameservers(root: Path) -> None:
    assert made(root, None) == (
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n"
    )


def test_each_flag_replaces_its_own_kind_only(root: Path) -> None:
    host = "nameserver 192.0.2.53\nsearch example.com\noptions ndots:2 edns0\n"
    assert (
        made(root, host, dns=["9.9.9.9", "1.1.1.1"])
        == "search example.com\nnameserver 9.9.9.9\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
    )
    assert made(root, host, search=["a.b", "c"]) == "search a.b c\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"
    assert made(root, host, search=["."]) == "nameserver 192.0.2.53\noptions ndots:2 edns0\n"
    assert made(root, host, options=["debug"]) == "search example.com\nnameserver 192.0.2.53\noptions debug\n"


def test_hosts_names_the_container_after_the_extra_hosts() -> None:
    text = hosts(
        ip="10.213.0.2",
        ip6="fd6d:696e:6963::2",
        hostname="web",
        domainname="example.com",
        extra=["db:192.0.2.9", "six:2001:db8::9", "up:host-gateway"],
        gateway="10.213.0.1",
    )
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    assert text.endswith(
        "192.0.2.9\tdb\n2001:db8::9\tsix\n10.213.0.1\tup\n10.213.0.2\tweb.example.com web\nfd6d:696e:6963::2\tweb.example.com web\n"
    )


def test_hosts_without_a_network_names_nobody() -> None:
    assert hosts(ip="", ip6="", hostname="web").count("\n") == 6


def test_with_the_hosts_network_its_hosts_file_is_the_containers(root: Path) -> None:
    (root / "etc/hosts").write_text("127.0.0.1\tlocalhost me\n")
    assert host_hosts(["db:192.0.2.9"], root=f"{root}/") == "127.0.0.1\tlocalhost me\n192.0.2.9\tdb\n"
