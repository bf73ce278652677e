"""What a container without flags looks like from inside: docker's defaults, in /dev, /proc, mounts, and privileges."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.engine import IMAGE, Engine

SCRIPT = """
echo "== status"; cat /proc/self/status
echo "== fds"; ls /proc/self/fd
echo "== dev"; cd /dev; for f in $(ls -A | grep -v -e shm -e mqueue -e pts); do stat -c '%n %F %a %t:%T' $f; done; for f in fd stdin stdout stderr ptmx; do readlink $f; done; cd /
echo "== mounts"; cat /proc/self/mountinfo
echo "== masked"; for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && echo $f $(wc -c <$f); done; ls -A /sys/firmware /proc/scsi /proc/acpi 2>/dev/null | grep -v : | grep .
echo "== writable"; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do [ -e $f ] && (echo x >$f) 2>&1; done
echo "== namespaces"; for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done
echo "== cgroup"; cat /proc/self/cgroup; ls /sys/fs/cgroup; touch /sys/fs/cgroup/x 2>&1; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>&1; done
echo "== processes"; ls -d /proc/[0-9]* | wc -l
echo "== stat"; cat /proc/self/stat; cat /proc/1/comm
echo "== hosts"; cat /etc/hosts
echo "== resolv"; cat /etc/resolv.conf
echo "== exe"; ls -l /proc/1/exe
echo "== links"; ls /sys/class/net
echo "== limits"; cat /proc/self/limits
echo "== end"
"""  # fmt: skip


@pytest.fixture(scope="module")
def sections(_shared_engine: Engine) -> dict[str, str]:
    """What the script prints in a container with a host name, by section."""
    done = _shared_engine.box("-h", "box", IMAGE, "sh", "-c", SCRIPT)
    parts = re.split(r"^== (\w+)\n", done.out, flags=re.M)
    assert parts[-2:] == ["end", ""], done
    return dict(zip(parts[1::2], parts[2::2]))


def status(sections: dict[str, str], name: str) -> str:
    return re.search(rf"^{name}:\s*(.*)$", sections["status"], re.M)[1]  # type: ignore[index]


def test_capabilities_are_dockers(sections: dict[str, str]) -> None:
    """The fourteen of docker in bounding, permitted and effective; none inheritable or ambient (CVE-2022-24769)."""
    sets = {name: int(status(sections, f"Cap{name}"), 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    assert sets == {"Inh": 0, "Prm": 0xA80425FB, "Eff": 0xA80425FB, "Bnd": 0xA80425FB, "Amb": 0}


def test_seccomp_is_on(sections: dict[str, str]) -> None:
    """docker's filter is in force."""
    assert status(sections, "Seccomp") == "2"


def test_no_signal_is_ignored_or_blocked(sections: dict[str, str]) -> None:
    """Python ignores SIGPIPE; a container does not inherit that."""
    assert [int(status(sections, n), 16) for n in ("SigIgn", "SigBlk")] == [0, 0]


def test_only_the_three_streams_are_open(sections: dict[str, str]) -> None:
    """0, 1, 2, and the one that `ls` itself has for the folder (CVE-2024-21626)."""
    assert sections["fds"].split() == ["0", "1", "2", "3"]


def test_groups_are_not_the_callers(sections: dict[str, str]) -> None:
    """Root's own group alone, whatever groups the caller has."""
    assert status(sections, "Groups").split() == ["0"]


def test_devices_and_links(sections: dict[str, str]) -> None:
    """The OCI default devices, mode 666, and docker's links; nothing else of the host's."""
    lines = sections["dev"].splitlines()
    assert {line for line in lines if "character" in line} == {
        "null character special file 666 1:3", "zero character special file 666 1:5", "full character special file 666 1:7",
        "random character special file 666 1:8", "urandom character special file 666 1:9", "tty character special file 666 5:0"}  # fmt: skip
    assert {line.split()[0] for line in lines if "symbolic" in line} >= {"fd", "stdin", "stdout", "stderr", "ptmx"}
    assert lines[-5:] == ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]
    assert not [line for line in lines if "block" in line]


def test_mounts(sections: dict[str, str]) -> None:
    """Every default mount is there with docker's guards, and nothing of the host's mount table is left."""
    mounts = {}
    for line in sections["mounts"].splitlines():
        fields = line.split(" ")
        kind = fields[fields.index("-") + 1]
        mounts[fields[4]] = (kind, set(fields[5].split(",")))
    guarded = {"nosuid", "nodev", "noexec"}
    assert mounts["/"][0] == "overlay"
    assert mounts["/proc"][0] == "proc"
    assert mounts["/proc"][1] >= guarded
    assert mounts["/sys"][0] == "sysfs"
    assert mounts["/sys"][1] >= guarded | {"ro"}
    assert mounts["/dev"][0] == "tmpfs"
    assert "nosuid" in mounts["/dev"][1]
    assert mounts["/dev/pts"][0] == "devpts"
    assert mounts["/dev/shm"][0] == "tmpfs"
    assert mounts["/dev/shm"][1] >= guarded
    assert mounts["/dev/mqueue"][0] == "mqueue"
    assert mounts["/sys/fs/cgroup"][1] >= {"ro", *guarded}
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"):
        if os.path.exists(path):
            assert "ro" in mounts[path][1], path
    known = ("/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
    assert not [m for m in mounts if m != "/" and not m.startswith(known)]


def test_mounts_do_not_propagate(sections: dict[str, str]) -> None:
    """Every mount is private: no peer group with the host."""
    assert not re.findall(r"shared:|master:", sections["mounts"])


def test_masked_paths_are_empty(sections: dict[str, str]) -> None:
    """What docker masks reads as nothing, files and folders."""
    for line in sections["masked"].splitlines():
        assert line.endswith(" 0"), line


def test_read_only_paths(sections: dict[str, str]) -> None:
    """The kernel's settings can't be written."""
    lines = sections["writable"].splitlines()
    assert lines
    assert all(
        re.search(r"(Read-only file system|Permission denied|nonexistent|Operation not permitted)$", line) for line in lines
    ), lines
    assert any("Read-only file system" in line for line in lines)


def test_namespaces_are_its_own(sections: dict[str, str]) -> None:
    """mount, pid, network, ipc and uts differ from the host's; cgroup too on v2, as docker has it."""
    seen = dict(line.rstrip("]").split(":[") for line in sections["namespaces"].splitlines())
    host = {n: os.readlink(f"/proc/self/ns/{n}").rstrip("]").split(":[")[1] for n in seen}
    own = {n for n in seen if seen[n] != host[n]}
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    assert own == {"ipc", "mnt", "net", "pid", "uts"} | ({"cgroup"} if v2 else set())


def test_cgroups_can_not_be_written(sections: dict[str, str]) -> None:
    """No group can be made and no file written (release_agent, CVE-2022-0492, is out of reach)."""
    errors = [
        line
        for line in sections["cgroup"].splitlines()
        if ("can't" in line or "touch:" in line) and not line.endswith("Not a directory")
    ]
    assert len(errors) >= 2
    assert all("Read-only file system" in line for line in errors if "File exists" not in line), errors
    assert "release_agent" not in sections["cgroup"]


def test_only_its_own_processes_are_visible(sections: dict[str, str]) -> None:
    """/proc is of the new pid namespace: the shell, and what it started."""
    assert int(sections["processes"]) <= 4


def test_session_of_its_own(sections: dict[str, str]) -> None:
    """Process 1 leads a session without the caller's terminal."""
    stat, comm = sections["stat"].splitlines()
    fields = stat.rpartition(")")[2].split()
    assert (fields[3], fields[4]) == ("1", "0")  # session 1, no terminal
    assert comm == "sh"


def test_hosts_and_resolver(sections: dict[str, str]) -> None:
    """/etc/hosts has localhost; /etc/resolv.conf is there."""
    assert re.search(r"^127\.0\.0\.1\s+localhost", sections["hosts"], re.M)
    assert sections["resolv"] != ""


def test_program_is_the_images_own(sections: dict[str, str]) -> None:
    """/proc/1/exe is a file of the image, not of the host (CVE-2019-5736)."""
    assert sections["exe"].rstrip().endswith("-> /bin/busybox")


def test_network_none_has_a_loopback(sections: dict[str, str]) -> None:
    """--network none: lo, and nothing else."""
    assert sections["links"].split() == ["lo"]


def test_limits_are_the_callers(sections: dict[str, str]) -> None:
    """Without --ulimit a container has the rlimits of who started it."""
    with open("/proc/self/limits") as f:
        mine = {line[:26]: line[26:].split() for line in f}
    theirs = {line[:26]: line[26:].split() for line in sections["limits"].splitlines()}
    assert theirs == mine


def test_host_sees_no_mount_of_it(engine: Engine) -> None:
    """The overlay is mounted in the container's own namespace alone."""
    engine.detached(IMAGE, "sleep", "600")
    with open("/proc/self/mountinfo") as f:
        assert engine.directory not in f.read()


def test_keyring_of_its_own(engine: Engine) -> None:
    """The session keyring is the container's own, by its id."""
    name = engine.detached(IMAGE, "sleep", "600")
    with open("/proc/keys") as f:
        assert f"_ses.{name}" in f.read()


def test_open_files_of_the_caller_do_not_cross(engine: Engine) -> None:
    """A descriptor that the caller leaves inheritable is not in the container, neither by run nor by exec."""
    with inherited() as fd:
        for words in (("run", "--rm", "--network", "none", IMAGE), ("exec", engine.detached(IMAGE, "sleep", "600"))):
            done = subprocess.run(
                engine.enter(*words, "ls", "/proc/self/fd"), pass_fds=[fd], capture_output=True, text=True, check=True
            )
            assert done.stdout.split() == ["0", "1", "2", "3"]


@contextmanager
def inherited() -> Iterator[int]:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def test_privileged(engine: Engine) -> None:
    """--privileged: all capabilities that the caller has, no filter, /sys writable, the host's devices."""
    with open("/proc/self/status") as f:
        mine = re.search(r"^CapEff:\s*(\w+)", f.read(), re.M)[1]  # type: ignore[index]
    out = engine.sh(
        "grep -e CapEff -e CapBnd -e Seccomp: /proc/self/status; grep ' /sys ' /proc/mounts; ls /dev/fuse /dev/kmsg 2>/dev/null | wc -l; "
        "echo 1 >/proc/sys/net/ipv4/ip_forward && echo wrote",
        "--privileged",
    )
    words = dict(line.split(":\t") for line in out.splitlines() if ":\t" in line)
    assert int(words["CapEff"], 16) == int(words["CapBnd"], 16) == int(mine, 16)
    assert words["Seccomp"] == "0"
    assert re.search(r"/sys sysfs rw", out)
    assert out.endswith("wrote\n")


def test_cap_add_and_drop(engine: Engine) -> None:
    """--cap-add and --cap-drop change all sets alike; ALL works in both."""

    def bounding(*flags: str) -> int:
        lines = engine.sh("grep -e CapPrm -e CapEff -e CapBnd /proc/self/status | cut -f 2", *flags).split()
        assert len(set(lines)) == 1
        return int(lines[0], 16)

    assert bounding("--cap-add", "NET_ADMIN") == 0xA80425FB | 1 << 12
    assert bounding("--cap-drop", "chown", "--cap-drop", "CAP_MKNOD") == 0xA80425FB & ~1 & ~(1 << 27)
    assert bounding("--cap-drop", "ALL") == 0
    assert bounding("--cap-drop", "ALL", "--cap-add", "CHOWN") == 1
    assert bounding("--cap-add", "ALL", "--cap-drop", "SYS_ADMIN") & 1 << 21 == 0


def test_user_has_no_capabilities_in_force(engine: Engine) -> None:
    """With -u the bounding set stays, and nothing is effective: a program of another user than root has none."""
    out = engine.sh("grep Cap /proc/self/status | cut -f 2", "-u", "1000")
    assert [int(x, 16) for x in out.split()] == [0, 0, 0, 0xA80425FB, 0]


def test_security_options(engine: Engine) -> None:
    """no-new-privileges and seccomp=unconfined do what they say; a profile of one's own is used."""
    assert engine.sh(
        "grep -e NoNewPrivs -e Seccomp: /proc/self/status | cut -f 2", "--security-opt", "no-new-privileges"
    ).split() == ["1", "2"]
    assert engine.sh("grep Seccomp: /proc/self/status | cut -f 2", "--security-opt", "seccomp=unconfined").strip() == "0"
    done = engine.box("--security-opt", "nosuch=1", IMAGE, "true")
    assert done.code == 125
    assert "nosuch" in done.err


def test_default_filter_refuses(engine: Engine) -> None:
    """The filter refuses what docker's refuses: a new user namespace, the kernel's keyring."""
    done = engine.box(IMAGE, "unshare", "-U", "true")
    assert done.code != 0
    assert "Operation not permitted" in done.err


def test_device(engine: Engine) -> None:
    """--device makes the node, and allows what was asked for and no more."""
    out = engine.sh(
        "head -c 4 /dev/nothing | wc -c; (echo x >/dev/nothing) 2>&1 || echo refused", "--device", "/dev/zero:/dev/nothing:r"
    )
    assert out.splitlines()[0] == "4"
    assert engine.sh("stat -c %t:%T /dev/nothing", "--device", "/dev/zero:/dev/nothing:r") == "1:5\n"
