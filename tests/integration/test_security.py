"""Programs in containers against the host: one test for each class of hole that container runtimes have had."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.clients.ours import REPOSITORY
from tests.integration.engine import IMAGE, Done, Engine, Terminal, until

# -- the program against the host ------------------------------------------------------------------------------------------


def test_stub_and_monitor_can_not_be_overwritten(engine: Engine) -> None:
    """CVE-2019-5736: what enters a container is a sealed memory file, so a program that gets hold of /proc/PID/exe and waits until
    it may be written has nothing of the host."""
    files = [f"{REPOSITORY}/minicontainer/stub/{name}" for name in ("stub", "monitor")]
    before = [os.stat(f).st_mtime_ns for f in files]
    script = """while :; do for p in /proc/[0-9]*; do (
        exec 3<$p/exe || exit
        link=$(readlink /proc/self/fd/3)
        [ "$link" = /bin/busybox ] || { sleep 0.1; echo x >/proc/self/fd/3 && echo overwritten $link; }
    ) 2>/dev/null; done; done"""
    name = engine.detached("--cap-add", "SYS_PTRACE", IMAGE, "sh", "-c", script)
    for _ in range(10):
        assert engine.do("exec", name, "true").code == 0
    assert "overwritten" not in engine.ok("logs", name)
    assert [os.stat(f).st_mtime_ns for f in files] == before


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_enters_a_container_is_sealed(engine: Engine, tmp_path: Path, verb: str) -> None:
    """The same without chance: strace sees a memfd, with every seal, executed by its descriptor."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    words = (
        ("run", "--rm", "--network", "none", IMAGE, "true")
        if verb == "run"
        else ("exec", engine.detached(IMAGE, "sleep", "600"), "true")
    )
    done = engine.do(*words, prefix=("strace", "-f", "-y", "-o", f"{tmp_path}/trace", "-e", "trace=fcntl,execveat"))
    assert done.code == 0, done
    trace = (tmp_path / "trace").read_text(errors="replace")
    assert re.search(
        r"fcntl\(\d+</memfd:minicontainer>\S*, F_ADD_SEALS, F_SEAL_SEAL\|F_SEAL_SHRINK\|F_SEAL_GROW\|F_SEAL_WRITE\) += 0", trace
    )
    assert re.search(r'execveat\(\d+</memfd:minicontainer[^>]*>[^"]*, "", \["minicontainer"\], .*, AT_EMPTY_PATH\) = 0', trace)


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
        done = engine.do(
            "run", "--rm", "--network", "none", "--rootfs", str(rootfs), "-w", f"/cwd{n}", "ls", "-d", "../../etc/debian_version"
        )
        assert done.code != 0, done


def test_working_directory_link_stays_inside(engine: Engine, rootfs: Path) -> None:
    """A symlink as the working directory is resolved within the container's root."""
    os.symlink("/../../../etc", rootfs / "here")
    done = engine.do("run", "--rm", "--network", "none", "--rootfs", str(rootfs), "-w", "/here", "sh", "-c", "pwd -P; ls passwd")
    assert done.out == "/etc\npasswd\n"


def test_host_root_is_gone(engine: Engine) -> None:
    """pivot_root leaves no way back: the parent of / is /, and no mount shows the host."""
    assert engine.sh("cd /../../..; pwd; ls -id / | awk '{print $1}'; ls -id /.. | awk '{print $1}'").split("\n")[0] == "/"


# -- cgroups, devices, settings --------------------------------------------------------------------------------------------


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
    from tests.clients.daemon import cgroups_named

    for folder in cgroups_named(f"{engine.cgroup}/nested"):
        assert not [d for d in os.listdir(folder) if os.path.isdir(f"{folder}/{d}")]
        os.rmdir(folder)


def test_release_agent(engine: Engine) -> None:
    """CVE-2022-0492: with a cgroup v1 hierarchy mounted by hand (needs CAP_SYS_ADMIN) refused, no release_agent can be set."""
    done = engine.box(IMAGE, "sh", "-c", "mkdir /x && mount -t cgroup -o rdma cgroup /x || unshare -Cm true")
    assert done.code != 0
    assert engine.sh(
        "find /sys/fs/cgroup -name release_agent -writable 2>/dev/null | head -n 1; (echo /x >/sys/fs/cgroup/memory/release_agent) 2>/dev/null || echo refused"
    ).endswith("refused\n")


@pytest.fixture
def device(engine: Engine) -> tuple[str, int, int]:
    """(kind, major, minor) of a device that a container can open as soon as its cgroup lets it."""
    for kind, major, minor in (("c", 10, 229), ("c", 10, 237), ("c", 1, 11)):
        rule = ("--device-cgroup-rule", f"{kind} {major}:{minor} rwm")
        if engine.box(*rule, IMAGE, "sh", "-c", f"mknod /node {kind} {major} {minor} && : </node").code == 0:
            return kind, major, minor
    pytest.skip("this host has none of fuse, loop-control, kmsg to try")


def test_devices_are_denied_by_default(engine: Engine, device: tuple[str, int, int]) -> None:
    """Other devices than docker's can't be opened, though nodes for them can be made; an exec changes nothing of it."""
    kind, major, minor = device
    name = engine.detached(IMAGE, "sleep", "600")
    for words in (("exec", name), ("exec", "-u", "0", name), ("run", "--rm", "--network", "none", IMAGE)):
        done = engine.do(*words, "sh", "-c", f"rm -f /node; mknod /node {kind} {major} {minor} && : </node")
        assert done.code != 0
        assert "Operation not permitted" in done.err
        assert engine.do(*words, "sh", "-c", "head -c 1 /dev/zero >/dev/null").code == 0


def test_access_to_a_device_is_what_was_asked_for(engine: Engine, device: tuple[str, int, int]) -> None:
    """--device gives the access that was asked for: reading is not writing."""
    kind, major, minor = device
    script = f"mknod /node {kind} {major} {minor}; (: </node) 2>&1 && echo read; (: >>/node) 2>&1 && echo wrote; true"
    out = engine.sh(script, "--device-cgroup-rule", f"{kind} {major}:{minor} rm")
    assert "read" in out.split()
    assert "wrote" not in out.split()
    assert "Operation not permitted" in out


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.overcommit_memory", "kernel.hostname", "fs.file-max", "kernel/core_pattern", "net/../kernel/core_pattern",
                                  "net.../kernel.core_pattern", "kernel.shm*", "kernel.msgmax/../core_pattern"])  # fmt: skip
def test_sysctls_of_the_host(engine: Engine, name: str) -> None:
    """Only settings of the container's own namespaces are taken; names that point elsewhere are refused."""
    done = engine.box("--sysctl", f"{name}=1", IMAGE, "true")
    assert done.code == 125
    assert "is not allowed" in done.err


@pytest.mark.parametrize(
    ("flags", "sysctl"), [(("--network", "host"), "net.ipv4.ip_forward"), (("--network", "none", "--ipc", "host"), "kernel.msgmax")]
)
def test_sysctls_of_shared_namespaces(engine: Engine, flags: tuple[str, ...], sysctl: str) -> None:
    """A setting of a namespace that the container shares with the host is the host's, and refused."""
    done = engine.do("run", "--rm", *flags, "--sysctl", f"{sysctl}=1", IMAGE, "true")
    assert done.code == 125
    assert "is not allowed with" in done.err


# -- who may read what -----------------------------------------------------------------------------------------------------


def test_data_is_roots_alone(engine: Engine) -> None:
    """CVE-2021-41091: other users can't look into containers: data and state root are 0700, and so are a container's folders and log."""
    name = engine.detached(IMAGE, "sh", "-c", "echo secret; sleep 600")
    until(lambda: engine.ok("logs", name), "it is logged")
    for path in (
        f"{engine.directory}/root",
        f"{engine.directory}/state",
        f"{engine.directory}/root/containers/{name}",
        f"{engine.directory}/state/containers/{name}",
    ):
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


# -- the terminal ----------------------------------------------------------------------------------------------------------


def test_terminal_of_the_caller_is_out_of_reach(engine: Engine) -> None:
    """TIOCSTI: a container that is run in a terminal, without -t, has no controlling terminal: /dev/tty can't be opened."""
    terminal = Terminal(engine.enter("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "(: </dev/tty) 2>&1; echo end"))
    try:
        assert terminal.wait() == 0
        assert terminal.shown == b"sh: can't open /dev/tty: No such device or address\r\nend\r\n"
    finally:
        terminal.close()


def test_terminal_streams_are_not_the_callers(engine: Engine) -> None:
    """Without -t the streams are pipes of ours, never the caller's terminal itself."""
    terminal = Terminal(
        engine.enter("run", "--rm", "--network", "none", IMAGE, "sh", "-c", "for i in 0 1 2; do readlink /proc/self/fd/$i; done")
    )
    try:
        assert terminal.wait() == 0
        lines = terminal.shown.decode().split()
        assert lines[0] == "/dev/null"
        assert all(line.startswith("pipe:") for line in lines[1:])
    finally:
        terminal.close()


# -- processes -------------------------------------------------------------------------------------------------------------


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


def test_starts_at_once_are_one_start(engine: Engine) -> None:
    """A start in progress is protected by a lock: four starts of one container at once give one process, and all are content."""
    name = engine.ok("create", "--network", "none", IMAGE, "sleep", "600").strip()
    results: list[Done] = []
    threads = [threading.Thread(target=lambda: results.append(engine.do("start", name))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.code for r in results] == [0] * 4, results
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
    assert engine.box("--rootfs", str(rootfs), "-u", "nobody", "true").code == 0
