"""OCI's user namespaces for real: root in a container is nobody outside, whoever started it; mounts with mapped ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine import Done, Terminal
from tests.integration.oci import Oci
from tests.integration.test_oci_namespaces import entry, has, kernel

FIRST = 300000
MANY = [{"containerID": 0, "hostID": FIRST, "size": 65536}]


@pytest.fixture
def users(oci: Oci) -> Oci:
    """A bundle whose container has a user namespace, and a root file system that belongs to its root."""
    has("user")
    oci.rootfs.chmod(0o755)
    for top, folders, files in os.walk(oci.rootfs):
        for name in (".", *folders, *files):
            os.chown(os.path.join(top, name), FIRST, FIRST, follow_symlinks=False)
    entry(oci, "user")
    oci.config["linux"].update(uidMappings=MANY, gidMappings=MANY)
    return oci


def test_ids_are_mapped(users: Oci) -> None:
    """Inside root, outside the mapped user; its files belong to it."""
    out = users.sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; echo x > /tmp/new; stat -c %u:%g /tmp/new").split()
    assert out == ["0", str(FIRST), "65536"] * 2 + ["0", "0:0"]
    assert os.stat(users.rootfs / "tmp/new").st_uid == FIRST
    pid = users.running("sleep", "600")
    assert os.stat(f"/proc/{pid}").st_uid == FIRST
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n" in status and "Groups:\t \n" in status


def test_devices_and_file_systems(users: Oci) -> None:
    """/dev works though no node can be made, masks and read-only paths are there, and all mounts are its own."""
    script = (
        "echo x > /dev/null; head -c 8 /dev/urandom | wc -c; cat /proc/keys | wc -c; echo 1 > /proc/sysrq-trigger || echo refused"
    )
    out = users.sh(f"({script}) 2>&1; stat -c '%t:%T' /dev/null; ls /sys/class/net")
    assert out.split()[:2] == ["8", "0"] and "refused" in out and out.split()[-2:] == ["1:3", "lo"]


def test_what_only_the_host_may_is_done_by_the_host(users: Oci) -> None:
    """A folder that the mapped root can't walk to is bound, a limit is set, and the OOM score."""
    hidden = users.folder / "hidden"
    (hidden / "in").mkdir(parents=True)
    (hidden / "in" / "file").write_text("seen\n")
    hidden.chmod(0o700)
    users.folder.chmod(0o700)  # so the root is out of reach too
    users.mount("/tmp", hidden / "in", "ro")
    limit = {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}
    out = users.sh("cat /tmp/file; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj", rlimits=[limit], oomScoreAdj=321)
    assert out.split() == ["seen", "512", "1024", "321"]


@pytest.mark.parametrize("kind", ["network", "ipc", "pid"])
def test_with_a_namespace_of_the_host(users: Oci, kind: str) -> None:
    """What shows the host's network, queues or processes can't be made by the mapped root, and is there all the same."""
    entry(users, kind, None)
    users.config["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"})
    users.config["linux"].update(maskedPaths=[], readonlyPaths=[])
    out = users.sh("mount; ls /sys/class/net; echo $$")
    assert " on /sys type sysfs (ro" in out and " on /dev/mqueue type mqueue" in out and " on /proc type proc" in out
    if kind == "network":
        assert set(os.listdir("/sys/class/net")) <= set(out.split())
    if kind == "pid":
        assert int(out.split()[-1]) > 1


def test_cgroups(users: Oci) -> None:
    """It is in its cgroup, which it sees as the root of all, and which it can't change."""
    users.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}
    )
    users.config["linux"]["resources"]["pids"] = {"limit": 77}
    out = users.sh(
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; mkdir /sys/fs/cgroup/x 2>&1; true"
    )
    assert all(line.endswith(":/") for line in out.split() if line[0].isdigit() and ":" in line)
    assert "77" in out.split() and "can't create directory" in out
    entry(users, "cgroup", None)
    assert "77" in users.sh("cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true").split()


def test_exec_joins(users: Oci) -> None:
    """exec is root, or who is asked for, in the container's user namespace, with the capabilities that it has there."""
    pid = users.running("sleep", "600")
    namespace = os.readlink(f"/proc/{pid}/ns/user")
    out = users.ok("exec", "one", "sh", "-c", "readlink /proc/self/ns/user; id -u; echo $PPID; id -G")
    assert out.split() == [namespace, "0", "0", "0"]
    assert users.ok("exec", "--user", "1000:1000", "one", "sh", "-c", "id").strip() == "uid=1000 gid=1000"
    assert os.stat(f"/proc/{pid}").st_uid == FIRST


def test_a_terminal(users: Oci) -> None:
    """Of the container's own devpts, with /dev/console."""
    users.write("sh", "-c", "tty; stat -c '%t:%T %u' /dev/console; echo typed: $(head -n 1)", terminal=True)
    terminal = Terminal(["sh", "-c", 'cd "$0" && exec "$@"', str(users.bundle), *users.command("run", "one")])
    try:
        terminal.expect(b"/dev/pts/0")
        terminal.type(b"hello\n")
        terminal.expect(b"typed: hello")
        assert terminal.wait() == 0
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 10}, {"containerID": 5, "hostID": 100, "size": 10}]}, "uid_map"),
        ({"devices": [{"path": "/dev/nosuch", "type": "c", "major": 222, "minor": 111}]}, "the host has no 222:111"),
    ],
)
def test_what_can_not_be(users: Oci, change: dict, text: str) -> None:
    """One line, and nothing left."""
    users.config["linux"].update(change)
    done = users.run("true")
    assert done.code == 1 and text in done.err and done.err.count("\n") == 1
    assert not users.left()


# -- without root --------------------------------------------------------------------------------------------------------------

OWN = 12345  # a user that no host has


@pytest.fixture
def rootless(oci: Oci) -> Iterator[Oci]:
    """A bundle of an ordinary user, in a folder that they reach."""
    has("user")
    limit = Path("/proc/sys/kernel/unprivileged_userns_clone")
    if limit.exists() and limit.read_text().strip() == "0":
        pytest.skip("this host lets only root make user namespaces")
    for top, folders, files in os.walk(oci.folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(top, name), OWN, OWN, follow_symlinks=False)
    closed = {path: path.stat().st_mode for path in oci.folder.parents if not path.stat().st_mode & 1}
    for path, mode in closed.items():  # pytest's own
        path.chmod(mode | 1)
    if as_user(oci, "--version").code:
        pytest.skip("the program is out of reach for an ordinary user")
    entry(oci, "user")
    entry(oci, "cgroup", None)
    del oci.config["linux"]["cgroupsPath"]
    oci.config["linux"].update(resources={}, uidMappings=[{"containerID": 0, "hostID": OWN, "size": 1}])
    oci.config["linux"]["gidMappings"] = oci.config["linux"]["uidMappings"]
    yield oci
    for path, mode in closed.items():
        path.chmod(mode)


def as_user(oci: Oci, *words: str, before: str = "true") -> Done:
    """One command line of that user, after a line of shell as root in a copy of the host's mounts."""
    shell = f'{before} && exec setpriv --reuid {OWN} --regid {OWN} --clear-groups "$@"'
    return oci.do(*words, prefix=("unshare", "--mount", "sh", "-c", shell, "sh"))


def test_without_root_by_the_own_id(rootless: Oci) -> None:
    """Root inside is the user outside, and setgroups is denied."""
    rootless.write("sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /tmp/new")
    done = as_user(rootless, "run", "one")
    assert done.code == 0 and done.out.split() == ["0", "0", str(OWN), "1", "deny"], done
    assert os.stat(rootless.rootfs / "tmp/new").st_uid == OWN


@pytest.fixture
def delegated(rootless: Oci) -> Iterator[Path]:
    """A cgroup of that user, with one below it for the processes that are there already (cgroup-v2.rst, "Delegation")."""
    top = Path(f"/sys/fs/cgroup/{rootless.cgroup}")
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("only cgroup v2 can be delegated")
    (top / "session").mkdir(parents=True)
    for folder in (top, top / "session"):
        for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(folder / name, OWN, OWN)
    yield top
    (top / "session").rmdir()


def test_without_root_in_a_delegated_group(rootless: Oci, delegated: Path) -> None:
    """Its cgroup is beside the one that the user is in, with limits; without one delegated there are none to be had."""
    rootless.config["linux"]["resources"] = {"pids": {"limit": 9}}
    rootless.write("sleep", "600")
    refused = as_user(rootless, "create", "one")
    assert refused.code == 1 and "rootless needs no limits + no cgrouppath" in refused.err
    enter = f"echo $$ >{delegated}/session/cgroup.procs"
    assert as_user(rootless, "create", "one", before=enter).code == 0
    try:
        assert (delegated / "one/pids.max").read_text() == "9\n"
        assert as_user(rootless, "update", "--pids-limit", "8", "one", before=enter).code == 0
        assert (delegated / "one/pids.max").read_text() == "8\n"
    finally:
        as_user(rootless, "delete", "--force", "one", before=enter)
    assert not (delegated / "one").exists()


def test_without_root_by_subordinate_ids(rootless: Oci) -> None:
    """newuidmap maps what /etc/subuid grants; what it does not is refused in one line."""
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap is not installed: apt-get install uidmap")
    grant = rootless.folder / "subid"
    grant.write_text(f"{OWN}:{FIRST}:65536\n")
    maps = [{"containerID": 0, "hostID": OWN, "size": 1}, {"containerID": 1, "hostID": FIRST, "size": 65536}]
    rootless.config["linux"].update(uidMappings=maps, gidMappings=maps)
    rootless.write("sh", "-c", "id; cat /proc/self/setgroups", user={"uid": 5, "gid": 6, "additionalGids": [7]})
    names = rootless.folder / "passwd"
    names.write_text(f"root:x:0:0::/:/bin/sh\nsomebody:x:{OWN}:{OWN}::/:/bin/sh\n")  # newuidmap wants its caller to have a name
    granted = f"mount --bind {grant} /etc/subuid && mount --bind {grant} /etc/subgid && mount --bind {names} /etc/passwd"
    done = as_user(rootless, "run", "one", before=granted)
    assert done.code == 0 and done.out.split() == ["uid=5", "gid=6", "groups=7", "allow"], done
    maps[1]["size"] = 70000
    rootless.write()
    refused = as_user(rootless, "run", "one", before=granted)
    assert refused.code == 1 and "newgidmap" in refused.err and "/etc/subgid" in refused.err


# -- mounts with mapped ids ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nested(oci: Oci) -> Oci:
    """A bundle for root of a user namespace that denies setgroups(2), as `unshare -r` makes it: without cgroups, and by its own id."""
    has("user")
    for kind in ("cgroup", "network"):
        entry(oci, kind, None)
    oci.config["mounts"] = [m for m in oci.config["mounts"] if m["type"] != "sysfs"]
    oci.config["linux"].update(resources={}, maskedPaths=[], readonlyPaths=[])
    del oci.config["linux"]["cgroupsPath"]
    return oci


NESTED = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.mark.parametrize("kind", [None, ""])
def test_root_of_a_user_namespace_without_groups(nested: Oci, kind: str | None) -> None:
    """In its own user namespace, and in a new one below it: what it may not change stays."""
    entry(nested, "user", kind)
    if kind is not None:
        own = [{"containerID": 0, "hostID": 0, "size": 1}]
        nested.config["linux"].update(uidMappings=own, gidMappings=own)
    nested.write("sh", "-c", "id -u; cat /proc/self/setgroups; grep CapBnd /proc/self/status")
    done = nested.do("run", "one", prefix=NESTED)
    assert done.code == 0 and done.out.split()[:2] == ["0", "deny"], done


def test_proc_that_can_not_be_made_from_inside(nested: Oci) -> None:
    """Who is in a user namespace can't be born in another pid namespace: its /proc takes an option of Linux 6.17, else an error."""
    own = [{"containerID": 0, "hostID": 0, "size": 1}]
    nested.config["linux"].update(uidMappings=own, gidMappings=own)
    entry(nested, "user")
    inside = 'unshare --pid --fork sleep 600 & sleep 0.5; read -r held < /proc/$!/task/$!/children; sed -i "s/HELD/${held% }/" config.json;'
    entry(nested, "pid", "/proc/HELD/ns/pid")
    nested.write("sh", "-c", "echo /proc/[0-9]*; cat /proc/1/comm")
    done = nested.do("run", "one", prefix=(*NESTED, "sh", "-c", f'{inside} "$@"; code=$?; kill -9 $held; exit $code', "sh"))
    if kernel(6, 17):
        assert done.code == 0 and done.out == "/proc/1 /proc/2\nsleep\n", done
    else:
        assert done.code == 1 and "takes this option of Linux 6.17" in done.err, done


@pytest.fixture
def source(oci: Oci) -> Path:
    """A folder with a file of user 1000 on a file system that can map ids."""
    folder = oci.folder / "source"
    folder.mkdir()
    (folder / "file").write_text("x")
    os.chown(folder / "file", 1000, 1000)
    oci.mount("/mnt", folder, "idmap")
    oci.config["mounts"][-1].update(
        uidMappings=[{"containerID": 0, "hostID": 5000, "size": 2000}],
        gidMappings=[{"containerID": 0, "hostID": 7000, "size": 2000}],
    )
    if oci.run("true").code:
        pytest.skip("the test's file system can't map ids")
    return folder


def test_mapped_ids(oci: Oci, source: Path) -> None:
    """What is 1000 on disk is another id in the mount; on disk nothing changes."""
    assert oci.sh("stat -c %u:%g /mnt/file").strip() == "6000:8000"
    assert os.stat(source / "file").st_uid == 1000


def test_mapped_as_the_container_is(users: Oci, source: Path) -> None:
    """Without mappings of its own a mount has the container's: what is root's on disk is root's inside."""
    mount = users.config["mounts"][-1]
    del mount["uidMappings"], mount["gidMappings"]
    mount["destination"] = "/tmp"
    mount["options"] = ["rbind", "ridmap"]
    out = users.sh("stat -c %u:%g /tmp /tmp/file; touch /tmp/new")
    assert out.split() == ["0:0", "1000:1000"]
    assert os.stat(source / "new").st_uid == 0


@pytest.fixture
def joined(users: Oci) -> Iterator[Oci]:
    """The same bundle, with the user namespace of a process that is there already, by path and without mappings."""
    command = ["unshare", "--user", "--fork", "sh", "-c", "echo up; exec sleep 600"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"up\n"
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    for kind in ("gid", "uid"):
        Path(f"/proc/{child}/{kind}_map").write_text(f"0 {FIRST} 65536\n")
    entry(users, "user", f"/proc/{child}/ns/user")
    del users.config["linux"]["uidMappings"], users.config["linux"]["gidMappings"]
    yield users
    os.kill(child, 9)
    process.wait()
    process.stdout.close()


def test_mapped_as_the_joined_user_namespace_is(joined: Oci, source: Path) -> None:
    """Who joins one has its mappings: for mounts, and for the owner of a tmpfs that is filled from outside."""
    mount = joined.config["mounts"][-1]
    del mount["uidMappings"], mount["gidMappings"]
    joined.mount("/etc", "tmpfs", "tmpcopyup")
    out = joined.sh("stat -c %u:%g /mnt/file /etc; touch /etc/new")
    assert out.split() == ["1000:1000", "0:0"]


def test_other_mappings_than_those_of_the_joined_user_namespace_are_refused(joined: Oci) -> None:
    """In runc's words; its own may be said again, as containerd does."""
    joined.config["linux"].update(uidMappings=MANY, gidMappings=MANY)
    joined.sh("true")
    joined.config["linux"]["gidMappings"] = [{**MANY[0], "hostID": 7}]
    done = joined.run("true")
    assert done.code == 1 and "both namespace path and non-matching mapping specified" in done.err
    assert not joined.left()


def test_mapped_by_nothing_is_refused(oci: Oci, source: Path) -> None:
    """Without a user namespace of the container an idmap needs mappings."""
    mount = oci.config["mounts"][-1]
    del mount["uidMappings"], mount["gidMappings"]
    done = oci.run("true")
    assert done.code == 1 and "id-mapped mounts must have both uid and gid mappings specified" in done.err
    assert json.loads(oci.ok("list", "--format", "json")) in (None, [])
