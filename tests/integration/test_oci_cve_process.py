"""What a container's processes could get of the host at `run` and `exec`: descriptors, folders, rights, users, keys, the terminal.

test_security.py does the like with the engine's flags; here are the OCI runtime's own ways in: process.json, exec's options.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.integration.engine import SLOW, Terminal, until
from tests.integration.oci import Oci


def _exec(oci: Oci, *args: str, **process: object) -> tuple[int, str, str]:
    """exec --process in the container `one`."""
    path = oci.bundle / "process.json"
    path.write_text(json.dumps({"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **process}))
    done = oci.do("exec", "--process", str(path), "one")
    return done.code, done.out, done.err


# -- the program that enters ---------------------------------------------------------------------------------------------------


def test_what_waits_in_a_created_container_is_sealed(oci: Oci) -> None:
    """CVE-2019-5736: the process that waits for `start` executes a sealed memory file: nobody can write to it, in whatever way it is opened."""
    oci.write("sleep", "600")
    oci.ok("create", "one")
    pid = json.loads(oci.ok("state", "one"))["pid"]
    assert "memfd:" in os.readlink(f"/proc/{pid}/exe")
    fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert (
            seals & fcntl.F_SEAL_WRITE and seals & fcntl.F_SEAL_SEAL and seals & fcntl.F_SEAL_GROW and seals & fcntl.F_SEAL_SHRINK
        )
    finally:
        os.close(fd)
    with pytest.raises(OSError):
        os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))


@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/exe", "/script", "/link"])
def test_programs_that_are_the_runtime(oci: Oci, program: str) -> None:
    """CVE-2019-5736's way in: an entry point that is the runtime itself, by a link or a script's #!, does nothing of use."""
    (oci.rootfs / "script").write_text("#!/proc/self/exe\n")
    (oci.rootfs / "script").chmod(0o755)
    (oci.rootfs / "link").symlink_to("/proc/self/exe")
    done = oci.run(program)
    assert done.code not in (0, None) and "Traceback" not in done.err


# -- descriptors and folders ---------------------------------------------------------------------------------------------------


def _leaky(oci: Oci) -> dict:
    """Popen settings under which the caller gives us open folders of the host as descriptors."""
    fds = [os.open("/etc", os.O_RDONLY | os.O_DIRECTORY) for _ in range(6)]
    return {"pass_fds": fds, "close_fds": True}


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_no_descriptor_but_the_streams(oci: Oci, verb: str) -> None:
    """CVE-2024-21626: of what the caller has open, and of what we open, only 0, 1 and 2 are in the container."""
    settings = _leaky(oci)
    script = "for f in /proc/self/fd/*; do echo ${f##*/} $(readlink $f); done"
    try:
        if verb == "run":
            oci.write("sh", "-c", script)
            out = oci.ok("run", "one", **settings)
        else:
            oci.running()
            out = oci.ok("exec", "one", "sh", "-c", script, **settings)
    finally:
        for fd in settings["pass_fds"]:
            os.close(fd)
    found = {int(line.split()[0]): line.split()[1:] for line in out.splitlines()}
    assert {fd for fd, where in found.items() if where} == {0, 1, 2}, out  # the glob's own descriptor is closed again
    assert found[0] == ["/dev/null"]


@pytest.mark.parametrize("n", [0, *range(3, 20)])
def test_working_directory_in_a_descriptor(oci: Oci, n: int) -> None:
    """CVE-2024-21626: process.cwd is /proc/self/fd/N, by run, by exec --cwd, by process.json, and through a link of the image."""
    (oci.rootfs / "way").symlink_to(f"/proc/self/fd/{n}")
    settings = _leaky(oci)
    try:
        for cwd in (f"/proc/self/fd/{n}", f"/proc/thread-self/fd/{n}/../..", "/way", f"/proc/1/fd/{n}"):
            oci.write("cat", "debian_version", "hostname", "../etc/hostname", "../../../../etc/debian_version", cwd=cwd)
            done = oci.do("run", "one", **settings)
            assert done.code != 0 and done.out == "", (cwd, done)
        if n in (3, 7, 9):
            oci.running(cwd="/")
            for cwd in (f"/proc/self/fd/{n}", "/way", f"/proc/1/fd/{n}"):
                done = oci.do("exec", "--cwd", cwd, "one", "cat", "debian_version", "../etc/debian_version", **settings)
                assert done.code != 0 and done.out == "", (cwd, done)
                code, out, _ = _exec(oci, "cat", "debian_version", cwd=cwd)
                assert code != 0 and out == ""
    finally:
        for fd in settings["pass_fds"]:
            os.close(fd)


def test_working_directory_that_is_a_link_stays_inside(oci: Oci) -> None:
    """A symlink of the image as the working directory is followed below the container's root, and made there."""
    (oci.rootfs / "up").symlink_to("../../../../../../../../../../etc")
    (oci.rootfs / "new").symlink_to(f"{oci.folder}/made")
    assert oci.sh("pwd -P; ls passwd", cwd="/up") == "/etc\npasswd\n"
    assert oci.sh("pwd -P", cwd="/new/deep") == f"{oci.folder}/made/deep\n"
    assert not (oci.folder / "made").exists()
    oci.running(cwd="/")
    assert oci.ok("exec", "--cwd", "/up", "one", "sh", "-c", "pwd -P; ls passwd") == "/etc\npasswd\n"
    assert oci.do("exec", "--cwd", "up", "one", "true").code != 0


# -- rights --------------------------------------------------------------------------------------------------------------------


def _status(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def test_inheritable_capabilities_are_only_those_asked_for(oci: Oci) -> None:
    """CVE-2022-24769, CVE-2022-29162: inheritable and ambient sets are empty at run and exec unless the config fills them."""
    bits = _bits(oci.config["process"]["capabilities"]["bounding"])
    for user in ({"uid": 0, "gid": 0}, {"uid": 1000, "gid": 1000}):
        status = _status(oci.sh("cat /proc/self/status", user=user))
        assert status["CapInh"] == status["CapAmb"] == "0" * 16
        assert int(status["CapBnd"], 16) == bits
    oci.running(user={"uid": 0, "gid": 0})
    for words in ((), ("--user", "1000"), ("--cap", "CAP_NET_RAW")):
        status = _status(oci.ok("exec", *words, "one", "cat", "/proc/self/status"))
        assert int(status["CapBnd"], 16) & ~(bits | _bits(["CAP_NET_RAW"] if "--cap" in words else [])) == 0
        if "--cap" not in words:
            assert status["CapInh"] == status["CapAmb"] == "0" * 16
        if "--user" in words:
            assert status["CapEff"] == "0" * 16
    code, out, err = _exec(oci, "cat", "/proc/self/status", capabilities={})
    assert code == 0, err
    assert {_status(out)[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}


def _bits(names: list[str]) -> int:
    from minicontainer.kernel.flags import CAPABILITIES

    return sum(1 << CAPABILITIES.index(name) for name in names)


def test_no_new_privileges_of_the_container_hold_for_exec(oci: Oci) -> None:
    """What was started without the way to more rights does not get it by exec."""
    oci.running(noNewPrivileges=True)
    assert _status(oci.ok("exec", "one", "cat", "/proc/self/status"))["NoNewPrivs"] == "1"


def test_groups_are_those_of_the_config(oci: Oci) -> None:
    """CVE-2022-36109: supplementary groups are exactly those asked for, none of the caller's, by run and exec."""
    mine = [20, 7, 4000]
    settings = {"prefix": ("setpriv", "--groups", "0,1,2,3,4")}
    for user, groups in (({"uid": 0, "gid": 0}, ""), ({"uid": 5, "gid": 6, "additionalGids": mine}, "7 20 4000")):
        oci.write("cat", "/proc/self/status", user=user)
        assert " ".join(_status(oci.ok("run", "one", **settings))["Groups"].split()) == groups
    oci.running(user={"uid": 5, "gid": 6, "additionalGids": mine})
    for words, groups in (
        ((), "7 20 4000"),
        (("--additional-gids", "9"), "7 9 20 4000"),
        (("--user", "8:9"), None),
    ):
        status = _status(oci.ok("exec", *words, "one", "cat", "/proc/self/status", **settings))
        assert groups is None or " ".join(status["Groups"].split()) == groups, words
        assert not {"1", "2", "3", "4"} & set(status["Groups"].split())
    code, out, _ = _exec(oci, "cat", "/proc/self/status", user={"uid": 1, "gid": 1})
    assert code == 0 and _status(out)["Groups"] == ""


# A user as exec's option: its uid and gid, or None where it must be refused. None of these is root's.
USERS = [
    ("1", (1, 0)), ("1:2", (1, 2)), ("2147483648", (2**31, 0)), ("4294967294:4294967294", (2**32 - 2, 2**32 - 2)),
    ("4294967295", None), ("4294967296", None), ("-1", None), ("18446744073709551616", None), ("1:4294967295", None), ("1:-1", None), ("1:", None),
    (":1", None), ("x", None), ("1x", None), ("0x1", None), ("1e3", None), ("+1", (1, 0)), ("-+1", None), (" 1", None), ("1 ", None), ("1:2:3", None),
    ("1_0", None), ("\u0661", None), ("nobody", None), ("1\n0", None), ("--", None), ("9" * 5000, None),
]  # fmt: skip


@pytest.mark.parametrize("name", ["one"])
def test_users_of_exec_are_read_exactly(oci: Oci, name: str) -> None:
    """CVE-2026-30892, CVE-2024-40635: a uid that is not one, or that wraps round, is refused, and never becomes root."""
    oci.running()
    for user, expected in USERS[:: 4 if SLOW else 1]:
        done = oci.do("exec", f"--user={user}", name, "cat", "/proc/self/status")
        if expected is None:
            assert done.code == 255 and done.out == "" and "Traceback" not in done.err, (user, done)
        else:
            status = _status(done.out)
            assert (status["Uid"].split(), status["Gid"].split()) == ([str(expected[0])] * 4, [str(expected[1])] * 4), (user, done)


@pytest.mark.parametrize("user", [2**32 - 1, 2**32, -1, 2**64, 0.5, "0", None])
def test_users_of_a_process_file_are_read_exactly(oci: Oci, user: object) -> None:
    """The same by process.json and config.json; null is Go's zero."""
    done = oci.run("cat", "/proc/self/status", user={"uid": user, "gid": 7})
    if user is None:
        assert _status(done.out)["Uid"].split() == ["0"] * 4
        return
    assert done.code == 1 and "process.user.uid" in done.err
    oci.running(user={"uid": 0, "gid": 0})
    code, out, err = _exec(oci, "cat", "/proc/self/status", user={"uid": user, "gid": 7})
    assert (code, out) == (255, "") and "user.uid" in err


# -- files of the image that are read on the host's side -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["fifo", "link to the host", "relative link", "folder", "zero", "huge", "device", "link loop", "magic link"]
)
def test_passwd_that_is_no_file(oci: Oci, kind: str) -> None:
    """CVE-2024-9676: /etc/passwd of the image, where HOME comes from, is a FIFO, a link to the host's, endless: no waiting, nothing read."""
    secret = oci.folder / "secret"
    secret.write_text("x:x:0:0:x:/of-the-host:/bin/sh\nroot:x:0:0:x:/of-the-host:/bin/sh\n")
    path = oci.rootfs / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to the host":
        path.symlink_to(secret)
    elif kind == "relative link":
        path.symlink_to("../" * 20 + str(secret))
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with open(path, "w") as f:
            f.truncate(1 << 40)
    elif kind == "device":
        os.mknod(path, 0o020666, os.makedev(1, 5))
    elif kind == "link loop":
        path.symlink_to("passwd")
    else:
        path.symlink_to(f"/proc/{os.getpid()}/root{secret}")
    began = time.monotonic()
    done = oci.run("sh", "-c", "echo HOME=$HOME")
    assert time.monotonic() - began < (60 if SLOW else 10)
    assert "of-the-host" not in done.out + done.err
    assert "Traceback" not in done.err
    if done.code == 0:
        oci.running()
        assert "of-the-host" not in oci.ok("exec", "one", "sh", "-c", "echo HOME=$HOME")


# -- the terminal, keys, queues, tracing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_terminal_of_the_caller_is_not_the_containers(oci: Oci, verb: str) -> None:
    """TIOCSTI and /dev/tty: a process that is given the caller's terminal as its streams does not have it as its controlling terminal."""
    script = "(: </dev/tty) 2>&1; ps -o pid,tty; echo end"
    if verb == "run":
        oci.write("sh", "-c", script)
        terminal = Terminal(oci.command("run", "--bundle", str(oci.bundle), "one"))
    else:
        oci.running()
        terminal = Terminal(oci.command("exec", "one", "sh", "-c", script))
    try:
        assert terminal.wait() == 0
        assert b"can't open /dev/tty: No such device or address" in terminal.shown, terminal.shown
    finally:
        terminal.close()


_SEARCH = """
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { /* KEYCTL_SEARCH in KEY_SPEC_SESSION_KEYRING */
    puts(syscall(SYS_keyctl, 10, -3, "user", "mc-oci-secret", 0) < 0 ? "no such key" : "found");
}
"""


def test_keys_of_the_caller_stay_outside(oci: Oci) -> None:
    """The session keyring is a new one: a key that the caller has in its own can't be found from inside, by run or exec."""
    if not Path("/proc/keys").exists() or not shutil.which("gcc"):
        pytest.skip("this kernel has no keyrings" if shutil.which("gcc") else "gcc is not installed: apt-get install gcc")
    program = oci.rootfs / "bin" / "search"
    subprocess.run(["gcc", "-static", "-x", "c", "-o", program, "-"], input=_SEARCH, text=True, check=True)
    library = ctypes.CDLL(None, use_errno=True)
    add_key, keyctl = (248, 250) if os.uname().machine == "x86_64" else (217, 219)

    def leaky() -> None:
        library.syscall(keyctl, 1, b"mc-oci-caller")  # KEYCTL_JOIN_SESSION_KEYRING
        library.syscall(add_key, b"user", b"mc-oci-secret", b"secret", 6, -3)  # KEY_SPEC_SESSION_KEYRING

    assert subprocess.check_output([program], preexec_fn=leaky) == b"found\n"
    oci.write("search")
    assert oci.ok("run", "one", preexec_fn=leaky) == "no such key\n"
    oci.running("sleep", "600")
    assert oci.ok("exec", "one", "search", preexec_fn=leaky) == "no such key\n"


def test_message_queues_of_the_host_stay_outside(oci: Oci) -> None:
    """A POSIX queue of the host is not in the container's /dev/mqueue, and one made there is not on the host."""
    oci.config["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]})
    name = f"/mc-oci-{os.getpid()}".encode()
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    queue = library.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if queue < 0:
        pytest.skip(f"no message queue can be made here: {os.strerror(ctypes.get_errno())}")
    try:
        assert oci.sh("ls /dev/mqueue; touch /dev/mqueue/mc-oci-inside && ls /dev/mqueue") == "mc-oci-inside\n"
    finally:
        library.mq_unlink(name)
        os.close(queue)
    assert library.mq_open(b"/mc-oci-inside", os.O_RDWR, 0, None) < 0


def test_abstract_sockets_of_the_host_stay_outside(oci: Oci) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0mc-oci-abstract")
        server.listen()
        assert "mc-oci-abstract" not in oci.sh("cat /proc/net/unix")


def test_exec_can_not_be_looked_into_by_the_container(oci: Oci) -> None:
    """CVE-2016-9962: with CAP_SYS_PTRACE a container may look through every process of its pid namespace: by none that enters it is there
    a way to a file of the host, by its root, its working directory or a descriptor."""
    (oci.folder / "marker").write_text("of the host")
    for names in oci.config["process"]["capabilities"].values():
        names.append("CAP_SYS_PTRACE")
    (oci.rootfs / "seen").touch()
    marker = f"{oci.folder}/marker"
    ways = " ".join(f"/proc/[!1]*/{way}{marker}" for way in ("root", "cwd", "fd/*", "fd/*/1/root"))
    oci.running("sh", "-c", f"while :; do cat {ways}; readlink /proc/[!1]*/exe; done >/seen 2>/dev/null")
    for _ in range(3 if SLOW else 15):
        oci.ok("exec", "one", "true")
    seen = (oci.rootfs / "seen").read_text()
    assert "of the host" not in seen
    assert not re.search("^/(?!memfd|bin/)", seen, re.MULTILINE), f"programs of the host: {set(seen.splitlines())}"


def test_container_that_floods_its_output_holds_up_nobody(oci: Oci) -> None:
    """state, kill and delete work on a container whose process writes all the time and ignores signals."""
    oci.running("sh", "-c", "trap '' TERM INT HUP; while :; do echo x; done >/dev/null")
    threads = [threading.Thread(target=oci.do, args=("state", "one")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    oci.ok("kill", "one", "TERM")
    oci.ok("kill", "one", "KILL")
    until(lambda: json.loads(oci.ok("state", "one"))["status"] == "stopped", "it ends")
    oci.ok("delete", "one")
