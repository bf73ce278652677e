"""Hostile images, programs and arguments: one test for each class of hole that container runtimes have had."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.clients.ours import REPOSITORY
from tests.integration.engine import IMAGE, Done, Engine, Terminal, until

# -- the program against the host ------------------------------------------------------------------------------------------


def test_stub_and_monitor_can_not_be_overwritten(engine: Engine) -> None:
    """CVE-2019-5736: /proc/PID/exe of what enters a container is a sealed memory file until it is the user's program; the
    files of the host stay as they are, whatever root in the container writes."""
    files = [f"{REPOSITORY}/minicontainer/stub/{name}" for name in ("stub", "monitor")]
    before = [os.stat(f).st_mtime_ns for f in files]
    script = "while :; do for p in /proc/[0-9]*; do { echo x >$p/exe; } 2>/dev/null && echo overwritten $p; done; done"
    name = engine.detached("--cap-add", "SYS_PTRACE", IMAGE, "sh", "-c", script)
    for _ in range(10):
        assert engine.do("exec", name, "true").code == 0
    assert "overwritten" not in engine.ok("logs", name)
    assert [os.stat(f).st_mtime_ns for f in files] == before


def test_shebang_of_proc_self_exe(engine: Engine, rootfs: Path) -> None:
    """CVE-2019-5736's way in: an entry point that is a script of /proc/self/exe, or a link to it, executes nothing of the host."""
    (rootfs / "evil").write_text("#!/proc/self/exe\n")
    (rootfs / "evil").chmod(0o755)
    os.symlink("/proc/self/exe", rootfs / "evil2")
    for program in ("/evil", "/evil2"):
        done = engine.do("run", "--rm", "--network", "none", "--rootfs", str(rootfs), program)
        assert done.code != 0
        assert "Traceback" not in done.err


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8, 9, 10, 12, 16])
def test_working_directory_in_a_leaked_descriptor(engine: Engine, n: int) -> None:
    """CVE-2024-21626: -w /proc/self/fd/N does not lead to the host, by run or by exec; no descriptor of ours is there to use."""
    done = engine.box("-w", f"/proc/self/fd/{n}", IMAGE, "cat", "../../../etc/hostname")
    assert done.code != 0
    name = engine.detached(IMAGE, "sleep", "600")
    done = engine.do("exec", "-w", f"/proc/self/fd/{n}", name, "sh", "-c", "ls ..; cat ../../../../etc/shadow")
    assert done.code != 0
    assert done.out == ""


def test_working_directory_that_is_a_link_to_a_descriptor(engine: Engine, rootfs: Path) -> None:
    """The same through a symlink of the image (WORKDIR is the image's to say)."""
    for n in range(3, 12):
        os.symlink(f"/proc/self/fd/{n}", rootfs / f"cwd{n}")
        done = engine.do("run", "--rm", "--network", "none", "--rootfs", str(rootfs), "-w", f"/cwd{n}", "ls", "-d", "../../etc/debian_version")
        assert done.code != 0, done


def test_working_directory_link_stays_inside(engine: Engine, rootfs: Path) -> None:
    """A symlink as the working directory is resolved within the container's root."""
    os.symlink("/../../../etc", rootfs / "here")
    done = engine.do("run", "--rm", "--network", "none", "--rootfs", str(rootfs), "-w", "/here", "sh", "-c", "pwd -P; ls passwd")
    assert done.out == "/etc\npasswd\n"


def test_host_root_is_gone(engine: Engine) -> None:
    """pivot_root leaves no way back: the parent of / is /, and no mount shows the host."""
    assert engine.sh("cd /../../..; pwd; ls -id / | awk '{print $1}'; ls -id /.. | awk '{print $1}'").split("\n")[0] == "/"


# -- mount destinations ------------------------------------------------------------------------------------------------------


def run_rootfs(engine: Engine, rootfs: Path, *words: str) -> Done:
    return engine.do("run", "--rm", "--network", "none", "--rootfs", str(rootfs), *words)


@pytest.mark.parametrize("target", ["/tmp/victim", "../../../../../../tmp/victim", "/proc/self/root/tmp/victim", "/proc/1/cwd"])
def test_mount_on_a_link_of_the_image(engine: Engine, rootfs: Path, tmp_path: Path, target: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: a destination that is a symlink in the image is found or made inside its root, never outside."""
    os.symlink(target, rootfs / "data")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("shared\n")
    assert not os.path.lexists("/tmp/victim")
    done = run_rootfs(engine, rootfs, "-v", f"{tmp_path}/shared:/data/below", "cat", "/data/below/file")
    assert not os.path.lexists("/tmp/victim")
    assert done.out in ("", "shared\n")
    with open("/proc/self/mountinfo") as f:
        assert str(tmp_path / "shared") not in f.read()


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("target", ["/etc", "../outside", "/proc/self/root"])
def test_system_folder_that_is_a_link(engine: Engine, rootfs: Path, tmp_path: Path, name: str, target: str) -> None:
    """CVE-2026-41579, CVE-2026-47766: /dev, /proc or /sys as a symlink in the image never leads out of it, and no node is made there."""
    outside = rootfs.parent / "outside"
    outside.mkdir()
    before = sorted(os.listdir("/etc")), os.listdir(outside)
    shutil.rmtree(rootfs / name)
    os.symlink(target, rootfs / name)
    run_rootfs(engine, rootfs, "true")
    assert (sorted(os.listdir("/etc")), os.listdir(outside)) == before


def test_proc_that_is_not_proc(engine: Engine, rootfs: Path) -> None:
    """CVE-2019-19921, CVE-2025-52881: settings are written through the container's own proc mount, not through what the image puts in its place."""
    shutil.rmtree(rootfs / "proc")
    (rootfs / "fake").mkdir()
    os.symlink("/fake", rootfs / "proc")
    done = run_rootfs(engine, rootfs, "--sysctl", "kernel.msgmax=4097", "cat", "/proc/sys/kernel/msgmax")
    assert done.code != 0 or done.out == "4097\n"
    with open("/proc/sys/kernel/msgmax") as f:
        assert f.read() != "4097\n"


def test_masks_with_a_false_null_device(engine: Engine, rootfs: Path) -> None:
    """CVE-2025-31133: /dev/null of the image is not what files are hidden behind: a symlink there opens nothing."""
    os.symlink("/proc/sys/kernel/core_pattern", rootfs / "dev" / "null")
    os.symlink("/proc/sys/kernel/core_pattern", rootfs / "dev" / "console")
    done = run_rootfs(engine, rootfs, "sh", "-c", "cat /proc/keys /proc/timer_list; (echo x >/proc/sys/kernel/core_pattern) 2>&1; true")
    assert done.out.splitlines() == ["sh: can't create /proc/sys/kernel/core_pattern: Read-only file system"]


def test_masks_with_a_bind_of_dev(engine: Engine, tmp_path: Path) -> None:
    """The same with -v DIR:/dev, where no /dev of ours covers the image's: the mask is the host's own null device."""
    os.symlink("/proc/sys/kernel/core_pattern", tmp_path / "null")
    done = engine.box("-v", f"{tmp_path}:/dev", IMAGE, "sh", "-c", "cat /proc/keys; stat -c '%F %t:%T' /proc/keys; (echo x >/proc/sys/kernel/core_pattern) 2>&1; true")
    if os.path.exists("/proc/keys"):
        assert "character special file 1:3" in done.out
    assert "Read-only file system" in done.out


def test_console_is_not_the_images(engine: Engine, rootfs: Path) -> None:
    """CVE-2025-52565: with -t, /dev/console is bound to the terminal by descriptor: what the image has there is not opened or mounted on."""
    os.symlink("/etc/passwd", rootfs / "dev" / "console")
    (rootfs / "dev" / "pts").mkdir(exist_ok=True)
    os.symlink("/etc/passwd", rootfs / "dev" / "pts" / "0")
    done = run_rootfs(engine, rootfs, "-t", "sh", "-c", "stat -c '%F' /dev/console; head -n 1 /etc/passwd")
    assert done.out.splitlines()[0].strip() == "character special file"
    assert done.out.splitlines()[1].startswith("root:")


def test_destination_swapped_by_another_container(engine: Engine, tmp_path: Path) -> None:
    """CVE-2021-30465 as a race: while a program in a shared volume swaps a folder with a symlink to /, mounts below it never land on the host."""
    (tmp_path / "volume" / "a").mkdir(parents=True)
    (tmp_path / "canary").mkdir()
    swap = "cd /v; ln -s / link; while :; do mv a b; mv link a; mv a link; mv b a; done 2>/dev/null"
    engine.detached("-v", f"{tmp_path}/volume:/v", IMAGE, "sh", "-c", swap)
    for _ in range(15):
        done = engine.box("-v", f"{tmp_path}/volume:/v", "-v", f"{tmp_path}/canary:/v/a/mc-canary", IMAGE, "true")
        assert "Traceback" not in done.err
        assert not os.path.lexists("/mc-canary")
    with open("/proc/self/mountinfo") as f:
        assert "mc-canary" not in f.read()


def test_volume_that_is_a_link_is_the_users_choice_alone(engine: Engine) -> None:
    """A link that a program puts in the place of a named volume's folder does not lead a later container to the host."""
    try:
        engine.ok("run", "--rm", "--network", "none", "-v", "swapped:/v", IMAGE, "true")
        folder = f"{engine.directory}/root/volumes/swapped"
        assert os.listdir(folder) == ["_data"]
        assert stat.S_IMODE(os.stat(f"{engine.directory}/root").st_mode) == 0o700
        # From inside, _data itself is a mount point: it can't be renamed or replaced.
        done = engine.box("-v", "swapped:/v", IMAGE, "sh", "-c", "mv /v /w || rmdir /v || ln -sfn / /v")
        assert os.path.isdir(f"{folder}/_data")
        assert not os.path.islink(f"{folder}/_data")
        assert "busy" in done.err
    finally:
        shutil.rmtree(f"{engine.directory}/root/volumes/swapped")


# -- users -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["fifo", "link", "device", "directory", "huge"])
def test_passwd_that_is_no_file(engine: Engine, rootfs: Path, spoil: str) -> None:
    """CVE-2024-9676: /etc/passwd as a FIFO, a link out of the image, a device, a folder or without end neither hangs nor reads the host."""
    passwd = rootfs / "etc" / "passwd"
    passwd.unlink()
    if spoil == "fifo":
        os.mkfifo(passwd)
    elif spoil == "link":
        (rootfs.parent / "secret").write_text("secret:x:4242:4242::/:/bin/sh\n")
        os.symlink("../../secret", passwd)
    elif spoil == "device":
        os.mknod(passwd, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    elif spoil == "directory":
        passwd.mkdir()
    else:
        with open(passwd, "wb") as f:
            f.truncate(1 << 40)
    begin = time.monotonic()
    done = run_rootfs(engine, rootfs, "-u", "secret", "id")
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "4242" not in done.out
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("user", ["4294967296", "-1", "2147483648", "4294967295:0", "0:4294967296", "99999999999999999999", "a:b:c", "root\nx", "0x0", " 0"])
def test_users_that_wrap_round(engine: Engine, user: str) -> None:
    """CVE-2024-40635, CVE-2026-30892: a number too large, or what is no user, never becomes root by accident."""
    for done in (engine.box("-u", user, IMAGE, "id", "-u"), engine.do("exec", "-u", user, engine.detached(IMAGE, "sleep", "600"), "id", "-u")):
        assert done.code != 0, (user, done)
        assert done.out == ""
        assert "Traceback" not in done.err


def test_numeric_user_in_exec(engine: Engine) -> None:
    """CVE-2026-30892: exec -u UID:GID takes exactly these, and drops capabilities with them."""
    name = engine.detached(IMAGE, "sleep", "600")
    out = engine.ok("exec", "-u", "1000:2000", name, "sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status")
    assert out.splitlines() == ["1000", "2000", "2000", "CapEff:\t0000000000000000"]


def test_groups_can_not_be_shed(engine: Engine) -> None:
    """CVE-2022-36109: the primary group is among the supplementary ones, so a "negative" group permission can't be dodged."""
    assert engine.sh("grep Groups: /proc/self/status", "-u", "1000:2000").split()[1:] == ["2000"]


def test_group_file_of_the_image(engine: Engine, rootfs: Path) -> None:
    """Supplementary groups are those of the image's group file; entries out of range are refused."""
    with open(rootfs / "etc" / "passwd", "a") as f:
        f.write("alice:x:1000:1000::/home/alice:/bin/sh\n")
    with open(rootfs / "etc" / "group", "a") as f:
        f.write("audio:x:29:alice,bob\nvideo:x:44:alice\n")
    assert run_rootfs(engine, rootfs, "-u", "alice", "id", "-G").out == "1000 29 44\n"
    with open(rootfs / "etc" / "group", "a") as f:
        f.write("evil:x:4294967296:alice\n")
    done = run_rootfs(engine, rootfs, "-u", "alice", "id", "-G")
    assert done.code != 0
    assert "Traceback" not in done.err


def test_inheritable_capabilities(engine: Engine) -> None:
    """CVE-2022-24769, CVE-2022-29162: inheritable and ambient sets are empty for run and exec, also for another user with --cap-add."""
    name = engine.detached("--cap-add", "NET_RAW", "-u", "1000", IMAGE, "sleep", "600")
    for words in (("exec", name), ("exec", "-u", "0", name), ("run", "--rm", "--network", "none", "--cap-add", "SYS_ADMIN", "-u", "1000", IMAGE)):
        out = engine.ok(*words, "grep", "-e", "CapInh", "-e", "CapAmb", "/proc/self/status")
        assert [int(line.split()[1], 16) for line in out.splitlines()] == [0, 0]


# -- cgroups, devices, settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["../escape", "/../escape", "a/../../escape", "/a/b/../../../escape"])
def test_cgroup_parent_stays_below(engine: Engine, parent: str) -> None:
    """--cgroup-parent with `..` is refused."""
    done = engine.box("--cgroup-parent", parent, IMAGE, "true")
    assert done.code == 125
    assert "--cgroup-parent" in done.err


def test_cgroup_parent(engine: Engine) -> None:
    """--cgroup-parent names a group below the hierarchy's root; the container is there, and it goes with it."""
    name = engine.detached("--cgroup-parent", f"/{engine.cgroup}/nested", IMAGE, "sleep", "600")
    with open(f"/proc/{engine.pid(name)}/cgroup") as f:
        assert f"/{engine.cgroup}/nested/{name}" in f.read()
    engine.ok("rm", "-f", name)
    from tests.clients.dockerd import cgroups_named

    for folder in cgroups_named(f"{engine.cgroup}/nested"):
        assert not [d for d in os.listdir(folder) if os.path.isdir(f"{folder}/{d}")]
        os.rmdir(folder)


def test_release_agent(engine: Engine) -> None:
    """CVE-2022-0492: with a cgroup v1 hierarchy mounted by hand (needs CAP_SYS_ADMIN) refused, no release_agent can be set."""
    done = engine.box(IMAGE, "sh", "-c", "mkdir /x && mount -t cgroup -o rdma cgroup /x || unshare -Cm true")
    assert done.code != 0
    assert engine.sh("find /sys/fs/cgroup -name release_agent -writable 2>/dev/null | head -n 1; (echo /x >/sys/fs/cgroup/memory/release_agent) 2>/dev/null || echo refused").endswith("refused\n")


def test_devices_are_denied_by_default(engine: Engine) -> None:
    """The devices of the host can't be opened, though nodes for them can be made; an exec changes nothing of it."""
    name = engine.detached(IMAGE, "sleep", "600")
    for words in (("exec", name), ("exec", "-u", "0", name), ("run", "--rm", "--network", "none", IMAGE)):
        done = engine.do(*words, "sh", "-c", "mknod /kmsg c 1 11; head -c 1 /kmsg")
        assert done.code != 0
        assert "Operation not permitted" in done.err
        assert engine.do(*words, "sh", "-c", "head -c 1 /dev/zero >/dev/null").code == 0


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.overcommit_memory", "kernel.hostname", "fs.file-max", "kernel/core_pattern", "net/../kernel/core_pattern",
                                  "net.../kernel.core_pattern", "kernel.shm*", "kernel.msgmax/../core_pattern"])  # fmt: skip
def test_sysctls_of_the_host(engine: Engine, name: str) -> None:
    """Only settings of the container's own namespaces are taken; names that point elsewhere are refused."""
    done = engine.box("--sysctl", f"{name}=1", IMAGE, "true")
    assert done.code == 125
    assert "is not allowed" in done.err


@pytest.mark.parametrize(("flags", "sysctl"), [(("--network", "host"), "net.ipv4.ip_forward"), (("--network", "none", "--ipc", "host"), "kernel.msgmax")])
def test_sysctls_of_shared_namespaces(engine: Engine, flags: tuple[str, ...], sysctl: str) -> None:
    """A setting of a namespace that the container shares with the host is the host's, and refused."""
    done = engine.do("run", "--rm", *flags, "--sysctl", f"{sysctl}=1", IMAGE, "true")
    assert done.code == 125
    assert "is not allowed with" in done.err


# -- names, labels, environment ------------------------------------------------------------------------------------------------

HOSTILE = ["../../etc/x", "a/b", "..", ".hidden", "-x", "a\nb", "a b", "$(touch /tmp/mc-pwned)", "`id`", "a;b", "é", "a\x7fb", "x" * 300, ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(engine: Engine, name: str) -> None:
    """A name is letters, digits and _.- alone: nothing that could be a path, a flag or a command."""
    if name:
        assert engine.box(f"--name={name}", IMAGE, "true").code == 125
    for verb in ("rm", "inspect", "logs", "start", "exec"):
        done = engine.do(verb, *(("-f",) if verb == "rm" else ()), "--", name, *(("true",) if verb == "exec" else ()))
        assert done.code != 0
        assert "Traceback" not in done.err, (verb, done)
    assert not os.path.exists("/tmp/mc-pwned")


@pytest.mark.parametrize("text", ["$(touch /tmp/mc-pwned)", "a\nb=c", '"}],"x":[{"', "\x1b[31mred", "../../x", "é\udcff"])
def test_hostile_labels_and_environment(engine: Engine, text: str) -> None:
    """Labels and variables are data: they come back as they were, and touch no file, command or JSON around them."""
    if "\udcff" in text:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    done = engine.do("create", "--name", "hostile", "--label", f"l={text}", "-e", f"V={text}", "--network", "none", IMAGE, "sh", "-c", 'echo "$V"')
    if done.code:  # what is no text may be refused, with a message
        assert "Traceback" not in done.err
        return
    assert engine.do("start", "-a", "hostile").out == text + "\n"
    assert "Traceback" not in engine.do("ps", "-a", "--filter", f"label=l={text}").err
    inspected = engine.do("inspect", "hostile")
    assert inspected.code == 0
    assert not os.path.exists("/tmp/mc-pwned")


@pytest.mark.parametrize("flag", ["--hostname", "--domainname"])
def test_hostile_host_names(engine: Engine, flag: str) -> None:
    """A host name can't add lines to /etc/hosts."""
    done = engine.box(flag, "a\n1.2.3.4 bank.example", IMAGE, "cat", "/etc/hosts")
    assert done.code == 125
    done = engine.box("--add-host", "a\nb:1.2.3.4", IMAGE, "true")
    assert done.code == 125


def test_hostile_volumes(engine: Engine) -> None:
    """A volume name is no path."""
    for volume in ("a/b:/x", "a..b/c:/x", "-x:/x", "é:/x", "/etc/../../x/..:/"):
        done = engine.box("-v", volume, IMAGE, "true")
        assert done.code == 125, volume
        assert "Traceback" not in done.err
    assert not os.path.exists(f"{engine.directory}/root/volumes/..data")


def test_hostile_image_names(engine: Engine) -> None:
    """Nor is an image's."""
    for name in ("../../x", "/etc/passwd", "a b", "A" * 300, "-x", "a@sha256:xyz", "..", "a:../b"):
        done = engine.do("run", "--rm", "--network", "none", "--", name, "true")
        assert done.code == 125, name
        assert "Traceback" not in done.err


def test_escape_sequences_do_not_reach_the_terminal(engine: Engine, tmp_path: Path) -> None:
    """What an image or a container is called, or was started with, can't control the terminal of who lists it."""
    engine.ok("create", "--name", "colourful", "--label", "a=\x1b[31m", IMAGE, "sh", "-c", "\x1b]0;title\x07\x1b[2J")
    assert "\x1b" not in engine.ok("ps", "-a", "--no-trunc")


# -- who may read what -----------------------------------------------------------------------------------------------------------


def test_data_is_roots_alone(engine: Engine) -> None:
    """CVE-2021-41091: other users can't look into containers: data and state root are 0700, and so are a container's folders and log."""
    name = engine.detached(IMAGE, "sh", "-c", "echo secret; sleep 600")
    until(lambda: engine.ok("logs", name), "it is logged")
    for path in (f"{engine.directory}/root", f"{engine.directory}/root/containers/{name}", f"{engine.directory}/state/containers/{name}"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path
    assert stat.S_IMODE(os.stat(f"{engine.directory}/root/containers/{name}/{name}-json.log").st_mode) & 0o007 == 0


def test_environment_of_the_caller_stays_outside(engine: Engine) -> None:
    """No variable of the caller is in the container, the stub, or the monitor (secrets in /proc/PID/environ)."""
    done = engine.do("run", "-d", "--network", "none", IMAGE, "sleep", "600", env={"SECRET_TOKEN": "hunter2"})
    name = done.out.strip()
    pid = engine.pid(name)
    with open(f"/proc/{pid}/stat") as f:
        monitor = int(f.read().rpartition(")")[2].split()[1])
    for process in (pid, monitor):
        with open(f"/proc/{process}/environ", "rb") as g:
            assert b"hunter2" not in g.read()


def test_keys_of_the_caller_stay_outside(engine: Engine) -> None:
    """The container's session keyring is its own, and the kernel's keyring calls are refused by the filter."""
    assert engine.box(IMAGE, "cat", "/proc/keys").out == ""


# -- the terminal ------------------------------------------------------------------------------------------------------------


def test_terminal_of_the_caller_is_out_of_reach(engine: Engine) -> None:
    """TIOCSTI: a container without -t that inherits nothing of the caller's terminal can't open /dev/tty, and is in a session of its own."""
    terminal = Terminal(engine.enter("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "(: </dev/tty) 2>&1; ls -l /proc/self/fd/0 /proc/self/fd/1 | grep -c pts; echo end"))
    try:
        terminal.expect(b"end")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_terminal_streams_are_not_the_callers(engine: Engine) -> None:
    """Without -t the streams are pipes of ours, never the caller's terminal itself."""
    terminal = Terminal(engine.enter("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "for i in 0 1 2; do readlink /proc/self/fd/$i; done"))
    try:
        assert terminal.wait() == 0
        lines = terminal.shown.decode().split()
        assert lines[0] == "/dev/null"
        assert all(line.startswith("pipe:") for line in lines[1:])
    finally:
        terminal.close()


# -- processes -----------------------------------------------------------------------------------------------------------------


def test_exec_can_not_be_traced_by_the_container(engine: Engine) -> None:
    """CVE-2016-9962: what exec sends in can't be read or traced before it is the user's program: the host's files are not in its fds."""
    script = "while :; do for p in /proc/[0-9]*; do for f in $p/fd/*; do readlink $f; done; readlink $p/cwd $p/root; done; done 2>/dev/null | grep -v -e ^pipe: -e ^/proc -e ^/dev/null -e '^/$' -e ^anon -e ^socket"
    name = engine.detached("--cap-add", "SYS_PTRACE", IMAGE, "sh", "-c", script)
    for _ in range(8):
        engine.ok("exec", name, "true")
    assert engine.ok("logs", name) == ""


def test_killing_everything_inside(engine: Engine) -> None:
    """A fork bomb under --pids-limit can be removed, and leaves nothing."""
    name = engine.detached("--pids-limit", "40", IMAGE, "sh", "-c", "b() { b | b & }; b; sleep 600")
    time.sleep(0.5)
    engine.ok("rm", "-f", name)


def test_signals_go_to_the_right_process(engine: Engine) -> None:
    """A container whose process has ended is not confused with another that got its pid: signals go by pidfd and start time."""
    name = engine.detached(IMAGE, "true")
    engine.ok("wait", name)
    done = engine.do("kill", name)
    assert done.code == 1
    assert "is not running" in done.err


def test_only_root_can_release_a_lock(engine: Engine) -> None:
    """A start in progress is protected by a lock file of root's: two starts of one container give one process."""
    name = engine.ok("create", "--network", "none", IMAGE, "sleep", "600").strip()
    results: list[Done] = []
    threads = [threading.Thread(target=lambda: results.append(engine.do("start", name))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(r.code == 0 for r in results) >= 1
    assert all("Traceback" not in r.err for r in results)
    assert len(engine.ok("exec", name, "pidof", "sleep").split()) == 1
    os.kill(engine.pid(name), signal.SIGKILL)


def test_sockets_of_the_host(engine: Engine, tmp_path: Path) -> None:
    """An abstract socket of the host can't be reached from another network namespace."""
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0mc-test-abstract")
    server.listen()
    try:
        assert "mc-test-abstract" not in engine.sh("cat /proc/net/unix")
    finally:
        server.close()


def test_host_code_is_not_loaded_from_the_image(engine: Engine, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2019-14271: nothing of an image is loaded or executed on the host's side: libraries and modules in it stay unread."""
    for name in ("lib", "lib64", "usr/lib", "usr/lib/python3.11", "lib/x86_64-linux-gnu"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
        for evil in ("libc.so.6", "libnss_files.so.2", "sitecustomize.py", "json.py", "os.py"):
            (rootfs / name / evil).write_text("raise SystemExit('loaded from the image')\n")
    monkeypatch.chdir(rootfs / "usr/lib/python3.11")
    assert run_rootfs(engine, rootfs, "-u", "nobody", "true").code == 0


