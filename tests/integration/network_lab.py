"""The network's parts on a real kernel: bridge, cables, nftables, and hosts outside, each in a network namespace of its own.

    outside (203.0.113.2, 2001:db8:1::2) ══ eth0 host (203.0.113.1, 2001:db8:1::1) minicontainer0 ══ containers

The machine's own network and firewall are never touched: the pytest process itself moves into the namespace `host`.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import time

from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE
from minicontainer.network import endpoint
from minicontainer.network.config import NetworkConfig
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


def missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    return next((f"the tests need {tool}" for tool in ("ip", "nft", "unshare", "nsenter") if not shutil.which(tool)), "")


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
