"""Ops in words: the call as strace prints it, JSON arguments, and what an errno means for a person."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from minicontainer.kernel.flags import AT_FDCWD, CLONE, FSCONFIG, MOUNT_ATTR, MOVE_MOUNT, MS, PR, RESOLVE_IN_ROOT, O
from minicontainer.stub import describe
from minicontainer.stub.ops import (
    UNKNOWN_PID,
    Blob,
    Op,
    PointerTo,
    Slot,
    execute,
    make,
    mkdir,
    openat2,
    rtnl,
    send_fd,
    store,
    syscall,
    wait,
    write_file,
)

ROOT = Slot("root")
CASES = [
    (mkdir("/a", 0o750, why=""), 'mkdirat(AT_FDCWD, "/a", 0o750)'),
    (syscall("mount", "overlay", "/m", "overlay", MS["MS_NOSUID"], "lowerdir=/l", why=""), 'mount("overlay", "/m", "overlay", MS_NOSUID, "lowerdir=/l")'),
    (syscall("mount", 0, "/", 0, MS["MS_REC"] | MS["MS_PRIVATE"], 0, why=""), 'mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)'),
    (openat2(ROOT, "x", O["O_PATH"], out=Slot("x"), resolve=RESOLVE_IN_ROOT, why=""), 'openat2(<root>, "x", {O_CLOEXEC|O_PATH, RESOLVE_IN_ROOT}, 24)'),
    (syscall("fsconfig", Slot("c"), FSCONFIG["FSCONFIG_CMD_CREATE"], 0, 0, 0, why=""), "fsconfig(<c>, FSCONFIG_CMD_CREATE, NULL, NULL, NULL)"),
    (syscall("fsmount", Slot("c"), 1, MOUNT_ATTR["MOUNT_ATTR_RDONLY"], why=""), "fsmount(<c>, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY)"),
    (syscall("move_mount", Slot("m"), "", Slot("t"), "", MOVE_MOUNT["MOVE_MOUNT_F_EMPTY_PATH"], why=""), 'move_mount(<m>, "", <t>, "", MOVE_MOUNT_F_EMPTY_PATH)'),
    (syscall("mount_setattr", Slot("m"), "", 0x9000, Blob(pack("QQQQ", 1, 2, MS["MS_PRIVATE"], 0)), 32, why=""),
     'mount_setattr(<m>, "", AT_EMPTY_PATH|AT_RECURSIVE, {set MOUNT_ATTR_RDONLY, clear MOUNT_ATTR_NOSUID, MS_PRIVATE}, 32)'),
    (syscall("mknodat", ROOT, "null", 0o020666, 0x103, why=""), 'mknodat(<root>, "null", S_IFCHR|0o666, makedev(1, 3))'),
    (syscall("unshare", CLONE["CLONE_NEWCGROUP"], why=""), "unshare(CLONE_NEWCGROUP)"),
    (syscall("prctl", PR["PR_CAPBSET_DROP"], 21, 0, 0, 0, why=""), "prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)"),
    (syscall("prctl", PR["PR_SET_PDEATHSIG"], 9, why=""), "prctl(PR_SET_PDEATHSIG, SIGKILL)"),
    (syscall("prctl", PR["PR_CAP_AMBIENT"], 2, 13, 0, 0, why=""), "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0)"),
    (syscall("seccomp", 1, 4, PointerTo(bytes(16), 8, b"x", "9 BPF instructions"), why=""),
     "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, {9 BPF instructions})"),
    (syscall("close_range", 3, 0xFFFFFFFF, 4, why=""), "close_range(3, ~0, CLOSE_RANGE_CLOEXEC)"),
    (syscall("fchown", Slot("f"), 5, 0xFFFFFFFF, why=""), "fchown(<f>, 5, -1)"),
    (syscall("fchownat", Slot("f"), "n", 1, 2, 0x100, why=""), 'fchownat(<f>, "n", 1, 2, AT_SYMLINK_NOFOLLOW)'),
    (syscall("setns", Slot("n"), CLONE["CLONE_NEWNET"], why=""), "setns(<n>, CLONE_NEWNET)"),
    (syscall("socket", 16, 3 | 0o2000000, 12, why=""), "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER)"),
    (write_file("/p", "a\nb", why=""), 'write(/p, "a\\nb")'),
    (write_file("p", f"{UNKNOWN_PID}", why="", dir=ROOT), 'write(<root>/p, "PID")'),
    (make(ROOT, "a/b", out=Slot("a/b"), why=""), 'openat2(<root>, "a/b", O_PATH, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS), mkdirat where missing'),
    (rtnl(Slot("s"), b"xx", f"link add netns {UNKNOWN_PID}", why=""), "sendto(rtnetlink, link add netns PID)"),
    (wait(Slot("s"), why=""), "read(<s>, 1 byte)"),
    (send_fd(Slot("s"), Slot("f"), "text", why=""), "sendmsg(<s>, SCM_RIGHTS <f>)"),
    (store(Slot("f"), Blob(b"", "attr"), 4, why=""), "{attr}: the word at 4 = <f>"),
    (execute(["/bin/x", "/x"], ["x", "a b"], ["A=1"], why=""), 'execve("/bin/x" (or 1 more folders of PATH), ["x", "a b"], 1 variables)'),
]  # fmt: skip


@pytest.mark.parametrize(("op", "text"), CASES, ids=[text[:40] for _, text in CASES])
def test_calls_in_words(op: Op, text: str) -> None:
    """The real call, with decoded flags."""
    assert describe.call(op) == text


def test_long_texts_are_cut_for_people_and_whole_for_programs() -> None:
    """A line stays readable; JSON has all of it."""
    op = mkdir("x" * 5000, why="")
    assert len(describe.call(op)) < 300
    assert describe.arguments(op) == ["AT_FDCWD", "x" * 5000, "0o755"]


def test_json_arguments() -> None:
    """Numbers stay numbers, flags are words, what has no length of its own has none."""
    assert describe.arguments(write_file("/p", b"data", why="")) == ["AT_FDCWD", "/p", "data", "O_WRONLY", "0"]
    assert describe.arguments(execute(["/a"], ["a"], [], why="")) == [["/a"], ["a"], []]
    assert describe.arguments(syscall("setresuid", 1, 2, 3, why="")) == [1, 2, 3]
    assert describe.arguments(syscall("x", AT_FDCWD, UNKNOWN_PID, why="")) == [AT_FDCWD, "PID"]


@pytest.mark.parametrize(("op", "error", "part"), [
    (syscall("mount", "overlay", "/m", "overlay", 0, "", why=""), errno.ENODEV, "modprobe"),
    (syscall("mount", "overlay", "/m", "overlay", 0, "", why=""), errno.EINVAL, "--root"),
    (mkdir("/x", why=""), errno.ENOSPC, "df"), (mkdir("/x", why=""), errno.EROFS, "--root"),
    (syscall("prlimit64", 0, 7, Blob(bytes(16)), 0, why=""), errno.EPERM, "CAP_SYS_RESOURCE"),
    (write_file("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1", why=""), errno.EBUSY, "it uses more than that now"),
    (make(ROOT, "a", out=Slot("a"), why=""), errno.EROFS, "read only"),
    (syscall("openat2", 0, "", Blob(b""), 24, why=""), errno.ENOSYS, "5.6"),
])  # fmt: skip
def test_hints(op: Op, error: int, part: str) -> None:
    """What an errno means here, and what to try."""
    assert part in describe.hint(op, error)


def test_no_hint_is_empty() -> None:
    """Nothing is made up."""
    assert describe.hint(syscall("fchdir", 3, why=""), errno.EIO) == ""


@pytest.mark.parametrize(("code", "text"), [(13, "Permission denied (EACCES)"), (1001, "exit status 1"), (1309, "killed by signal 9")])
def test_why_an_op_failed(code: int, text: str) -> None:
    """An errno in words, or what became of a program that an op ran."""
    assert describe.outcome(code) == text
