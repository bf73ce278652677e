"""OCI's process for real: what the kernel says of a program that was started with each of its members."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from minicontainer.runtime.capabilities import held
from tests.integration.engine import Done
from tests.integration.oci import Oci

NR_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}[os.uname().machine]


def need(name: str, number: int) -> None:
    if not held() >> number & 1:
        pytest.skip(f"this host's root has no {name}")


# -- scheduling ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "policy", "nice"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, os.SCHED_OTHER, 5),
        ({"policy": "SCHED_BATCH", "nice": 3}, os.SCHED_BATCH, 3),
        ({"policy": "SCHED_IDLE"}, os.SCHED_IDLE, 0),
        ({"policy": "SCHED_FIFO", "priority": 7}, os.SCHED_FIFO, 0),
        ({"policy": "SCHED_RR", "priority": 8, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, os.SCHED_RR | os.SCHED_RESET_ON_FORK, 0),
    ],
    ids=lambda value: value["policy"] if isinstance(value, dict) else "",
)
def test_scheduler(oci: Oci, scheduler: dict, policy: int, nice: int) -> None:
    if "priority" in scheduler:
        need("CAP_SYS_NICE", 23)
    oci.write("sleep", "600", scheduler=scheduler)
    created = oci.do("create", "one")
    if created.code and "sched_setattr" in created.err and "priority" in scheduler:
        pytest.skip("this host's cgroups have no real-time budget")
    oci.ok("start", "one")
    pid = json.loads(oci.ok("state", "one"))["pid"]
    assert os.sched_getscheduler(pid) == policy
    assert os.sched_getparam(pid).sched_priority == scheduler.get("priority", 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == nice


def test_deadline_scheduler(oci: Oci) -> None:
    need("CAP_SYS_NICE", 23)
    times = {"runtime": 10_000_000, "deadline": 30_000_000, "period": 30_000_000}
    oci.write("sleep", "600", scheduler={"policy": "SCHED_DEADLINE", **times})
    created = oci.do("create", "one")
    if created.code and "sched_setattr" in created.err:
        pytest.skip(f"this host has no room for it: {created.err.strip()}")
    oci.ok("start", "one")
    assert os.sched_getscheduler(json.loads(oci.ok("state", "one"))["pid"]) == 6


def test_a_scheduler_that_linux_does_not_have_is_named(oci: Oci) -> None:
    done = oci.run("true", scheduler={"policy": "SCHED_ISO"})
    assert done.code == 1 and "sched_setattr" in done.err and "SCHED_ISO" in done.err
    assert not oci.left()


def test_io_priority(oci: Oci) -> None:
    pid = oci.running("sleep", "600", ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 3})
    assert ctypes.CDLL(None).syscall(NR_IOPRIO_GET, 1, pid) == 2 << 13 | 3


def test_exec_cpu_affinity(oci: Oci) -> None:
    one = min(os.sched_getaffinity(0))
    oci.running(execCPUAffinity={"initial": str(one), "final": str(one)})
    assert f"Cpus_allowed_list:\t{one}\n" in oci.ok("exec", "one", "cat", "/proc/self/status")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump({"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "execCPUAffinity": {"final": "70"}}, f)
        f.flush()
        done = oci.do("exec", "--process", f.name, "one")
        assert done.code == 255 and "sched_setaffinity" in done.err


def test_personality(oci: Oci) -> None:
    oci.config["linux"]["personality"] = {"domain": "LINUX32"}
    assert oci.sh("uname -m; cat /proc/self/personality").split() == [
        {"x86_64": "i686", "aarch64": "armv8l"}[os.uname().machine],
        "00000008",
    ]


def test_memory_policy(oci: Oci) -> None:
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("this kernel has no NUMA")
    oci.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    done = oci.run("cat", "/proc/self/numa_maps")
    assert done.code == 0 and "bind=static:0" in done.out, done


# -- limits and labels ---------------------------------------------------------------------------------------------------------


def test_rlimits(oci: Oci) -> None:
    hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    rlimits = [{"type": "RLIMIT_NOFILE", "soft": 123, "hard": hard}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    out = oci.sh("grep -E 'open files|core' /proc/self/limits", rlimits=rlimits)
    assert [line.split()[-3:-1] for line in out.splitlines()] == [["0", "0"], ["123", str(hard)]]


def test_the_smallest_stack_is_the_programs_alone(oci: Oci) -> None:
    """All of ours goes on with it, up to the execve. What the kernel does to the program then is a matter of luck, as with runc:
    the stack begins at a random place of its first page."""
    oci.write("true", rlimits=[{"type": "RLIMIT_STACK", "soft": 4096, "hard": 4096}])
    oci.ok("create", "one")
    pid = json.loads(oci.ok("state", "one"))["pid"]
    assert "Max stack size 4096 4096 bytes" in " ".join(Path(f"/proc/{pid}/limits").read_text().split())
    oci.ok("start", "one")


def test_a_limit_above_the_hard_one_is_a_clear_error(oci: Oci) -> None:
    if held() >> 24 & 1:
        pytest.skip("this host's root may raise hard limits")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = oci.run("true", rlimits=[{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 1}])
    assert done.code == 1 and "RLIMIT_NOFILE" in done.err and "CAP_SYS_RESOURCE" in done.err
    assert not oci.left()


def test_a_limit_given_twice_is_refused(oci: Oci) -> None:
    done = oci.run("true", rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2)
    assert done.code == 1 and "RLIMIT_CORE" in done.err


def test_oom_score_is_the_one_asked_for_else_inherited(oci: Oci) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert oci.sh("cat /proc/self/oom_score_adj") == f"{own}\n"
    assert oci.sh("cat /proc/self/oom_score_adj", oomScoreAdj=own + 100) == f"{own + 100}\n"


def test_a_lower_oom_score_without_the_right_is_a_clear_error(oci: Oci) -> None:
    if held() >> 24 & 1:
        pytest.skip("this host's root may lower it")
    done = oci.run("true", oomScoreAdj=-900)
    assert done.code == 1 and "oom_score_adj" in done.err and "CAP_SYS_RESOURCE" in done.err
    assert not oci.left()


@pytest.mark.parametrize(
    ("field", "where"), [("apparmorProfile", "/sys/kernel/security/apparmor"), ("selinuxLabel", "/sys/fs/selinux/enforce")]
)
def test_a_label_without_its_module_is_a_clear_error(oci: Oci, field: str, where: str) -> None:
    if os.path.exists(where):
        pytest.skip("this host has the module")
    done = oci.run("true", **{field: "some_t"})
    assert done.code == 1 and field in done.err and "not" in done.err


def test_umask_and_groups(oci: Oci) -> None:
    out = oci.sh("umask; id -G", user={"uid": 5, "gid": 6, "umask": 0o77, "additionalGids": [7, 8]})
    assert out == "0077\n6 7 8\n"


# -- capabilities --------------------------------------------------------------------------------------------------------------


def masks(text: str) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


def test_five_sets(oci: Oci) -> None:
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    got = masks(oci.sh("cat /proc/self/status", capabilities=sets, user={"uid": 9, "gid": 9}))
    assert got == {"CapInh": 0x20, "CapPrm": 0x20, "CapEff": 0x20, "CapBnd": 0xA1, "CapAmb": 0x20}, (
        "a user's execve keeps ambient ones"
    )


@pytest.mark.parametrize("given", [None, {}])
def test_without_capabilities_there_are_none(oci: Oci, given: dict | None) -> None:
    oci.config["process"].pop("capabilities")
    if given is not None:
        oci.config["process"]["capabilities"] = given
    assert set(masks(oci.sh("cat /proc/self/status")).values()) == {0}


def test_what_there_is_not_is_left_out_with_a_warning(oci: Oci) -> None:
    done = oci.run("true", capabilities={"bounding": ["CAP_TIME_TRAVEL", "CAP_CHOWN"]})
    assert done.code == 0
    assert 'level=warning msg="ignoring unknown or unavailable capabilities: [CAP_TIME_TRAVEL]"' in done.err


def test_exec_has_the_containers_capabilities_and_limits_unless_it_says_otherwise(oci: Oci) -> None:
    oci.running(rlimits=[{"type": "RLIMIT_CORE", "soft": 3, "hard": 3}], capabilities={"bounding": ["CAP_CHOWN"]})
    process: dict = {"args": ["sh", "-c", "cat /proc/self/status; grep core /proc/self/limits"], "cwd": "/", "env": ["PATH=/bin"]}

    def of(process: dict) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(process, f)
            f.flush()
            return oci.ok("exec", "--process", f.name, "one")

    out = of(process)
    assert masks(out)["CapBnd"] == 1 and out.split()[-3:-1] == ["3", "3"]
    assert masks(of({**process, "capabilities": {"bounding": ["CAP_KILL"]}}))["CapBnd"] == 0x20
    assert "NoNewPrivs:\t1" in of({**process, "noNewPrivileges": True})


def test_exec_as_somebody_else(oci: Oci) -> None:
    oci.running()
    script = "id -u; id -G; pwd; echo $A; umask"
    out = oci.ok("exec", "--user", "12:34", "--additional-gids", "56", "--cwd", "/tmp", "-e", "A=b", "one", "sh", "-c", script)
    assert out == "12\n34 56\n/tmp\nb\n0022\n"
    caps = masks(oci.ok("exec", "--cap", "CAP_CHOWN", "--no-new-privs", "one", "cat", "/proc/self/status"))
    assert caps["CapEff"] & 1 and caps["CapInh"] == 0


# -- environment and folder ----------------------------------------------------------------------------------------------------


def test_environment_last_of_a_name_and_home_of_the_containers_passwd(oci: Oci) -> None:
    (oci.rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:77:7:me:/home/me:/bin/sh\n")
    out = oci.run("/usr/bin/env", env=["PATH=/bin", "A=1", "B=2", "A=3"], user={"uid": 77, "gid": 7}).out
    assert out.splitlines() == ["PATH=/bin", "B=2", "A=3", "HOME=/home/me"]
    assert "HOME=/\n" in oci.run("/usr/bin/env", user={"uid": 78, "gid": 7}).out, "somebody that passwd does not know"
    assert "HOME=/mine\n" in oci.run("/usr/bin/env", env=["PATH=/bin", "HOME=/mine"]).out
    oci.running("sleep", "600", user={"uid": 0, "gid": 0}, env=["PATH=/bin"])
    assert "HOME=/home/me\n" in oci.ok("exec", "--user", "77", "-e", "HOME=", "one", "/usr/bin/env")


@pytest.mark.parametrize("trap", ["fifo", "link", "device", "directory", "endless"])
def test_home_is_looked_for_without_harm(oci: Oci, trap: str) -> None:
    passwd = oci.rootfs / "etc" / "passwd"
    passwd.unlink()
    if trap == "fifo":
        os.mkfifo(passwd)
    elif trap == "link":
        passwd.symlink_to("/../../../../../../../../etc/passwd")
        (oci.folder / "x").touch()
    elif trap == "device":
        os.mknod(passwd, 0o20666, os.makedev(1, 5))
    elif trap == "directory":
        passwd.mkdir()
    else:
        passwd.symlink_to("/proc/kmsg")
    assert "HOME=/\n" in oci.run("/usr/bin/env", user={"uid": 1, "gid": 1}).out
    oci.running("sleep", "600")
    assert "HOME=/\n" in oci.ok("exec", "--user", "1", "one", "/usr/bin/env")


def test_a_folder_that_is_not_there_is_made(oci: Oci) -> None:
    assert oci.sh("pwd; ls -ld .", cwd="/not/yet").startswith("/not/yet\ndrwxr-xr-x")


def test_a_folder_through_our_descriptors_is_not_to_be_had(oci: Oci) -> None:
    """CVE-2024-21626: a working directory that is one of the runtime's descriptors would be the host's."""
    for number in (3, 7, 8, 12):
        done = oci.run("sh", "-c", "ls ../../../../..; cat ../../../../etc/hostname", cwd=f"/proc/self/fd/{number}")
        assert done.code != 0, done
    (oci.rootfs / "way").symlink_to("/proc/self/fd/7")
    assert oci.run("pwd", cwd="/way").code != 0
    assert not oci.left()
    oci.running("sleep", "600", cwd="/")
    for folder in ("/way", *(f"/proc/self/fd/{number}" for number in (3, 7, 8, 12))):
        assert oci.do("exec", "--cwd", folder, "one", "sh", "-c", "ls ../../..").code == 255


def test_without_arguments_there_is_no_container(oci: Oci) -> None:
    for args in ([], None):
        oci.write(args=args)
        done = oci.do("run", "one")
        assert done.code == 1 and "args must not be empty" in done.err


# -- descriptors ---------------------------------------------------------------------------------------------------------------


def with_descriptors(oci: Oci, *words: str, env: dict | None = None) -> Done:
    """A command with two files as its descriptors 3 and 4."""
    files = [oci.folder / name for name in ("three", "four")]
    for path in files:
        path.write_text(path.name + "\n")
    script = f'exec 3<{files[0]} 4<{files[1]}; export LISTEN_PID=$$; exec "$@"'
    return oci.do(*words, prefix=("sh", "-c", script, "sh"), **({"env": {**os.environ, **env}} if env else {}))


LOOK = ("sh", "-c", "cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '; echo $LISTEN_FDS,$LISTEN_PID")


def test_preserved_descriptors_keep_their_numbers_and_no_others_come_along(oci: Oci) -> None:
    oci.write(*LOOK)
    assert with_descriptors(oci, "run", "--preserve-fds", "2", "one").out == "three\nfour\n0 1 2 3 4 5 ,\n"
    assert with_descriptors(oci, "run", "--preserve-fds", "1", "one").out.startswith("three\n0 1 2 3 4 ")
    oci.running("sleep", "600")
    assert with_descriptors(oci, "exec", "--preserve-fds", "2", "one", *LOOK).out == "three\nfour\n0 1 2 3 4 5 ,\n"


def test_sockets_of_activation_come_first(oci: Oci) -> None:
    oci.write(*LOOK)
    done = with_descriptors(oci, "run", "--preserve-fds", "1", "one", env={"LISTEN_FDS": "1"})
    assert done.out == "three\nfour\n0 1 2 3 4 5 1,1\n"


def test_a_descriptor_that_is_not_open_is_refused(oci: Oci) -> None:
    oci.write("true")
    done = with_descriptors(oci, "run", "--preserve-fds", "5", "one")
    assert done.code == 1 and "unable to stat preserved-fd 5 (of 5)" in done.err


def test_another_user_can_open_its_streams_again_and_null_stays_roots(oci: Oci) -> None:
    before = os.stat("/dev/null")
    oci.write("sh", "-c", "echo again >/dev/stdout", user={"uid": 6, "gid": 6})
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs:
        done = subprocess.run(oci.command("run", "one"), cwd=oci.bundle, stdin=subprocess.DEVNULL, stdout=write, check=False)
        os.close(write)
        assert (done.returncode, os.read(read, 100)) == (0, b"again\n")
    os.close(read)
    assert os.stat("/dev/null").st_uid == before.st_uid


def test_keyring(oci: Oci) -> None:
    if not os.path.exists("/proc/keys"):
        pytest.skip("this kernel has no keyrings")
    oci.config["linux"]["maskedPaths"] = []
    assert "_ses.one" in oci.sh("cat /proc/keys")
    oci.write("cat", "/proc/keys")
    assert "_ses.two" not in oci.ok("run", "--no-new-keyring", "two")


# -- what exec has of the container's own ----------------------------------------------------------------------------------------


def test_exec_has_the_containers_personality_umask_and_scheduler(oci: Oci) -> None:
    oci.config["linux"]["personality"] = {"domain": "LINUX32"}
    oci.running(user={"uid": 0, "gid": 0, "umask": 0o77}, scheduler={"policy": "SCHED_BATCH", "nice": 4})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        script = "umask; cat /proc/self/personality; cut -d' ' -f19 /proc/self/stat"
        json.dump({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "user": {"uid": 1, "gid": 1}}, f)
        f.flush()
        assert oci.ok("exec", "--process", f.name, "one").split() == ["0077", "00000008", "4"]


def test_the_cpus_are_the_cgroups_not_the_callers(oci: Oci) -> None:
    all_of_them = os.sched_getaffinity(0)
    if len(all_of_them) < 2:
        pytest.skip("there is one CPU")
    bound = ("taskset", "-c", str(min(all_of_them)))
    oci.write("grep", "Cpus_allowed:", "/proc/self/status")
    assert int(oci.do("run", "one", prefix=bound).out.split()[1].replace(",", ""), 16).bit_count() >= len(all_of_them)
    oci.running("sleep", "600")
    done = oci.do("exec", "one", "grep", "Cpus_allowed:", "/proc/self/status", prefix=bound)
    assert int(done.out.split()[1].replace(",", ""), 16).bit_count() >= len(all_of_them)


def test_a_process_that_comes_through_a_pipe(oci: Oci) -> None:
    """As bash's <(…) makes one: whoever writes may take its time."""
    oci.running()
    process = json.dumps({"args": ["echo", "here"], "cwd": "/", "env": ["PATH=/bin"]})
    script = f"exec {' '.join(oci.command())} exec --process <(sleep 0.3; echo '{process}') one"
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "here\n")


def test_an_ambient_capability_that_is_not_inheritable_is_a_warning(oci: Oci) -> None:
    names = ["CAP_CHOWN", "CAP_KILL"]
    sets = {"bounding": names, "permitted": names, "effective": names, "inheritable": ["CAP_KILL"], "ambient": names}
    done = oci.run("cat", "/proc/self/status", capabilities=sets)
    assert "can't raise ambient capability CAP_CHOWN: " in done.err and masks(done.out)["CapAmb"] == 0x20


def test_an_interpreter_that_is_missing(oci: Oci) -> None:
    (oci.rootfs / "run.sh").write_text("#!/no/such foo bar\n")
    (oci.rootfs / "run.sh").chmod(0o755)
    assert "exec /run.sh: no such file or directory" in oci.run("/run.sh").err
    oci.running()
    done = oci.do("exec", "one", "/run.sh")
    assert done.code == 255 and "exec /run.sh: no such file or directory" in done.err
    assert "stat /nosuch: no such file or directory" in oci.do("exec", "one", "/nosuch").err


def test_lines_of_a_terminal_that_nobody_sees_are_plain(oci: Oci) -> None:
    """As with runc: what a container with a terminal writes into a file or pipe has no carriage returns."""
    done = oci.run("sh", "-c", "tty; echo line", terminal=True)
    assert done.code == 0 and re.fullmatch(r"/dev/pts/\d+\nline\n", done.out), done


def test_a_terminal_reaches_the_caller_also_when_the_program_is_quick(oci: Oci) -> None:
    """`exec -t` again and again: the stub is gone in a moment, and what it sent must not go with it."""
    oci.running()
    for _ in range(25):
        assert oci.ok("exec", "-t", "one", "true") == ""
