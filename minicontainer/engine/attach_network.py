"""What network a container has: bridge, none, host, or another container's; and the files that tell it so."""

from __future__ import annotations

import os

from minicontainer.engine.config import Config
from minicontainer.engine.container import Container, find
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import default_hostname
from minicontainer.errors import Conflict
from minicontainer.network import resolvconf
from minicontainer.network.config import NetworkConfig
from minicontainer.network.ports import parse_publish
from minicontainer.runtime.plan import Network
from minicontainer.stub.ops import Op, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.network.endpoint import Endpoint


# In the state of a container between taking a place in the bridge network and knowing which.
UNKNOWN: dict = {}


class Joined:
    """What is shared with other containers: namespace paths by type, the folder of network files, the path of /dev/shm."""

    __slots__ = ("files", "namespaces", "shm")

    def __init__(self) -> None:
        self.namespaces: dict[str, str] = {}
        self.files = ""
        self.shm = ""


def joined_namespaces(container: Container, options: RunOptions) -> Joined:
    """The namespaces of `container:NAME` modes. Conflict if that container does not run."""
    joined = Joined()
    for kind, mode, name in (
        ("network", options.network, "net"),
        ("pid", options.pid_mode, "pid"),
        ("ipc", options.ipc_mode, "ipc"),
    ):
        if not mode.startswith("container:"):
            continue
        other = find(container.config, mode.partition(":")[2])
        state = other.live()
        if not state or not state.get("pid"):
            raise Conflict(
                f"cannot join {kind} of a non running container: {other.name}", f"start it: `minicontainer start {other.name}`"
            )
        joined.namespaces[kind] = f"/proc/{state['pid']}/ns/{name}"
        if kind == "network":
            joined.files = other.dir
        if kind == "ipc":
            joined.shm = f"/proc/{state['pid']}/root/dev/shm"
    return joined


def mode_of(options: RunOptions) -> str:
    """bridge, none, host or container."""
    return (options.network or "bridge").partition(":")[0].replace("default", "bridge")


def hostname(container: Container, options: RunOptions) -> str:
    """The container's host name."""
    return default_hostname(options, container.ident, os.uname().nodename)


def network_config(config: Config) -> NetworkConfig:
    """The bridge network as the configuration has it."""
    given = {k.removeprefix("network."): v for k, v in config.settings.items() if k.startswith("network.")}
    return NetworkConfig(config.state, **given)  # type: ignore[arg-type]  # Config has checked their types


def connect(container: Container, options: RunOptions, *, dry_run: bool = False) -> Endpoint | None:
    """A place in the bridge network, or None for other modes. With dry_run nothing is taken."""
    if mode_of(options) != "bridge":
        return None
    from minicontainer.network import endpoint

    config = network_config(container.config)
    publications = [p for text in _published(container, options) for p in parse_publish(text)]
    take = endpoint.preview if dry_run else endpoint.attach
    return take(config, container.ident, publications=publications, ip=options.ip, ip6=options.ip6, mac=options.mac_address)


def _published(container: Container, options: RunOptions) -> list[str]:
    """-p as given; with -P also a random port for each that is exposed."""
    texts = list(options.publish)
    if options.publish_all:
        exposed = [*options.expose, *(container.record["image_config"].get("ExposedPorts") or ())]
        given = {t.rpartition(":")[2] for t in texts}
        texts += [port for port in dict.fromkeys(p if "/" in p else f"{p}/tcp" for p in exposed) if port not in given]
    return texts


class Bridged(Network):
    """The bridge network's part of a plan."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def host(self, pid: int) -> list[Op]:
        return self._endpoint.host_ops(pid)

    def container(self, sock: Slot) -> list[Op]:
        return self._endpoint.container_ops(sock)


class LoopbackOnly(Network):
    """--network none."""

    def container(self, sock: Slot) -> list[Op]:
        from minicontainer.network.endpoint import lo_ops

        return lo_ops(sock)


def part_of_plan(endpoint: Endpoint | None, options: RunOptions) -> Network:
    """What the network contributes to the plan."""
    if endpoint:
        return Bridged(endpoint)
    return LoopbackOnly() if mode_of(options) == "none" else Network()


def write_files(container: Container, options: RunOptions, endpoint: Endpoint | None, joined: Joined) -> None:
    """hosts, hostname and resolv.conf in the container's folder; a joined network has the other container's."""
    if joined.files:
        return
    host = mode_of(options) == "host"
    name = hostname(container, options)
    ip, ip6 = (endpoint.ip, endpoint.ip6) if endpoint else ("", "")
    gateway = endpoint.gateway if endpoint else ""
    texts = {
        "hostname": f"{name}\n",
        "hosts": resolvconf.host_hosts(options.add_hosts)
        if host
        else resolvconf.hosts(
            ip=ip, ip6=ip6, hostname=name, domainname=options.domainname, extra=options.add_hosts, gateway=gateway
        ),
        "resolv.conf": resolvconf.resolv_conf(
            dns=options.dns, search=options.dns_search, options=options.dns_options, ipv6=bool(ip6), host_network=host
        ),
    }
    for file, text in texts.items():
        fd = os.open(f"{container.dir}/{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        os.write(fd, text.encode())
        os.close(fd)


def release(container: Container, state: dict) -> None:
    """Gives back what a container had of the network: after its last process."""
    network = state.get("network")
    if network:
        from minicontainer.network.endpoint import release as give_back

        give_back(network_config(container.config), container.ident, network)
    elif network == UNKNOWN:
        from minicontainer.network.reclaim import reclaim_unborn

        reclaim_unborn(network_config(container.config), container.ident)


def reclaim(config: Config) -> list[str]:
    """Gives back what belongs to containers that are no more; a sentence each."""
    from minicontainer.network.reclaim import reclaim as give_back

    def live() -> list[str]:
        folder = f"{config.state}/containers"
        return [n for n in os.listdir(folder) if not n.startswith(".")] if os.path.isdir(folder) else []

    return give_back(network_config(config), live)


# -- for people -------------------------------------------------------------------------------------------------------


def _ports(container: Container) -> list[list]:
    """[ip, port, protocol, target, target_port] of each published port of a running container."""
    state = container.live() or {}
    return (state.get("network") or {}).get("ports", [])


def ports_text(container: Container) -> str:
    """The PORTS column of ps."""
    shown = [f"{f'[{ip}]' if ':' in ip else ip}:{port}->{inside}/{protocol}" for ip, port, protocol, _, inside in _ports(container)]
    return ", ".join(shown)


def port_lines(container: Container, wanted: str) -> list[str]:
    """The lines of `port`; wanted: "80/tcp", or "" for all."""
    lines = []
    for ip, port, protocol, _, inside in _ports(container):
        where = f"{f'[{ip}]' if ':' in ip else ip}:{port}"
        if wanted == f"{inside}/{protocol}":
            lines.append(where)
        elif not wanted:
            lines.append(f"{inside}/{protocol} -> {where}")
    return lines


def settings(container: Container, options: RunOptions) -> dict:
    """NetworkSettings of inspect."""
    state = (container.live() or {}).get("network") or {}
    ports: dict[str, list[dict[str, str]]] = {}
    for ip, port, protocol, _, inside in _ports(container):
        ports.setdefault(f"{inside}/{protocol}", []).append({"HostIp": ip, "HostPort": str(port)})
    one = {
        "IPAddress": state.get("ip", ""),
        "IPPrefixLen": state.get("prefix", 0),
        "Gateway": state.get("gateway", ""),
        "MacAddress": state.get("mac", ""),
        "GlobalIPv6Address": state.get("ip6", ""),
        "GlobalIPv6PrefixLen": state.get("prefix6", 0),
        "IPv6Gateway": state.get("gateway6", ""),
    }
    return {"Bridge": state.get("bridge", ""), "Ports": ports, **one, "Networks": {mode_of(options): one}}
