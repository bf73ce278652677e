"""Ops as bytes, and the interpreter that runs them, here in this process. No root."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
from pathlib import Path

from minicontainer.kernel.flags import PROC_SUPER_MAGIC, RESOLVE_BENEATH, S_IF, O
from minicontainer.runtime.launch import STUB
from minicontainer.stub import ops, outcome, program
from minicontainer.stub.ops import Blob, PointerTo, Slot, make, mkdir, openat2, store, syscall, wait, write_file
from minicontainer.stub.program import DONE, FAILED, FORGIVEN, PENDING, SKIPPED, Program
from tests.unit.stub.interpreter import close, run, states

FIRST_ARGUMENT = program._PLAN.size + 16  # of the first op
HEADER = os.path.join(os.path.dirname(STUB), "plan.h")


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
