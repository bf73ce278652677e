"""What docker and podman must do alike, whatever OCI runtime they use: scripts for peer_first.Both."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from tests.clients.peer_first import cgroup_value, until

if TYPE_CHECKING:
    from tests.clients.engine import Engine

IDLE = "trap 'exit 9' TERM; echo started; while :; do sleep 0.1; done"
MIB = 1 << 20


def exit_status(engine: Engine) -> None:
    """Output, exit status, and the statuses of what can't be started."""
    done = engine.shell("echo out; echo err >&2; exit 5", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")
    assert engine.shell("kill -9 $$; sleep 1000", "--init", check=False).returncode == 137
    for program, status, runcs, cruns in (
        ("no-such-program", 127, 'exec: "no-such-program": executable file not found in $PATH', "not found in $PATH"),
        ("/no/such", 127, 'exec: "/no/such": stat /no/such: no such file or directory', "not found"),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied', "Permission denied"),
    ):
        done = engine.cli(*engine.run_words("--rm", "--network", "none"), engine.image, program, check=False)
        assert done.returncode == status
        assert (cruns if engine.runtime == "crun" else runcs) in done.stderr.decode()


def streams(engine: Engine) -> None:
    """stdin reaches the container, and much output comes back whole."""
    assert engine.shell("cat; echo end", "-i", stdin=b"one\ntwo\n").stdout == b"one\ntwo\nend\n"
    assert engine.prints("seq 100000").endswith("\n99999\n100000")


def terminal(engine: Engine) -> None:
    """-it: a terminal of its own with the user's size, what is typed arrives, and the exit status comes back."""
    script = "while [ \"$(stty size)\" != '33 99' ]; do sleep 0.1; done; tty; read word; echo [$word]; exit 6"
    words = [*engine.run_words("--rm", "-it", "--network", "none"), engine.image, "sh", "-c", script]
    status, shown = engine.on_terminal(words, b"typed\n")
    assert status == 6, shown
    assert "/dev/pts/0\r\n" in shown and "[typed]\r\n" in shown
    engine.detached("one", IDLE)
    status, shown = engine.on_terminal(["exec", "-it", "one", "sh", "-c", script], b"there\n")
    assert status == 6 and "[there]\r\n" in shown and "/dev/pts/" in shown


def life(engine: Engine) -> None:
    """-d, logs, exec, top, stop with its own exit code, start again, kill, wait, rm."""
    engine.detached("one", IDLE, "--env", "A=b")
    until(lambda: engine.out("logs", "one") == "started", "the log")
    done = engine.cli(
        "exec", "-e", "C=d e", "-w", "/tmp", "-u", "33:5", "one", "sh", "-c", "echo $A $C; pwd; id -u; id -g; exit 4", check=False
    )
    assert (done.returncode, done.stdout) == (4, b"b d e\n/tmp\n33\n5\n")
    assert engine.cli("exec", "-i", "one", "cat", stdin=b"text").stdout == b"text"
    done = engine.cli("exec", "one", "no-such-program", check=False)
    assert done.returncode in (126, 127) and b"not found in $PATH" in done.stderr + done.stdout
    engine.cli("exec", "-d", "one", "touch", "/mark")
    until(lambda: engine.cli("exec", "one", "test", "-e", "/mark", check=False).returncode == 0, "the detached exec")
    assert "trap 'exit 9'" in engine.out("top", "one")
    engine.cli("stop", "one")
    assert (engine.state("one")["Status"], engine.state("one")["ExitCode"]) == ("exited", 9)
    engine.cli("start", "one")
    assert engine.state("one")["Status"] == "running"
    engine.cli("kill", "one")
    assert engine.out("wait", "one") == "137"
    engine.cli("rm", "one")
    assert engine.cli("inspect", "one", check=False).returncode != 0


def stats(engine: Engine) -> None:
    """CPU, memory and its limit, and the number of processes."""
    engine.detached("one", IDLE, "--memory", "64m")
    line = engine.out("stats", "--no-stream", "one").split("\n")[1]
    assert re.match(r"\S+\s+one\s+[0-9.]+%\s+[0-9.]+[kKM]i?B / (64MiB|67.11MB)\s", line), line
    assert re.search(r"\s[12]\b", line)


def stop_and_signals(engine: Engine) -> None:
    """A stop signal of one's own, and what does not end is killed."""
    engine.detached("one", "trap 'exit 3' USR1; while :; do sleep 0.1; done", "--stop-signal", "USR1")
    engine.cli("stop", "one")
    assert engine.state("one")["ExitCode"] == 3
    engine.detached("two", "trap '' TERM; while :; do sleep 0.1; done")
    engine.cli("stop", "--time", "1", "two")
    assert engine.state("two")["ExitCode"] == 137
    engine.detached("three", "trap 'echo got it' HUP; echo ready; while :; do sleep 0.1; done")
    until(lambda: "ready" in engine.out("logs", "three"), "the trap")
    engine.cli("kill", "--signal", "HUP", "three")
    until(lambda: "got it" in engine.out("logs", "three"), "the signal")


def pause(engine: Engine) -> None:
    """A paused container stands still, and goes on."""
    engine.detached("one", "while :; do echo x >>/count; sleep 0.02; done")
    engine.cli("pause", "one")
    assert engine.state("one")["Status"] == "paused"
    pid = engine.state("one")["Pid"]
    size = os.path.getsize(f"/proc/{pid}/root/count")
    assert engine.cli("exec", "one", "true", check=False).returncode != 0
    assert os.path.getsize(f"/proc/{pid}/root/count") == size
    engine.cli("unpause", "one")
    until(lambda: os.path.getsize(f"/proc/{pid}/root/count") > size, "the loop to go on")


def limits(engine: Engine) -> None:
    """Memory, CPU and pids limits are the kernel's, and no process beyond the last starts."""
    flags = ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"]
    engine.detached("one", IDLE, *flags)
    assert _limits(engine) == (64 * MIB, 50000, 20)
    assert cgroup_value(engine.state("one")["Pid"], "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    assert b"fork" in engine.cli("exec", "one", "sh", "-c", "for i in $(seq 30); do sleep 5 & done", check=False).stderr


def update(engine: Engine) -> None:
    """`update` changes a running container's limits, and nothing that it does not name."""
    engine.detached("one", IDLE, "--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "20")
    engine.cli("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.7", "one")
    assert _limits(engine) == (96 * MIB, 70000, 20)
    assert engine.cli("exec", "one", "sh", "-c", "mknod /kmsg c 1 11 && head -c 1 /kmsg", check=False).returncode == 1


def _limits(engine: Engine) -> tuple[int, int, int]:
    pid = engine.state("one")["Pid"]
    return (
        int(cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max")),
        int(cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]),
        int(cgroup_value(pid, "pids", "pids.max", "pids.max")),
    )


def restart_policy(engine: Engine) -> None:
    """on-failure:2 starts it twice more."""
    engine.detached("one", "echo once; exit 3", "--restart", "on-failure:2")
    until(lambda: engine.out("logs", "one").count("once") == 3, "three starts")
    until(lambda: engine.state("one")["Status"] == "exited", "the end of the last")
    assert engine.state("one")["ExitCode"] == 3


def init(engine: Engine) -> None:
    """--init: a small init is the first process and reaps orphans."""
    script = "(sleep 0.1 &) ; sleep 0.5; ps -o pid,stat,comm | grep -c ' Z '; cat /proc/1/comm"
    zombies, first = engine.prints(script, "--init").split("\n")
    assert zombies == "0" and first != "sh"


def confinement(engine: Engine) -> None:
    """--read-only, --user, --cap-drop ALL, no new privileges, the default seccomp profile; the same for exec."""
    flags = ["--read-only", "--user", "12:34", "--group-add", "56", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    engine.detached("one", IDLE, *flags)
    script = "id -u; id -g; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status | cut -f 2; touch /x"
    done = engine.cli("exec", "one", "sh", "-c", script, check=False)
    assert done.stdout.decode().split() == ["12", "34", *(["0" * 16] * 5), "1", "2"]
    assert b"Read-only file system" in done.stderr
    assert (
        engine.prints("grep CapEff /proc/self/status | cut -f 2", "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE")
        == f"{1 << 10:016x}"
    )
    assert engine.prints("grep Seccomp: /proc/self/status | cut -f 2", "--security-opt", "seccomp=unconfined") == "0"


def privileged(engine: Engine) -> None:
    """--privileged: every capability there is, the host's devices, nothing masked."""
    script = "grep CapEff /proc/self/status | cut -f 2; grep Seccomp: /proc/self/status | cut -f 2; ls -l /dev/kmsg; test -w /sys && touch /proc/sys/x 2>&1"
    shown = engine.shell(script, "--privileged", check=False).stdout.decode()
    with open("/proc/self/status") as file:
        ours = next(line.split()[1] for line in file if line.startswith("CapBnd:"))
    # docker 20.10 doesn't know the three newest, CAP_PERFMON and on.
    assert shown.split("\n")[0] in (ours, f"{int(ours, 16) & (1 << 38) - 1:016x}") and shown.split("\n")[1] == "0"
    assert "1,  11" in shown and "Read-only" not in shown


def devices(engine: Engine) -> None:
    """--device with its permissions; a device that is made inside stays shut."""
    device = next(path for path in ("/dev/fuse", "/dev/kmsg") if os.path.exists(path))
    number = os.stat(device).st_rdev
    script = "stat -c %t:%T /dev/mine; : </dev/mine && echo readable; (: >/dev/mine) 2>/dev/null || echo not writable"
    seen = engine.prints(script, "--device", f"{device}:/dev/mine:r", "--cap-add", "SYSLOG").split("\n")
    assert seen == [f"{os.major(number):x}:{os.minor(number):x}", "readable", "not writable"]
    assert engine.shell("mknod /kmsg c 1 11; head -c 1 /kmsg", check=False).returncode == 1


def files(engine: Engine) -> None:
    """Volumes, tmpfs, a working directory that is made, /dev/shm, host name, ulimits and sysctls."""
    folder = f"/var/tmp/minicontainer-volume-{os.getpid()}"
    os.makedirs(folder, exist_ok=True)
    try:
        flags = [
            "-v",
            f"{folder}:/rw",
            "-v",
            f"{folder}:/ro:ro",
            "--tmpfs",
            "/t:size=1m",
            "-w",
            "/etc",
            "--shm-size",
            "8m",
            "-h",
            "someone",
        ]
        more = [
            "--ulimit",
            "core=0",
            "--ulimit",
            "nofile=100:200",
            "--ulimit",
            "nproc=900:900",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=81",
            "-v",
            "named:/named",
        ]
        script = "echo text >/rw/file; cat /ro/file; touch /ro/x; pwd; hostname; ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
        done = engine.shell(f"{script}; df -m /t /dev/shm | awk 'NR>1{{print $2}}'; touch /named/x && echo ok", *flags, *more)
        assert done.stdout.decode().split() == ["text", "/etc", "someone", "100", "200", "81", "1", "8", "ok"]
        assert b"Read-only file system" in done.stderr
    finally:
        shutil.rmtree(folder)
        engine.cli("volume", "rm", "named", check=False)


def networks(engine: Engine) -> None:
    """none, host, container:, and the bridge, on which two containers reach each other."""
    assert engine.prints("ls /sys/class/net", "--network", "none") == "lo"
    host = engine.prints("readlink /proc/self/ns/net", "--network", "host")
    assert host == engine.prints("readlink /proc/self/ns/net", "--network", "host") != os.readlink("/proc/self/ns/pid")
    engine.detached("one", "mkdir /www; echo page >/www/index.html; exec httpd -f -p 8080 -h /www", "--network", "bridge")
    address = engine.out("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "one")
    fetch = "for i in $(seq 50); do wget -qO- http://{}:8080/ && exit; sleep 0.1; done; exit 1"
    assert engine.prints(fetch.format("127.0.0.1"), "--network", "container:one") == "page"
    assert engine.prints(fetch.format(address), "--network", "bridge") == "page"


def processes_of_others(engine: Engine) -> None:
    """--pid host and --pid container:, --ipc of another."""
    assert engine.prints(f"test -d /proc/{os.getpid()} && echo seen", "--pid", "host") == "seen"
    engine.detached("one", IDLE, "--ipc", "shareable")
    assert "trap 'exit 9'" in engine.prints("ps", "--pid", "container:one")
    ipc = engine.out("exec", "one", "readlink", "/proc/self/ns/ipc")
    assert engine.prints("readlink /proc/self/ns/ipc", "--ipc", "container:one") == ipc


def out_of_memory(engine: Engine) -> None:
    """A container that wants more than its limit is killed: 137."""
    limit = ["--memory", "16m", "--memory-swap", "16m"]
    assert engine.shell("tail /dev/zero", *limit, check=False).returncode == 137


def healthy(engine: Engine) -> None:
    """A health check says healthy, and unhealthy when its command fails."""
    flags = ["--health-cmd", "test ! -e /ill", "--health-interval", "500ms", "--health-retries", "1", "--health-timeout", "20s"]
    engine.detached("one", IDLE, *flags)
    engine.check_health("one", "healthy")
    engine.cli("exec", "one", "touch", "/ill")
    engine.check_health("one", "unhealthy")


SCRIPTS = (
    exit_status, streams, terminal, life, stats, stop_and_signals, pause, limits, update, restart_policy, init, confinement, privileged,
    devices, files, networks, processes_of_others, out_of_memory, healthy,
)  # fmt: skip
