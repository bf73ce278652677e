"""Ops as bytes, and the interpreter that runs them: here in this process, and in the stub itself. No root."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import socket
from pathlib import Path

import pytest

from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import PROC_SUPER_MAGIC, RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, S_IF, O
from minicontainer.runtime.launch import STUB
from minicontainer.stub import ops, outcome, program
from minicontainer.stub.ops import Blob, Op, PointerTo, Slot, execute, make, mkdir, openat2, store, syscall, wait, write_file
from minicontainer.stub.program import DONE, ENTERED, FAILED, FORGIVEN, PENDING, SKIPPED, Program, Result

FIRST_ARGUMENT = program._PLAN.size + 16  # of the first op
HEADER = os.path.join(os.path.dirname(STUB), "plan.h")


def run(*steps: Op, fds: dict[Slot, int] | None = None) -> tuple[int, list[Result], Program]:
    """Runs ops in this process: the index of the failed one or -1, and the results."""
    p = Program(list(steps), fds or {})
    failed = spawn.run_here(p.code)
    return failed, p.results(), p


def states(results: list[Result]) -> list[int]:
    return [r.state for r in results]


def close(p: Program, *slots: Slot) -> None:
    for slot in slots:
        os.close(p.descriptor(slot))


# -- one definition ----------------------------------------------------------------------------------------------------------


def test_kinds_and_states_are_the_headers() -> None:
    """plan.h and Python number op kinds, states and sizes alike."""
    with open(HEADER) as f:
        text = f.read()
    kinds = {name: int(value) for name, value in re.findall(r"OP_(\w+) = (\d+),", text)}
    names = ("SYSCALL", "WRITE", "MAKE", "RTNL", "WAIT", "SENDFD", "EXEC", "STORE", "RUN", "FIND", "CLONE", "NODE", "FSTYPE")
    assert {n: kinds[n] for n in names} == {n: getattr(ops, n) for n in names}
    ends = {name: int(value) for name, value in re.findall(r"#define PLAN_(\w+) (\d{4})", text)}
    assert ends == {"EXITED": ops.EXITED, "SIGNALLED": ops.SIGNALLED}
    assert [kinds[s.upper()] for s in program.STATES] == list(range(6))


# -- ops ---------------------------------------------------------------------------------------------------------------------


def test_results(tmp_path: Path) -> None:
    """Each op has its state, value and time; what is done is done."""
    failed, results, _ = run(mkdir(f"{tmp_path}/a", why="one"), mkdir(f"{tmp_path}/a/b", 0o700, why="two"))
    assert failed == -1
    assert states(results) == [DONE, DONE]
    assert all(r.begin_ns > 0 and r.duration_ns >= 0 and r.errno == 0 for r in results)
    assert results[1].begin_ns >= results[0].begin_ns + results[0].duration_ns
    assert (tmp_path / "a" / "b").is_dir()


def test_a_failure_stops(tmp_path: Path) -> None:
    """The first failure is the last op that runs."""
    failed, results, p = run(mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/b", why=""))
    assert failed == 1 == p.failed()
    assert states(results) == [DONE, FAILED, PENDING]
    assert results[1].errno == errno.EEXIST
    assert not (tmp_path / "b").exists()


def test_forgiven_failures_and_what_hangs_on_them(tmp_path: Path) -> None:
    """An errno that the op names is no failure; ops that need the descriptor it did not get are skipped, the others go on."""
    slot, other = Slot("missing"), Slot("there")
    failed, results, p = run(
        openat2(None, f"{tmp_path}/nosuch", O["O_PATH"], out=slot, ok=(errno.ENOENT, errno.ENOTDIR), why=""),
        mkdir("below", why="", dir=slot),
        openat2(None, str(tmp_path), O["O_PATH"], out=other, why=""),
        mkdir("below", why="", dir=other),
    )
    assert failed == -1
    assert states(results) == [FORGIVEN, SKIPPED, DONE, DONE]
    assert results[0].errno == errno.ENOENT
    assert p.descriptor(slot) == -1
    assert (tmp_path / "below").is_dir()
    close(p, other)


def test_only_named_errnos_are_forgiven(tmp_path: Path) -> None:
    """Another errno than the named is a failure."""
    failed, results, _ = run(mkdir(f"{tmp_path}/no/such", why="", ok=(errno.EEXIST,)))
    assert (failed, results[0].state, results[0].errno) == (0, FAILED, errno.ENOENT)


def test_descriptors_are_passed_on_and_close_on_exec(tmp_path: Path) -> None:
    """A slot takes the descriptor that an op yields, and is passed as an argument to the next."""
    slot = Slot("folder")
    failed, results, p = run(
        openat2(None, str(tmp_path), O["O_PATH"], out=slot, why=""), syscall("symlinkat", "target", slot, "link", why="")
    )
    assert failed == -1
    assert os.readlink(tmp_path / "link") == "target"
    assert results[0].value == p.descriptor(slot)
    assert not os.get_inheritable(p.descriptor(slot))
    close(p, slot)


def test_given_descriptors(tmp_path: Path) -> None:
    """Slots can be filled from the start."""
    slot = Slot("given")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert run(mkdir("a", why="", dir=slot), fds={slot: fd})[0] == -1
    os.close(fd)
    assert (tmp_path / "a").is_dir()


def test_write_file(tmp_path: Path) -> None:
    """One write of the whole, also of binary data; a file that is not there is not made."""
    (tmp_path / "file").write_text("longer than what follows")
    data = bytes(range(256))
    assert run(write_file(f"{tmp_path}/file", data, why=""))[0] == -1
    assert (tmp_path / "file").read_bytes()[:256] == data
    failed, results, _ = run(write_file(f"{tmp_path}/nosuch", "x", why=""))
    assert (failed, results[0].errno) == (0, errno.ENOENT)
    assert not (tmp_path / "nosuch").exists()


def test_write_file_below_a_descriptor(tmp_path: Path) -> None:
    """With a folder and RESOLVE_BENEATH no link leads out of it."""
    (tmp_path / "outside").write_text("as it was")
    (tmp_path / "in").mkdir()
    os.symlink("../outside", tmp_path / "in" / "link")
    slot = Slot("in")
    folder = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    failed, results, _ = run(write_file("link", "changed", why="", dir=slot, resolve=RESOLVE_BENEATH), fds={slot: folder})
    os.close(folder)
    assert (failed, results[0].errno) == (0, errno.EXDEV)
    assert (tmp_path / "outside").read_text() == "as it was"


def test_no_file_is_left_open(tmp_path: Path) -> None:
    """write_file and make close what they open but the result."""
    (tmp_path / "file").touch()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    before = set(os.listdir("/proc/self/fd"))
    _, _, p = run(write_file(f"{tmp_path}/file", "x", why=""), make(root, "a/b/c/d", out=slot, why=""), fds={root: folder})
    assert {int(n) for n in set(os.listdir("/proc/self/fd")) - before if os.path.lexists(f"/proc/self/fd/{n}")} == {
        p.descriptor(slot)
    }
    close(p, slot)
    os.close(folder)


@pytest.mark.parametrize(("path", "made"), [
    ("a", "a"), ("a/b/c", "a/b/c"), ("there/b", "there/b"), ("link/b", "there/b"), ("absolute/b", "there/b"), ("up/x", "x"), ("deep/../b", "b"),
    ("there", "there"), (".", "."), ("a//b/", "a/b"),
])  # fmt: skip
def test_make(tmp_path: Path, path: str, made: str) -> None:
    """A path is made where it is missing; links are followed within the root, and `..` never leads above it."""
    top = tmp_path / "root"
    (top / "there").mkdir(parents=True)
    (top / "deep").mkdir()
    os.symlink("there", top / "link")
    os.symlink("/there", top / "absolute")
    os.symlink("../../..", top / "up")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, path, out=slot, why="", mode=0o750), fds={root: folder})
    assert failed == -1
    assert os.path.realpath(f"/proc/self/fd/{p.descriptor(slot)}") == os.path.realpath(top / made)
    assert sorted(os.listdir(tmp_path)) == ["root"]
    close(p, slot)
    os.close(folder)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("nowhere/at/all", "etc/nowhere/at/all"),
        ("/run/x", "run/x"),
        ("../run/systemd/resolv.conf", "run/systemd/resolv.conf"),
        ("../../../../../tmp/x", "tmp/x"),
        ("second", "third/x"),
        ("/there/new", "there/new"),
    ],
)
def test_make_behind_a_link_to_nothing(tmp_path: Path, target: str, made: str, file: bool) -> None:
    """The target of a link that leads to nothing is made, within the root: /etc/resolv.conf is often one into /run."""
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "there").mkdir()
    os.symlink(target, top / "etc" / "link")
    os.symlink("/third/x", top / "etc" / "second")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, "etc/link", out=slot, why="", file=file), fds={root: folder})
    assert failed == -1
    assert os.path.realpath(f"/proc/self/fd/{p.descriptor(slot)}") == str(top / made)
    assert (top / made).is_file() == file
    assert sorted(os.listdir(tmp_path)) == ["root"]
    close(p, slot)
    os.close(folder)


def test_make_below_a_link_to_nothing(tmp_path: Path) -> None:
    """Also in the middle of a path: /var/run/x, where /var/run leads to a /run that is not there."""
    (tmp_path / "var").mkdir()
    os.symlink("/run", tmp_path / "var" / "run")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root, slot = Slot("root"), Slot("made")
    failed, _, p = run(make(root, "var/run/docker.sock", out=slot, why="", file=True), fds={root: folder})
    assert failed == -1
    assert (tmp_path / "run" / "docker.sock").is_file()
    close(p, slot)
    os.close(folder)


def test_make_a_file(tmp_path: Path) -> None:
    """The last part is a file, the ones before are folders; what is there is left as it is."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    root, first, second = Slot("root"), Slot("first"), Slot("second")
    (tmp_path / "kept").write_text("content")
    _, _, p = run(
        make(root, "a/b/file", out=first, why="", file=True, mode=0o640),
        make(root, "kept", out=second, why="", file=True),
        fds={root: folder},
    )
    assert (tmp_path / "a" / "b" / "file").is_file()
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "kept").read_text() == "content"
    close(p, first, second)
    os.close(folder)


@pytest.mark.parametrize(("path", "error"), [("file/below", errno.ENOTDIR), ("loop/x", errno.ELOOP), ("x" * 300, errno.ENAMETOOLONG),
                                             ("/".join(["y" * 100] * 50), errno.ENAMETOOLONG), ("up", errno.ELOOP)])  # fmt: skip
def test_make_refuses(tmp_path: Path, path: str, error: int) -> None:
    """A file in the way, a loop of links, a path too long: an error, and nothing outside is made."""
    top = tmp_path / "root"
    top.mkdir()
    (top / "file").touch()
    os.symlink("loop", top / "loop")
    os.symlink("up", top / "up")
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    root = Slot("root")
    failed, results, _ = run(make(root, path, out=Slot("made"), why=""), fds={root: folder})
    os.close(folder)
    assert (failed, results[0].errno) == (0, error)
    assert os.listdir(tmp_path) == ["root"]


def test_structs_that_point() -> None:
    """Relocation makes a pointer of the word in a PointerTo, to the data behind it, and of more such words."""
    struct = PointerTo(bytes(24), 8, b"first", more=((16, b"second"),))
    failed, _, p = run(syscall("umask", 0o022, struct, why="its second argument is looked at by nobody"))
    assert failed == -1
    at = int.from_bytes(p.code[FIRST_ARGUMENT + 8 : FIRST_ARGUMENT + 16], "little")
    first, second = (int.from_bytes(ctypes.string_at(at + offset, 8), "little") for offset in (8, 16))
    assert (ctypes.string_at(first, 5), ctypes.string_at(second, 6)) == (b"first", b"second")
    assert ctypes.string_at(at, 8) == bytes(8)


def test_results_in_the_plans_own_bytes() -> None:
    """A Blob that a call fills is filled in the program's bytes: prlimit64(2) writes the limit there."""
    failed, _, p = run(syscall("prlimit64", 0, resource.RLIMIT_NOFILE, 0, Blob(bytes(16)), why=""))
    assert failed == -1
    at = int.from_bytes(p.code[FIRST_ARGUMENT + 24 : FIRST_ARGUMENT + 32], "little")
    assert ctypes.string_at(at, 8) == resource.getrlimit(resource.RLIMIT_NOFILE)[0].to_bytes(8, "little")


def test_store() -> None:
    """A descriptor is put into the struct that a later op passes: the number of 3 is read back by bpf, here by a pipe."""
    read, write = os.pipe()
    struct = Blob(bytes(8), "two ints")
    sink, given = Slot("pipe"), Slot("given")
    failed, _, p = run(store(given, struct, 4, why=""), syscall("write", sink, struct, 8, why=""), fds={sink: write, given: read})
    assert failed == -1
    assert os.read(read, 8) == bytes(4) + read.to_bytes(4, "little")
    os.close(read)
    os.close(write)
    assert p.failed() == -1


def test_equal_data_is_encoded_once() -> None:
    """Strings that come again do not make the plan longer by themselves."""
    text = "x" * 1000
    one = Program([mkdir(text, why="")], {})
    two = Program([mkdir(text, why=""), mkdir(text, why="")], {})
    assert len(two.code) - len(one.code) < 200


def test_many_descriptors() -> None:
    """A plan has as many slots as it needs: a container may have hundreds of mounts."""
    slots = [Slot(str(i)) for i in range(900)]
    failed, results, p = run(*(openat2(None, "/", O["O_PATH"], out=slot, why="") for slot in slots))
    close(p, *slots)
    assert failed == -1
    assert {p.descriptor(slot) for slot in slots} == {r.value for r in results}


def test_wait_is_an_error_when_the_parent_is_gone() -> None:
    """End of file instead of a go is EPIPE."""
    read, write = os.pipe()
    os.close(write)
    sync = Slot("sync")
    failed, results, _ = run(wait(sync, why=""), fds={sync: read})
    os.close(read)
    assert (failed, results[0].errno) == (0, errno.EPIPE)


def test_execute_that_can_not() -> None:
    """The errno of what was found counts: EACCES before ENOENT, as in execvp(3)."""
    for paths, error in (
        ([("/no/such"), "/etc/passwd"], errno.EACCES),
        (["/no/such", "/nor/this"], errno.ENOENT),
        (["/etc/passwd/x"], errno.ENOENT),
    ):
        failed, results, _ = run(execute(paths, ["x"], [], why=""))
        assert (failed, results[0].errno) == (0, error)


# -- the stub ------------------------------------------------------------------------------------------------------------------


def stub(*steps: Op, fds: dict[Slot, int] | None = None) -> tuple[int, Program, bytes]:
    """Runs ops in the stub, in a process of its own: its wait status, the program with results, what it wrote to 1."""
    null = os.open("/dev/null", os.O_RDWR)
    read, write = os.pipe()
    slots = {slot: 4 + i for i, slot in enumerate(fds or {})}
    p = Program(list(steps), slots)
    shared = spawn.SharedMemory(p.code)
    with open(STUB, "rb") as f:
        memfd = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(memfd, [null, write, null, shared.fd, *(fds or {}).values()], 0)
    for fd in (null, write, memfd, pidfd):
        os.close(fd)
    shared.close()
    with os.fdopen(read, "rb") as g:
        out = g.read()
    _, status = os.waitpid(pid, 0)
    p.code[:] = bytes(shared.view)
    return status, p, out


def test_stub_becomes_the_program() -> None:
    """The last op's execve replaces the stub: the program has the arguments and the environment, and the op stays entered."""
    status, p, out = stub(execute(["/no/such", "/bin/sh"], ["sh", "-c", "echo $0 $1 $A; exit 9", "zero", "one"], ["A=b c"], why=""))
    assert os.waitstatus_to_exitcode(status) == 9
    assert out == b"zero one b c\n"
    assert p.results()[-1].state == ENTERED


def test_stub_tells_what_failed(tmp_path: Path) -> None:
    """The results are in the shared memory when it has ended."""
    status, p, _ = stub(
        mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/a", why=""), execute(["/bin/true"], ["true"], [], why="")
    )
    assert os.waitstatus_to_exitcode(status) == 122
    assert p.failed() == 1
    assert states(p.results()) == [DONE, FAILED, PENDING]


def test_stub_ignores_no_signal() -> None:
    """Python ignores SIGPIPE, the program that the stub becomes does not."""
    _, _, out = stub(execute(["/bin/sh"], ["sh", "-c", "grep SigIgn /proc/self/status"], ["PATH=/bin:/usr/bin"], why=""))
    assert out.split() == [b"SigIgn:", b"0000000000000000"]


def test_stub_refuses_what_is_no_plan() -> None:
    """Bytes without the magic number are not run."""
    null = os.open("/dev/null", os.O_RDWR)
    shared = spawn.SharedMemory(bytearray(4096))
    with open(STUB, "rb") as f:
        memfd = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(memfd, [null, null, null, shared.fd], 0)
    for fd in (null, memfd, pidfd):
        os.close(fd)
    shared.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 121


def test_stub_waits_for_its_parent() -> None:
    """It goes on when it is told to."""
    read, write = os.pipe()
    os.write(write, b"g")
    sync = Slot("sync")
    status, p, out = stub(wait(sync, why=""), execute(["/bin/echo"], ["echo", "gone on"], [], why=""), fds={sync: read})
    os.close(read)
    os.close(write)
    assert (os.waitstatus_to_exitcode(status), out) == (0, b"gone on\n")
    assert p.results()[0].state == DONE


def test_stub_is_small_and_needs_nothing() -> None:
    """A static program of a few KiB without an interpreter: nothing of an image is loaded into it."""
    assert os.path.getsize(STUB) < 16384
    with open(STUB, "rb") as f:
        content = f.read()
    assert content[:4] == b"\x7fELF"
    assert b"ld-linux" not in content


# -- programs ----------------------------------------------------------------------------------------------------------------


def streams(tmp_path: Path, text: str) -> tuple[tuple[Slot, Slot, Slot], dict[Slot, int]]:
    """Slots of three files for a program: the first holds text, and is read to its end already."""
    slots = (Slot("in"), Slot("out"), Slot("err"))
    fds = [os.open(tmp_path / slot.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for slot in slots]
    os.write(fds[0], text.encode())
    return slots, dict(zip(slots, fds))


@pytest.mark.parametrize(
    ("script", "timeout", "ended"),
    [
        ("exit 0", 0, 0), ("exit 9", 5, ops.EXITED + 9), ("kill -15 $$", 0, ops.SIGNALLED + 15), ("sleep 60", 0.1, errno.ETIMEDOUT),
    ],
)  # fmt: skip
def test_how_a_program_ended(tmp_path: Path, script: str, timeout: float, ended: int) -> None:
    """Its status and signals are errnos of their own."""
    slots, fds = streams(tmp_path, "")
    failed, results, _ = run(ops.run("/bin/sh", ["sh", "-c", script], [], slots, timeout_seconds=timeout, why=""), fds=fds)
    assert (failed, results[0].errno) == (0 if ended else -1, ended)
    for fd in fds.values():
        os.close(fd)


def test_a_program_has_its_streams_folder_environment_and_signals(tmp_path: Path) -> None:
    """The input from its beginning, no descriptor of ours, no signal blocked or ignored (Python ignores SIGPIPE)."""
    slots, fds = streams(tmp_path, "input\n")
    leak = os.dup(fds[slots[1]])
    os.set_inheritable(leak, True)
    script = "cat; pwd; echo $A; ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status >&2"
    step = ops.run("/bin/sh", ["sh", "-c", script], ["A=b", "PATH=/bin:/usr/bin"], slots, cwd=str(tmp_path), why="")
    assert run(step, step, fds=fds)[0] == -1
    once = f"input\n{tmp_path}\nb\n0 1 2 3 "
    assert (tmp_path / "out").read_text() == once * 2
    assert {line.split()[1] for line in (tmp_path / "err").read_text().splitlines()} == {"0" * 16}
    for fd in (leak, *fds.values()):
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "cwd", "code"),
    [("/no/such", "", errno.ENOENT), ("/etc/passwd", "", errno.EACCES), ("/bin/true", "/no/such", errno.ENOENT)],
)
def test_a_program_that_can_not_be_run(tmp_path: Path, path: str, cwd: str, code: int) -> None:
    """The errno of execve or chdir."""
    slots, fds = streams(tmp_path, "")
    failed, results, _ = run(ops.run(path, ["x"], [], slots, cwd=cwd, why=""), fds=fds)
    assert (failed, results[0].errno) == (0, code)
    for fd in fds.values():
        os.close(fd)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["none"], errno.ENOENT), (["file"], errno.EACCES), (["none", "file"], errno.EACCES), (["folder"], errno.EACCES),
        (["file/x"], errno.ENOENT), (["none", "program"], 0), (["file", "program"], 0),
    ],
)  # fmt: skip
def test_what_could_be_executed(tmp_path: Path, names: list[str], code: int) -> None:
    """Told as execve would tell it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch(0o600)
    (tmp_path / "program").touch(0o700)
    failed, results, _ = run(ops.find([f"{tmp_path}/{name}" for name in names], ["x"], why=""))
    assert (failed, results[0].errno) == (0 if code else -1, code)


def test_the_failure_of_a_plan_is_read_without_its_ops(tmp_path: Path) -> None:
    """Which op, of how many, and why; None if none failed."""
    _, _, p = run(mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/a", why=""), mkdir(f"{tmp_path}/b", why=""))
    assert outcome.failure(bytes(p.code)) == (1, 3, errno.EEXIST)
    assert outcome.failure(bytes(run(mkdir(f"{tmp_path}/c", why=""))[2].code)) is None


def test_what_a_name_is() -> None:
    """Kind and device number of what is there, links not followed; anything else is EEXIST."""
    dev = Slot("dev")
    for name, kind, device, expected in (
        ("null", S_IF["S_IFCHR"], os.makedev(1, 3), -1),
        ("null", S_IF["S_IFCHR"], os.makedev(1, 5), 0),
        ("null", S_IF["S_IFBLK"], os.makedev(1, 3), 0),
        ("stdin", S_IF["S_IFCHR"], os.makedev(1, 3), 0),
    ):
        fd = os.open("/dev", os.O_PATH | os.O_DIRECTORY)
        failed, results, _ = run(ops.check_node(dev, name, kind, device, why=""), fds={dev: fd})
        os.close(fd)
        assert failed == expected and (failed < 0 or results[0].errno == errno.EEXIST), name


def test_on_what_file_system() -> None:
    """By its magic, or by not having it; else EXDEV."""
    for path, other, expected in (("/proc", False, -1), ("/dev", False, 0), ("/proc", True, 0), ("/dev", True, -1)):
        where, fd = Slot("where"), os.open(path, os.O_PATH)
        failed, results, _ = run(ops.check_filesystem(where, PROC_SUPER_MAGIC, other=other, why=""), fds={where: fd})
        os.close(fd)
        assert failed == expected and (failed < 0 or results[0].errno == errno.EXDEV), path


def test_a_second_birth() -> None:
    """The child goes on with the plan as a child of ours; its pidfd comes with the text; the first process ends well."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sync, word = Slot("sync"), Blob(b"went on")
    p = Program([ops.clone(sync, 0, "born", why=""), syscall("write", sync, word, 7, why=""), wait(sync, why="")], {sync: 4})
    shared = spawn.SharedMemory(p.code)
    with open(STUB, "rb") as f:
        stub = calls.sealed_memfd("stub", f.read())
    pid, pidfd = spawn.spawn(stub, [0, 1, 2, shared.fd, theirs.fileno()], 0)
    theirs.close()
    said = {}
    for _ in range(2):
        text, control, _, _ = ours.recvmsg(64, 64)
        said[text] = [int.from_bytes(data[:4], "little") for _, _, data in control]
    assert set(said) == {b"born", b"went on"}
    assert os.waitpid(pid, 0)[1] == 0
    (child,) = said[b"born"]
    ours.send(b"g")
    ours.close()
    ended = os.waitid(os.P_PIDFD, child, os.WEXITED)
    assert ended and ended.si_pid != pid and ended.si_status == 122  # the plan's end without an execve
    assert [r.state for r in p.results(shared.view)] == [DONE, DONE, DONE]
    for fd in (pidfd, child, stub, shared.fd):
        os.close(fd)


def test_made_without_links(tmp_path: Path) -> None:
    """With RESOLVE_NO_SYMLINKS what is missing is made, and a link in the way, to something or to nothing, is ELOOP."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nothing")
    root, out = Slot("root"), Slot("out")
    for path, error in (("new/er", 0), ("real", 0), ("link", errno.ELOOP), ("link/x", errno.ELOOP), ("dangling", errno.ELOOP)):
        fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        _, results, p = run(make(root, path, out=out, resolve=RESOLVE_NO_SYMLINKS, why=""), fds={root: fd})
        os.close(fd)
        assert results[0].errno == error, path
        if not error:
            os.close(p.descriptor(out))
    assert (tmp_path / "new" / "er").is_dir() and not (tmp_path / "nothing").exists() and os.listdir(tmp_path / "real") == []
