"""Addresses of containers: one symlink each, <state>/network/<bridge>/addresses/<address> -> id.

symlink(2) makes the name and what it says in one step and only if there is none: no lock is needed, no crash leaves a half.
The search goes on from where the last one ended: an address that was just given back rests as long as possible, because
neighbours, connection tracking and people still think of its last owner.
"""

from __future__ import annotations

import os

from minicontainer.errors import Conflict, NetworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minicontainer.network.config import NetworkConfig, Subnet

_GATEWAY = 1
_MOST = 1 << 16  # an IPv6 subnet has more than anybody can try


def allocate(config: NetworkConfig, ident: str, subnet: Subnet, wanted: str = "") -> str:
    """An address of subnet for the container ident: the next free one, or wanted (--ip, --ip6).

    Conflict if wanted is taken; NetworkError if it is not the subnet's to give, or if all are taken.
    """
    folder = f"{config.dir}/addresses"
    if wanted:
        return _take_wanted(folder, ident, subnet, wanted)
    for address in _candidates(folder, subnet):
        if _take(folder, address, ident):
            _remember(folder, subnet, address)
            return address
    first, last = _range(subnet)
    raise NetworkError(
        f"all {last - first + 1} addresses of {subnet} are in use",
        "remove containers, or set a larger subnet under [network] in the configuration file",
    )


def preview(config: NetworkConfig, subnet: Subnet) -> str:
    """What allocate() would give now; nothing is taken."""
    folder = f"{config.dir}/addresses"
    return next((a for a in _candidates(folder, subnet) if not os.path.lexists(f"{folder}/{a}")), subnet.gateway)


def release(config: NetworkConfig, ident: str, address: str) -> None:
    """Gives an address back; nothing happens if it is not (or no longer) the container's."""
    path = f"{config.dir}/addresses/{address}"
    if owner(path) == ident:
        os.unlink(path)


def owner(path: str) -> str:
    """The container that a symlink of ours names; "" if there is none."""
    try:
        return os.readlink(path).partition(" ")[0]
    except FileNotFoundError:
        return ""


def mac_of(address: str) -> str:
    """docker's: 02:42 (locally administered) and the four bytes of the IPv4 address."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _range(subnet: Subnet) -> tuple[int, int]:
    """First and last host number to hand out: not the network, not the gateway, not the (IPv4) broadcast address."""
    return _GATEWAY + 1, min(subnet.size, _MOST) - 2


def _candidates(folder: str, subnet: Subnet) -> Iterator[str]:
    """Every address to hand out, once, from after the last one given."""
    first, last = _range(subnet)
    start = _resume(folder, subnet)
    for numbers in (range(start, last + 1), range(first, start)):
        for number in numbers:
            yield subnet.host(number)


def _take(folder: str, address: str, ident: str) -> bool:
    try:
        os.symlink(ident, f"{folder}/{address}")
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)
        return _take(folder, address, ident)
    return True


def _take_wanted(folder: str, ident: str, subnet: Subnet, wanted: str) -> str:
    flag = "--ip6" if ":" in wanted else "--ip"
    number = subnet.number(wanted)
    if number < 0:
        raise NetworkError(
            f"{flag} {wanted}: not an address of the bridge's subnet {subnet}",
            f"take one from {subnet.host(2)} on, or leave {flag} out",
        )
    if number <= _GATEWAY or number >= subnet.size - 1:
        what = "the bridge's own address" if number == _GATEWAY else "the network's or broadcast address"
        raise NetworkError(f"{flag} {wanted}: that is {what}", f"take one from {subnet.host(2)} on, or leave {flag} out")
    address = subnet.host(number)
    if not _take(folder, address, ident):
        raise Conflict(
            f"{flag} {wanted}: Address already in use by container {owner(f'{folder}/{address}')[:12]}",
            f"stop that container, or leave {flag} out",
        )
    return address


def _resume(folder: str, subnet: Subnet) -> int:
    """Where to begin. The file is a hint: a torn or lost write costs a longer search, never a double address."""
    first, last = _range(subnet)
    try:
        with open(f"{folder}.last{subnet.bits}", "rb", buffering=0) as f:
            number = subnet.number(f.read().decode(errors="replace"))
    except FileNotFoundError:
        return first
    return number + 1 if first <= number < last else first


def _remember(folder: str, subnet: Subnet, address: str) -> None:
    fd = os.open(f"{folder}.last{subnet.bits}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, address.encode())
    os.close(fd)
