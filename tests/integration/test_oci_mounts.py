"""OCI's mounts for real: every option as the kernel shows it, order, places, propagation, what is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from tests.integration.engine import until
from tests.integration.oci import Oci


def options_of(oci: Oci, *options: str, source: str | Path = "tmpfs") -> tuple[set[str], set[str], set[str]]:
    """How /mnt is mounted: options of the mount, its propagation, and options of the file system (proc_pid_mountinfo(5))."""
    oci.mount("/mnt", source, *options)
    line = next(line for line in oci.sh("cat /proc/self/mountinfo").splitlines() if line.split()[4] == "/mnt")
    del oci.config["mounts"][-1]
    mount, _, system = line.partition(" - ")
    return set(mount.split()[5].split(",")), set(mount.split()[6:]), set(system.split()[2].split(","))


@pytest.fixture
def folder(oci: Oci) -> Path:
    """A folder of the host to bind, with a file."""
    made = oci.folder / "volume"
    (made / "below").mkdir(parents=True)
    (made / "file").write_text("content\n")
    return made


# Set, and not set (config.md, "Linux mount options").
FLAGS = [
    ("ro", {"ro"}, {"rw"}), ("rw", {"rw"}, {"ro"}), ("nosuid", {"nosuid"}, set()), ("suid", set(), {"nosuid"}), ("nodev", {"nodev"}, set()),
    ("dev", set(), {"nodev"}), ("noexec", {"noexec"}, set()), ("exec", set(), {"noexec"}), ("noatime", {"noatime"}, {"relatime"}),
    ("atime", {"relatime"}, {"noatime"}), ("nodiratime", {"nodiratime"}, set()), ("diratime", set(), {"nodiratime"}), ("relatime", {"relatime"}, set()),
    ("norelatime", set(), {"noatime"}), ("strictatime", set(), {"relatime", "noatime"}), ("nostrictatime", {"relatime"}, set()),
    ("nosymfollow", {"nosymfollow"}, set()), ("symfollow", set(), {"nosymfollow"}),
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "r"])
def test_attributes(oci: Oci, folder: Path, prefix: str) -> None:
    """Each of a file system of its own, and of a bind; with r of all below too."""
    wrong = []
    for name, there, absent in FLAGS:
        for source in ("tmpfs", folder):
            shown, _, _ = options_of(oci, prefix + name, source=source)
            if not there <= shown or absent & shown:
                wrong.append((prefix + name, str(source), shown))
    assert not wrong


def test_recursive_attributes_are_of_what_is_below_too(oci: Oci, folder: Path) -> None:
    """rro is read only all the way down, ro is not."""
    subprocess.run(["mount", "-t", "tmpfs", "below", folder / "below"], check=True)
    try:
        for option, expected in (("ro", "0"), ("rro", "1")):
            oci.mount("/mnt", folder, option)
            assert oci.sh("touch /mnt/x 2>/dev/null; echo $?; touch /mnt/below/x 2>/dev/null; echo $?").split() == ["1", expected]
            del oci.config["mounts"][-1]
    finally:
        subprocess.run(["umount", folder / "below"], check=True)


def test_options_of_the_file_system(oci: Oci) -> None:
    """sync, dirsync, lazytime, and what the file system itself knows; what has no effect any more is accepted."""
    assert {"sync", "dirsync", "lazytime", "size=64k", "mode=700"} <= options_of(
        oci, "sync", "dirsync", "lazytime", "size=64k", "mode=700"
    )[2]
    none = "async defaults iversion noiversion loud silent nolazytime mand nomand acl noacl".split()
    assert not {"sync", "dirsync", "lazytime"} & options_of(oci, *none)[2]


def test_later_options_win(oci: Oci) -> None:
    """As in mount(8)."""
    assert "rw" in options_of(oci, "ro", "nosuid", "rw")[0]
    assert "noatime" in options_of(oci, "strictatime", "noatime")[0]


@pytest.mark.parametrize(("option", "shown"), [("private", set()), ("rprivate", set()), ("shared", {"shared"}), ("rshared", {"shared"}), ("unbindable", {"unbindable"}), ("runbindable", {"unbindable"})])  # fmt: skip
def test_propagation_of_a_new_file_system(oci: Oci, option: str, shown: set[str]) -> None:
    """As it is asked for."""
    assert {word.partition(":")[0] for word in options_of(oci, option)[1]} == shown


def test_unknown_options_are_the_file_systems(oci: Oci) -> None:
    """And what it does not know is an error in one line that names the option."""
    oci.mount("/mnt", "tmpfs", "nosuchoption=1")
    done = oci.run("true")
    assert done.code == 1 and "nosuchoption" in done.err and done.err.count("\n") == 1
    assert not oci.left()


# -- places ------------------------------------------------------------------------------------------------------------------


def test_order_and_places(oci: Oci, folder: Path) -> None:
    """In the order of the spec, over files and folders, made where missing; relative destinations are below /."""
    oci.mount("/mnt", "tmpfs")
    oci.mount("/mnt/deep/er", folder)
    oci.mount("/etc/hostname", folder / "file")
    oci.mount("root/made", folder / "file", "ro")
    out = oci.sh("cat /mnt/deep/er/file /etc/hostname /root/made; touch /root/made 2>&1; mount | grep -c /mnt")
    assert out.split("\n")[:3] == ["content"] * 3 and "Read-only" in out and out.endswith("\n2\n")


def test_source_relative_to_the_bundle(oci: Oci) -> None:
    """config.md: absolute or relative to the bundle; the type of a bind is a dummy."""
    (oci.bundle / "beside").write_text("beside\n")
    oci.config["mounts"].append({"destination": "/mnt", "type": "none", "source": "rootfs/../beside", "options": ["bind", "ro"]})
    assert oci.sh("cat /mnt") == "beside\n"


def test_remount(oci: Oci, folder: Path) -> None:
    """Other options for what is mounted already, of the mount and of its file system."""
    oci.mount("/mnt", "tmpfs", "size=64k")
    oci.mount("/mnt", "tmpfs", "remount", "ro", "size=128k")
    assert "tmpfs on /mnt type tmpfs (ro,relatime,size=128k" in oci.sh("mount")
    oci.mount("/tmp", folder)
    oci.mount("/tmp", folder, "remount", "ro")
    assert oci.sh("cat /tmp/file; touch /tmp/x 2>/dev/null || echo refused") == "content\nrefused\n"


def test_remount_of_a_bind(oci: Oci, folder: Path) -> None:
    """As mount(8) has it: what is mounted there gets the options, and the source is not bound again."""
    oci.mount("/mnt", "tmpfs", "size=64k")
    oci.mount("/mnt", folder, "remount", "ro")
    assert oci.sh("mount | grep -c ' /mnt type tmpfs (ro,'; ls /mnt; touch /mnt/x 2>/dev/null || echo refused") == "1\nrefused\n"
    oci.config["mounts"].pop(-2)
    done = oci.run("true")
    assert done.code == 1 and "Invalid argument" in done.err  # nothing is mounted there


def test_a_tmpfs_that_begins_with_what_it_hides(oci: Oci) -> None:
    """tmpcopyup: files, folders, links, modes, owners; the image's own stay as they are."""
    etc = oci.rootfs / "etc"
    (etc / "sub").mkdir()
    (etc / "sub" / "file").write_text("deep\n")
    (etc / "sub" / "file").chmod(0o640)
    os.chown(etc / "sub" / "file", 5, 6)
    (etc / "link").symlink_to("/no/where")
    oci.mount("/etc", "tmpfs", "tmpcopyup", "nosuid")
    out = oci.sh(
        "cat /etc/sub/file; stat -c '%a %u:%g' /etc/sub/file; readlink /etc/link; echo new > /etc/passwd; mount | grep -c ' /etc type tmpfs'"
    )
    assert out.split() == ["deep", "640", "5:6", "/no/where", "1"]
    assert "root" in (etc / "passwd").read_text()


def test_a_tmpfs_keeps_the_capabilities_of_the_files_that_it_begins_with(oci: Oci) -> None:
    """Though a change of owner takes them away (runc and crun lose them)."""
    program = oci.rootfs / "etc" / "ping"
    program.write_text("x")
    os.chown(program, 5, 6)
    cap_net_raw = pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # struct vfs_cap_data, effective: capabilities(7)
    os.setxattr(program, "security.capability", cap_net_raw)
    oci.mount("/etc", "tmpfs", "tmpcopyup")
    pid = oci.running("sleep", "600")
    assert os.getxattr(f"/proc/{pid}/root/etc/ping", "security.capability") == cap_net_raw
    assert os.stat(f"/proc/{pid}/root/etc/ping").st_uid == 5


def test_a_tmpfs_has_the_mode_of_what_it_hides(oci: Oci) -> None:
    """As in runc; unless another is asked for."""
    (oci.rootfs / "var").chmod(0o2751)
    oci.mount("/var", "tmpfs")
    oci.mount("/home", "tmpfs", "mode=711")
    assert oci.sh("stat -c %a /var /home").split() == ["2751", "711"]


def test_a_read_only_dev_has_its_devices(oci: Oci) -> None:
    """What is read only is filled first."""
    oci.config["mounts"][1]["options"].append("ro")
    assert oci.sh("touch /dev/x 2>/dev/null || echo refused; echo x > /dev/null; ls /dev/urandom").split() == [
        "refused",
        "/dev/urandom",
    ]


def test_the_hosts_dev(oci: Oci) -> None:
    """A bind of /dev is left alone: no node and no link is made in it."""
    before = sorted(os.listdir("/dev"))
    oci.config["mounts"] = [m for m in oci.config["mounts"] if not m["destination"].startswith("/dev")]
    oci.mount("/dev", "/dev")
    assert oci.sh("ls /dev").split() == before
    assert sorted(os.listdir("/dev")) == before


# -- what is refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "text"),
    [
        ("/proc/self/x", "inside /proc"),
        ("/etc", "folder on a folder"),
        ("/link/kernel", "is no way into /proc"),
    ],
)
def test_places_that_are_refused(oci: Oci, folder: Path, destination: str, text: str) -> None:
    """A file over a folder, and /proc, by whatever way; nothing is left."""
    (oci.rootfs / "link").symlink_to("/proc/sys")
    oci.mount(destination, folder / "file" if destination == "/etc" else folder)
    done = oci.run("true")
    assert done.code == 1 and text in done.err and done.err.count("\n") == 1
    assert not oci.left()


@pytest.mark.parametrize("name", ["proc", "dev", "sys"])
def test_links_in_the_place_of_the_kernels_file_systems(oci: Oci, name: str) -> None:
    """/proc, /dev and /sys of an image must be ordinary folders."""
    (oci.rootfs / name).rmdir()
    (oci.rootfs / name).symlink_to("tmp")
    done = oci.run("true")
    assert done.code == 1 and f"/{name} must be mounted on ordinary directory" in done.err and "symbolic link" in done.err
    assert os.listdir(oci.rootfs / "tmp") == [] and not oci.left()


def test_a_label_where_there_is_no_selinux(oci: Oci) -> None:
    """linux.mountLabel is no silent no-op."""
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this host has SELinux")
    oci.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0"
    done = oci.run("true")
    assert done.code == 1 and "this host has no SELinux" in done.err


# -- propagation ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(oci: Oci) -> Iterator[Path]:
    """A mount of the host that has peers, with two folders."""
    place = oci.folder / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    for name in ("ours", "theirs"):
        (place / name).mkdir()
    yield place
    subprocess.run(["umount", "-R", place], check=True)


@pytest.mark.parametrize(
    ("option", "root", "in_sees", "out_sees"),
    [
        ("rprivate", "", False, False), ("", "", False, False), ("rslave", "", True, False), ("slave", "rslave", True, False),
        ("rshared", "rshared", True, True), ("rprivate", "rshared", False, False),
    ],
)  # fmt: skip
def test_who_sees_whose_mounts(oci: Oci, shared: Path, option: str, root: str, in_sees: bool, out_sees: bool) -> None:
    """slave: those of the host are seen inside; shared: those made inside are seen on the host as well."""
    oci.mount("/mnt", shared, *([option] if option else []))
    if root:
        oci.config["linux"]["rootfsPropagation"] = root
    for names in oci.config["process"]["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    oci.running("sleep", "600")
    oci.ok("exec", "one", "sh", "-c", "mount -t tmpfs in /mnt/theirs && touch /mnt/theirs/in")
    subprocess.run(["mount", "-t", "tmpfs", "out", shared / "ours"], check=True)
    (shared / "ours" / "out").touch()
    assert (shared / "theirs" / "in").exists() == out_sees
    assert ("out" in oci.ok("exec", "one", "ls", "/mnt/ours")) == in_sees
    oci.clear()
    until(lambda: not oci.left().get("processes"), "it is gone")


@pytest.mark.parametrize("asked", ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate"])
def test_propagation_of_the_root(oci: Oci, asked: str) -> None:
    """linux.rootfsPropagation, as the kernel shows it and as a mount in a copy of the root shows it."""
    oci.config["linux"]["rootfsPropagation"] = asked
    for names in oci.config["process"]["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    script = "mkdir -p /tmp/copy /tmp/place /tmp/what; touch /tmp/what/file; mount -o rbind / /tmp/copy 2>/dev/null || echo unbindable; mount --bind /tmp/what /tmp/place; ls /tmp/copy/tmp/place; true"
    seen = oci.sh(f"head -n 1 /proc/self/mountinfo; ({script}) 2>/dev/null").split("\n")
    expected = {"shared": ("shared:", "file"), "unbindable": ("unbindable", "unbindable")}.get(asked.removeprefix("r"), ("", ""))
    assert expected[0] in seen[0] and seen[1] == expected[1]
    assert expected[0] or not {"shared", "unbindable"} & {word.partition(":")[0] for word in seen[0].split()}


# -- cgroups -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("option", ["ro", "rw"])
def test_cgroup_mount(oci: Oci, private: bool, option: str) -> None:
    """The container's own group as it is, read only or not, with and without a cgroup namespace."""
    if not private:
        oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    oci.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [option, "nosuid", "noexec", "nodev"]}
    )
    oci.config["linux"]["resources"]["pids"] = {"limit": 99}
    at = "/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup"
    out = oci.sh(f"cat {at}/pids.max; mkdir {at}/sub 2>/dev/null && rmdir {at}/sub && echo made; grep -c : /proc/self/cgroup")
    assert out.split()[:-1] == ["99", *(["made"] if option == "rw" else [])]
    assert not oci.left()
