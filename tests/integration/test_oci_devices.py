"""OCI's linux.devices and terminals for real: nodes of every type, defaults, what is in their place; the console."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from tests.integration.oci import Oci


def devices(oci: Oci, *wanted: dict) -> None:
    oci.config["linux"]["devices"] = list(wanted)


def test_every_type(oci: Oci) -> None:
    """c, u, b and p, below /dev and elsewhere, with mode and owner; without a mode 0666."""
    devices(
        oci,
        {"path": "/dev/one", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/deep/two", "type": "u", "major": 1, "minor": 11},
        {"path": "/srv/disk", "type": "b", "major": 7, "minor": 4000, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o620, "gid": 7},
    )
    out = oci.sh("stat -c '%F %t:%T %a %u:%g' /dev/one /dev/deep/two /srv/disk /dev/pipe")
    assert out.split("\n") == [
        "character special file a:e5 640 5:6", "character special file 1:b 666 0:0", "block special file 7:fa0 600 0:0", "fifo 0:0 620 0:7", "",
    ]  # fmt: skip


def test_default_devices(oci: Oci) -> None:
    """All of config-linux.md's list are there without being asked for, and work; one that is asked for is as it is asked for."""
    devices(oci, {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600})
    numbers = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    out = oci.sh("cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; for n in ptmx fd stdin stdout stderr; do readlink $n; done")
    expected = [word for name, number in numbers.items() for word in (name, number, "600" if name == "zero" else "666")]
    assert out.split() == [*expected, "pts/ptmx", "/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3))]
    assert oci.sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; (echo x > /dev/full) 2>&1 | grep -c space").split() == [
        "3",
        "1",
    ]


def test_what_is_there_already(oci: Oci) -> None:
    """A file that is the device is left as it is; one that is something else is an error (config-linux.md, "Devices")."""
    os.mknod(oci.rootfs / "srv-device", 0o020640, os.makedev(1, 3))
    devices(oci, {"path": "/srv-device", "type": "c", "major": 1, "minor": 3})
    assert oci.sh("stat -c %t:%T /srv-device").strip() == "1:3"
    (oci.rootfs / "srv-device").unlink()
    (oci.rootfs / "srv-device").touch()
    done = oci.run("true")
    assert done.code == 1 and "the image has something else at this path" in done.err and done.err.count("\n") == 1
    assert not oci.left()


def test_an_images_own_dev(oci: Oci) -> None:
    """Without a mount on /dev its devices are made in the image's, and its ptmx is the container's own."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if m["destination"] != "/dev"]
    (oci.rootfs / "dev/ptmx").touch()
    assert oci.sh("stat -c %t:%T /dev/null; readlink /dev/ptmx").split() == ["1:3", "pts/ptmx"]


# -- the terminal --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(oci: Oci) -> Iterator[socket.socket]:
    """A console socket in the bundle."""
    with socket.socket(socket.AF_UNIX) as sock:
        place = os.getcwd()
        os.chdir(oci.bundle)  # its own name may be too long for a socket
        try:
            sock.bind("console")
        finally:
            os.chdir(place)
        sock.listen()
        sock.settimeout(60)
        yield sock


def received(sock: socket.socket) -> int:
    """The master end that a runtime sends to a console socket."""
    connection, _ = sock.accept()
    with connection:
        connection.settimeout(60)
        _, control, _, _ = connection.recvmsg(4096, 64)
    return array.array("i", control[0][2][:4])[0]


def shown(master: int) -> bytes:
    """Everything that the terminal shows until its last program ends."""
    text = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: nobody has its other end any more
            return text
        if not data:
            return text
        text += data


@pytest.mark.parametrize("users", [False, True])
def test_console_socket(oci: Oci, listening: socket.socket, users: bool) -> None:
    """The master is the socket's, the other end the container's streams, controlling terminal and /dev/console; its size is set."""
    if users:
        oci.config["linux"]["namespaces"].append({"type": "user"})
        oci.config["linux"].update({f"{k}Mappings": [{"containerID": 0, "hostID": 300000, "size": 65536}] for k in ("uid", "gid")})
        oci.rootfs.chmod(0o755)
    script = (
        "tty; stty size; stat -c '%t:%T %u' /dev/console; echo on the console > /dev/console; echo mine > /dev/tty"
    )
    oci.write("sh", "-c", script, terminal=True, consoleSize={"height": 33, "width": 77}, user={"uid": 1000, "gid": 0})
    oci.ok("create", "--console-socket", "console", "one")
    master = received(listening)
    oci.ok("start", "one")
    lines = shown(master).decode().split("\r\n")
    os.close(master)
    assert lines[:5] == ["/dev/pts/0", "33 77", "88:0 1000", "on the console", "mine"]


def test_console_socket_of_exec(oci: Oci, listening: socket.socket) -> None:
    """A terminal of its own, from the container's devpts; /dev/console stays the first one's."""
    oci.running("sleep", "600")
    oci.ok("exec", "--tty", "--detach", "--console-socket", "console", "one", "sh", "-c", "tty; ls /dev/console 2>&1")
    master = received(listening)
    assert shown(master).decode().split("\r\n")[0] == "/dev/pts/0"
    os.close(master)


def test_a_file_that_poses_as_a_terminal(oci: Oci) -> None:
    """Without a devpts there is no terminal, whatever the image has at /dev/pts/ptmx (CVE-2025-52565)."""
    oci.config["mounts"] = [m for m in oci.config["mounts"] if m["destination"][:4] != "/dev"]
    (oci.rootfs / "dev/pts").mkdir(exist_ok=True)
    (oci.rootfs / "dev/pts/ptmx").touch()
    oci.write("true", terminal=True)
    done = oci.do("run", "one")
    assert done.code == 1 and "no file of the image poses as a terminal" in done.err
    assert not oci.left()
