"""A dockerd with `--userns-remap`: root of every container is nobody of the host; with our runtime, and with runc before it."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

import pytest

from tests.clients import dockerd, engine_scripts, readme
from tests.clients.daemon import NAMESPACES
from tests.clients.docker import Docker
from tests.clients.peer_first import OURS, Both, peer_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.engine import Engine

FIRST = 300000  # of the host's ids that containers are given
SCRIPTS = (engine_scripts.terminal, engine_scripts.life, engine_scripts.pause, engine_scripts.confinement)


@pytest.fixture(scope="module")
def both(passable: str, busybox_tarball: str) -> Iterator[Both]:
    """The daemon sees subordinate ids of its own in /etc, in its mount namespace; the host's files are as they were."""
    if missing := dockerd.missing():
        pytest.skip(missing)
    user = pwd.getpwnam("nobody")
    group = grp.getgrgid(user.pw_gid).gr_name
    shared_out = ""
    for name in ("subuid", "subgid"):  # dockerd looks for the user in both, newer ones for the group
        with open(f"{passable}/{name}", "w") as file:
            file.write("".join(f"{owner}:{FIRST}:65536\n" for owner in (user.pw_name, group)))
        shared_out += f"mount --bind {passable}/{name} /etc/{name} && "
    arguments = ("--userns-remap", f"{user.pw_name}:{group}")
    daemon = dockerd.Dockerd(passable, arguments=arguments, settings=readme.block("json", "runtimes", OURS))
    daemon.start([*NAMESPACES, "sh", "-ec", f'{shared_out} exec "$@"', "dockerd"])
    try:
        daemon.import_rootfs(busybox_tarball, Docker.image)
        yield Both(Docker(daemon, "runc"), Docker(daemon, "minicontainer"))
    finally:
        daemon.stop()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_as_with_its_own_runtime(script: Callable[[Engine], None], both: Both) -> None:
    """What every engine must do, in a user namespace."""
    both.run(script)


@peer_first
def test_root_is_nobody_outside(engine: Docker) -> None:
    """The first process, what is exec'ed and their files belong to the shared-out ids; --userns host is without."""
    engine.detached("one", engine_scripts.IDLE, "--network", "bridge")
    assert "eth0" in engine.out("exec", "one", "ls", "/sys/class/net")
    pid = engine.state("one")["Pid"]
    assert engine.out("exec", "one", "sh", "-c", "touch /mark; id -u; cat /proc/self/uid_map").split() == [
        "0",
        "0",
        str(FIRST),
        "65536",
    ]
    assert os.stat(f"/proc/{pid}").st_uid == os.stat(f"/proc/{pid}/root/mark").st_uid == FIRST
    assert engine.prints("cat /proc/self/uid_map", "--userns", "host").split() == ["0", "0", "4294967295"]
    engine.cli("exec", "-u", "33", "one", "touch", "/tmp/mark")
    assert os.stat(f"/proc/{pid}/root/tmp/mark").st_uid == FIRST + 33


@peer_first
def test_what_it_can_not_do(engine: Docker) -> None:
    """Its capabilities end at its namespaces: no host file of root's, no sysctl of the host's, no device made."""
    script = "mknod /dev/mine c 1 3; echo 1 >/proc/sys/kernel/panic; chroot / true && echo chroot; cat /host/secret"
    secret = f"{engine.daemon.directory}/secret"
    with open(secret, "w") as file:
        file.write("the host's\n")
    os.chmod(secret, 0o600)
    done = engine.shell(script, "--cap-add", "SYS_ADMIN", "-v", f"{secret}:/host/secret", check=False)
    assert done.stdout == b"chroot\n" and len(done.stderr.splitlines()) == 3, done.stderr
