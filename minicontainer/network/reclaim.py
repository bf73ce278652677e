"""What containers left behind whose command or monitor was killed: found by the id that everything carries.

First it is listed what there is, and only then who is alive: a container is findable before it takes anything, so whoever took
something before the list was made is on the second one.
"""

from __future__ import annotations

import os
from errno import ENODEV

from minicontainer.network import addresses, bridge, nft, ports, rtnl
from minicontainer.network.config import NetworkConfig
from minicontainer.network.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NLM_F_DUMP, Netlink, attributes, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IFLA_IFNAME, _IFLA_MASTER, _RTM_GETLINK = 3, 10, 18
_LINK_LENGTH = len("mc") + 12


def reclaim(config: NetworkConfig, live_ids: Callable[[], Iterable[str]]) -> list[str]:
    """Gives back what belongs to containers not in live_ids(); what was done, one sentence each.

    live_ids: called after everything was listed; the ids of all containers that live or are being started.
    """
    held = _addresses(config)
    reserved = ports.reserved(config)
    elements = _elements(config)
    links = _links(config)
    live = set(live_ids())
    shown = {ident[:12] for ident in live}
    done = []
    for ident, port in reserved:
        if ident not in live:
            ports.unpublish(config, ident, [port])
            done.append(f"port {port} of {ident[:12]}")
    went = {ident for ident, _ in reserved}
    for name, found in elements.items():
        dead = [raw for ident, raw in found if ident not in live and ident not in went]
        if dead:
            nft.delete_raw(config.table, name, dead)
            done.append(f"{len(dead)} elements of {nft.FAMILY[name[0]]} {config.table} {name[1]}")
    for link in links:
        if link[2:] not in shown:
            with Netlink(NETLINK_ROUTE) as netlink:
                netlink.ask(*rtnl.delete_link(link), ok=(ENODEV,))
            done.append(f"link {link}")
    for address, ident in held:
        if ident not in live:
            addresses.release(config, ident, address)
            done.append(f"address {address} of {ident[:12]}")
    return done


def reclaim_unborn(config: NetworkConfig, ident: str) -> None:
    """Gives back what a start took that ended before it wrote down what: addresses and ports. The rest comes later."""
    for owner, port in ports.reserved(config):
        if owner == ident:
            ports.unpublish(config, ident, [port])
    for address, owner in _addresses(config):
        if owner == ident:
            addresses.release(config, ident, address)


def _addresses(config: NetworkConfig) -> list[tuple[str, str]]:
    """(address, id)."""
    folder = f"{config.dir}/addresses"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [(name, addresses.owner(f"{folder}/{name}")) for name in names]


def _elements(config: NetworkConfig) -> dict[tuple[int, str], list[tuple[str, bytes]]]:
    """(family, set) -> (id, key) of each element that carries an id."""
    with Netlink(NETLINK_NETFILTER) as netlink:
        return {
            (family, name): nft.elements_of(netlink, family, config.table, name)
            for family in nft.FAMILY
            for name in ("here", "any", "open", "openany")
        }


def _links(config: NetworkConfig) -> list[str]:
    """Our ends of veths that are plugged into our bridge."""
    index = bridge.index_of(config.bridge)
    if not index:
        return []
    with Netlink(NETLINK_ROUTE) as netlink:
        found = [attributes(body, 16) for _, body in netlink.ask(message(_RTM_GETLINK, NLM_F_DUMP, bytes(16)), "ip link")]
    names = [a[_IFLA_IFNAME].rstrip(b"\0").decode() for a in found if a.get(_IFLA_MASTER) == index.to_bytes(4, "little")]
    return [name for name in names if name.startswith("mc") and len(name) == _LINK_LENGTH]
