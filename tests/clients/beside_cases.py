"""The commands that are run under docker and under minicontainer: flags, image and command, as a user types them.

In a word, {shared} is a directory of the host with `file` in it (each side has its own), {name} a name for the
container that nobody else uses, PROBE the probe script.
"""

from __future__ import annotations


class Case:
    """One `run`. name: for pytest and for the list of differences; words: what comes after `run`.

    every_capability: docker can do it only where root has every capability there is.
    """

    def __init__(self, name: str, *words: str, stdin: str = "", every_capability: bool = False) -> None:
        self.name = name
        self.words = words
        self.stdin = stdin
        self.every_capability = every_capability

    @property
    def is_probe(self) -> bool:
        return self.words[-len(PROBE) :] == PROBE


IMAGE = "beside"
PROBE = ("sh", "-c", "{probe}")


def probe(name: str, *flags: str, every_capability: bool = False) -> Case:
    """A case in which the probe looks round a container that was started with these flags."""
    return Case(name, "--rm", *flags, IMAGE, *PROBE, every_capability=every_capability)


def shell(name: str, script: str, *flags: str, stdin: str = "") -> Case:
    """A case in which a shell runs a script."""
    return Case(name, "--rm", *flags, IMAGE, "sh", "-c", script, stdin=stdin)


EXIT_STATUS = [
    Case("true", "--rm", IMAGE, "true"),
    Case("false", "--rm", IMAGE, "false"),
    shell("exit 42", "exit 42"),
    Case("program that is not there", "--rm", IMAGE, "no-such-program"),
    Case("path that is not there", "--rm", IMAGE, "/no/such/program"),
    Case("file that is no program", "--rm", IMAGE, "/etc/passwd"),
    Case("directory as a program", "--rm", IMAGE, "/tmp"),
    Case("killed by SIGKILL", "--rm", "--init", IMAGE, "sh", "-c", "kill -KILL $$"),
    Case("killed by SIGTERM", "--rm", "--init", IMAGE, "sh", "-c", "kill -TERM $$"),
    shell("PID 1 ignores SIGTERM", "kill -TERM $$; exit 3"),
    shell("trapped SIGTERM", "trap 'exit 7' TERM; kill -TERM $$"),
    shell("out of memory", "tail /dev/zero", "--memory", "16m", "--memory-swap", "16m"),
    Case("flag that is not there", "--no-such-flag", IMAGE, "true"),
    Case("image that is not there", "--pull", "never", "no-such-image", "true"),
    Case("no image", "--rm"),
    Case("bad memory", "--rm", "--memory", "much", IMAGE, "true"),
    Case("too little memory", "--rm", "--memory", "1m", IMAGE, "true"),
    Case("bad network", "--rm", "--network", "no-such-network", IMAGE, "true"),
    Case("bad volume", "--rm", "-v", "relative/path:/data", IMAGE, "true"),
    Case("bad capability", "--rm", "--cap-add", "NO_SUCH", IMAGE, "true"),
    Case("bad user", "--rm", "-u", "no-such-user", IMAGE, "true"),
    Case("bad workdir", "--rm", "-w", "relative", IMAGE, "true"),
    Case("bad sysctl", "--rm", "--sysctl", "kernel.panic=1", IMAGE, "true"),
    Case("bad ulimit", "--rm", "--ulimit", "no-such=1", IMAGE, "true"),
    Case("bad port", "--rm", "-p", "70000:1", IMAGE, "true"),
    Case("bad environment file", "--rm", "--env-file", "/no/such/file", IMAGE, "true"),
    Case("bad name", "--rm", "--name", "a b", IMAGE, "true"),
    Case("bad device", "--rm", "--device", "/dev/no-such", IMAGE, "true"),
    Case("soft above hard limit", "--rm", "--ulimit", "nofile=200:100", IMAGE, "true"),
]

STREAMS = [
    shell("stdin with -i", "cat; wc -c </dev/null", "-i", stdin="one\ntwo\n"),
    shell("stdin without -i", "cat; echo end", stdin="one\n"),
    shell("terminal", "tty; echo $TERM; ls -l /dev/console | cut -c 1-10; readlink /proc/self/fd/1", "-t"),
    shell("no terminal", "tty; echo [$TERM]; ls /dev/console"),
    shell("much output", "seq 100000 | md5sum; seq 20000"),
    shell("stderr is apart", "echo out; echo err >&2"),
]

ADDED = ("IPC_LOCK", "NET_ADMIN", "NET_BROADCAST", "SYS_BOOT", "SYS_MODULE", "SYS_NICE", "SYS_PTRACE", "SYS_TIME", "SYSLOG")
MANY_CAPABILITIES = [word for name in ADDED for word in ("--cap-add", name)]

PROBES = [
    probe("plain"),
    probe("no network", "--network", "none"),
    probe("host network", "--network", "host"),
    probe("privileged", "--network", "none", "--privileged", every_capability=True),
    probe("privileged and read-only", "--network", "none", "--privileged", "--read-only", every_capability=True),
    probe("capability added", "--network", "none", "--cap-add", "NET_ADMIN", "--cap-add", "cap_sys_time"),
    probe("capability dropped", "--network", "none", "--cap-drop", "MKNOD", "--cap-drop", "chown"),
    probe("no capability", "--network", "none", "--cap-drop", "ALL"),
    probe("one capability", "--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN"),
    probe("all capabilities", "--network", "none", "--cap-add", "ALL", every_capability=True),
    probe("system administrator", "--network", "none", "--cap-add", "SYS_ADMIN"),
    probe("many capabilities", "--network", "none", *MANY_CAPABILITIES),
    probe("user by name", "--network", "none", "-u", "www-data"),
    probe("user by number", "--network", "none", "-u", "1234"),
    probe("user and group", "--network", "none", "-u", "33:tty"),
    probe("more groups", "--network", "none", "-u", "nobody", "--group-add", "tty", "--group-add", "4321"),
    probe("user with a capability", "--network", "none", "-u", "nobody", "--cap-add", "NET_RAW"),
    probe("environment", "--network", "none", "-e", "A=b c", "-e", "EMPTY=", "-e", "HOME=/elsewhere", "-e", "NOWHERE"),
    probe("environment file", "--network", "none", "--env-file", "{shared}/env"),
    probe("working directory", "--network", "none", "-w", "/tmp"),
    probe("new working directory", "--network", "none", "-w", "/srv/new"),
    probe("host name", "--network", "none", "-h", "someone"),
    probe("domain name", "--network", "none", "-h", "someone.example.org", "--domainname", "example.org"),
    Case("entry point", "--rm", "--network", "none", "--entrypoint", "/bin/echo", IMAGE, "and", "arguments"),
    Case("the image's command", "--rm", "--network", "none", IMAGE),
    probe("read-only", "--network", "none", "--read-only"),
    probe("read-only and tmpfs", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run:size=1m,mode=700"),
    probe("volume", "--network", "none", "-v", "{shared}:/data"),
    probe("read-only volume", "--network", "none", "-v", "{shared}:/data:ro"),
    probe("file as a volume", "--network", "none", "-v", "{shared}/file:/srv/file"),
    probe("bind mount", "--network", "none", "--mount", "type=bind,src={shared},dst=/data,readonly"),
    probe("tmpfs mount", "--network", "none", "--mount", "type=tmpfs,dst=/data,tmpfs-size=1m,tmpfs-mode=700"),
    probe("anonymous volume", "--network", "none", "-v", "/vol"),
    probe("ulimits", "--network", "none", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "stack=4194304"),
    probe("sysctls", "--network", "none", "--sysctl", "net.core.somaxconn=100", "--sysctl", "kernel.msgmax=4096"),
    probe("memory", "--network", "none", "--memory", "64m"),
    probe("memory and swap", "--network", "none", "--memory", "64m", "--memory-swap", "96m"),
    probe("memory reservation", "--network", "none", "--memory", "64m", "--memory-reservation", "32m"),
    probe("memory without swap limit", "--network", "none", "--memory", "64m", "--memory-swap", "-1"),
    probe("cpus", "--network", "none", "--cpus", "0.5"),
    probe("cpu shares", "--network", "none", "--cpu-shares", "512"),
    probe("cpu quota", "--network", "none", "--cpu-period", "50000", "--cpu-quota", "20000"),
    probe("cpu set", "--network", "none", "--cpuset-cpus", "0", "--cpuset-mems", "0"),
    probe("pids", "--network", "none", "--pids-limit", "50"),
    probe("read rate", "--network", "none", "--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:100"),
    probe("host pid namespace", "--network", "none", "--pid", "host"),
    probe("host ipc namespace", "--network", "none", "--ipc", "host"),
    probe("private ipc namespace", "--network", "none", "--ipc", "private"),
    probe("no ipc", "--network", "none", "--ipc", "none"),
    probe("host uts namespace", "--network", "none", "--uts", "host"),
    probe("private cgroup namespace", "--network", "none", "--cgroupns", "private"),
    probe("init", "--network", "none", "--init"),
    probe("device", "--network", "none", "--device", "/dev/fuse"),
    probe("device elsewhere", "--network", "none", "--device", "/dev/zero:/dev/nothing:r"),
    probe("shm size", "--network", "none", "--shm-size", "1m"),
    probe("no new privileges", "--network", "none", "--security-opt", "no-new-privileges"),
    probe("no seccomp", "--network", "none", "--security-opt", "seccomp=unconfined"),
    probe("oom score", "--network", "none", "--oom-score-adj", "500"),
    probe("resolver", "--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:2"),
    probe("more hosts", "--add-host", "other:192.0.2.7"),
    probe("terminal and probe", "--network", "none", "-t"),
]

MORE_PROBES = [
    probe("fewer capabilities and a user", "--network", "none", "--cap-drop", "ALL", "--cap-add", "SETUID", "-u", "33"),
    probe("user with its group", "--network", "none", "-u", "www-data:www-data", "-w", "/var/www"),
    probe("no init and a name", "--network", "none", "--name", "{name}"),
    probe("labels and stop signal", "--network", "none", "--label", "a=b", "--stop-signal", "INT", "--stop-timeout", "1"),
    probe("published port", "-p", "127.0.0.1:8099:80"),
    probe("no log", "--network", "none", "--log-driver", "none"),
    probe("seccomp and no new privileges", "--network", "none", "--security-opt", "no-new-privileges:true", "-u", "33"),
    probe("soft limits only", "--network", "none", "--ulimit", "nofile=512", "--ulimit", "fsize=1000000"),
    probe("named volume", "--network", "none", "-v", "{name}-volume:/vol"),
    probe("environment over the image's", "--network", "none", "-e", "FROM_IMAGE=no", "-e", "PATH=/bin"),
]

CASES = [*EXIT_STATUS, *STREAMS, *PROBES, *MORE_PROBES]
