"""The plan of an OCI spec as data: its order, and what must never be in it. No root: nothing is carried out."""

from __future__ import annotations

import os
from struct import unpack

import pytest

from minicontainer.kernel.flags import (
    AT_FDCWD,
    CLONE,
    MS,
    PR,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
)
from minicontainer.runtime.joining import make_exec_plan
from minicontainer.runtime.rootfs import Overlay, clean
from minicontainer.stub.ops import MAKE, WAIT, WRITE, Slot
from minicontainer.stub.program import Program
from tests.unit.runtime.planned import SPEC, Group, at, planned, why

# -- order -------------------------------------------------------------------------------------------------------------------


def test_dies_with_its_parent_from_the_first_op() -> None:
    """Before anything else, a start that is killed takes the container with it."""
    assert planned().container[0].args == (PR["PR_SET_PDEATHSIG"], 9)


def test_nobody_can_look_into_it() -> None:
    """PR_SET_DUMPABLE 0 comes before any descriptor of the host is opened (CVE-2016-9962)."""
    ops = planned().container
    assert at(ops, "prctl", PR["PR_SET_DUMPABLE"], 0) < min(
        i for i, op in enumerate(ops) if op.call in ("openat2", "open_tree", "mount")
    )


def test_mounts_are_private_before_the_first_one() -> None:
    """No mount of the container reaches the host."""
    ops = planned().container
    private = at(ops, "mount", 0, "/", 0, MS["MS_REC"] | MS["MS_PRIVATE"])
    assert private < min(
        i for i, op in enumerate(ops) if op.call in ("move_mount", "fsmount") or op.call == "mount" and i != private
    )


def test_root_is_left_after_all_that_needs_the_host() -> None:
    """pivot_root, then the host's root is unmounted, then no path is looked up but the program's."""
    ops = planned().container
    pivot = at(ops, "pivot_root", ".", ".")
    assert ops[pivot + 1].call == "umount2"
    assert not [
        op
        for op in ops[pivot:]
        if op.call in ("openat2", "open_tree", "move_mount", "mount", "mknodat") or op.kind in (MAKE, WRITE)
    ]
    assert why(ops, "is to be hidden") < pivot


def test_waits_once_for_the_host() -> None:
    """The container's half waits for the host's half exactly once, before it gives up its rights."""
    ops = planned().container
    (wait,) = [i for i, op in enumerate(ops) if op.kind == WAIT]
    assert wait < at(ops, "pivot_root", ".", ".")


def test_identity_is_last_and_in_order() -> None:
    """Close all, umask, bounding set, groups, gid, uid, capabilities, no ambient, signals, execve."""
    ops = planned(lambda s: s["process"]["user"].update(uid=1000, gid=1000)).container
    order = [at(ops, "close_range"), at(ops, "umask", 0o022), at(ops, "prctl", PR["PR_CAPBSET_DROP"], 1, 0, 0, 0), at(ops, "prctl", PR["PR_SET_KEEPCAPS"], 1, 0, 0, 0),
             at(ops, "setgroups"), at(ops, "setresgid"), at(ops, "setresuid"), at(ops, "capset"), at(ops, "prctl", PR["PR_CAP_AMBIENT"], 4, 0, 0, 0),
             at(ops, "rt_sigprocmask"), at(ops, "execve")]  # fmt: skip
    assert order == sorted(order)
    assert order[-1] == len(ops) - 1


def test_pdeathsig_is_set_again_after_the_user_has_changed() -> None:
    """A change of credentials clears it (prctl(2)); with die_with_parent it is said again, without it is taken away."""
    for wanted, value in ((True, 9), (False, 0)):
        ops = planned(die_with_parent=wanted).container
        last = max(i for i, op in enumerate(ops) if op.call == "prctl" and op.args[0] == PR["PR_SET_PDEATHSIG"])
        assert ops[last].args[1] == value
        assert last > at(ops, "capset")


def test_seccomp_is_as_late_as_it_can_be() -> None:
    """With no_new_privs after everything else; without it before the capabilities go that it takes. Few filters know close_range."""
    early = planned(seccomp=bytes(80)).container
    assert at(early, "close_range") < at(early, "seccomp") < at(early, "setresuid") < at(early, "capset")
    late = planned(lambda s: s["process"].update(noNewPrivileges=True), seccomp=bytes(80)).container
    assert at(late, "prctl", PR["PR_SET_NO_NEW_PRIVS"], 1, 0, 0, 0) < at(late, "seccomp")
    assert at(late, "close_range") < at(late, "seccomp")
    assert at(late, "capset") < at(late, "seccomp")
    assert not [op for op in planned().container if op.call == "seccomp"]


def test_cgroup_namespace_comes_after_the_cgroup() -> None:
    """Its root is the cgroup that the process is in when it is made, so it is no flag of the clone."""
    plan = planned(lambda s: s["linux"]["namespaces"].append({"type": "cgroup"}))
    assert not plan.flags & CLONE["CLONE_NEWCGROUP"]
    assert why(plan.container, "enter") < at(plan.container, "unshare", CLONE["CLONE_NEWCGROUP"])


# -- paths -------------------------------------------------------------------------------------------------------------------


def test_no_path_of_the_image_is_resolved_by_string() -> None:
    """After the root is open, whatever is named by a path relative to it goes through openat2 with RESOLVE_IN_ROOT and without
    magic links, and everything else by descriptor; paths from the host's root are the engine's own or a bind's source."""
    plan = planned()
    root = next(op.out for op in plan.container if op.out and op.out.name == "root")
    for op in plan.container:
        if op.call == "openat2" and op.args[0] is root:
            _, _, resolve = unpack("QQQ", op.args[2].data)
            assert resolve & ~RESOLVE_NO_SYMLINKS == RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, op.args
        elif root in op.args:
            assert op.kind == MAKE or op.call in ("fchdir", "mount_setattr", "open_tree"), op.call
    allowed = ("/dev/null", "/proc", "/c/merged", "/usr", "/sys/fs/cgroup")
    for op in plan.container:
        if op.args and op.args[0] == AT_FDCWD:
            assert str(op.args[1]).startswith(allowed), op.args


def test_attached_by_descriptor() -> None:
    """Every mount gets its place by two descriptors: no path is looked up again (CVE-2021-30465)."""
    for op in planned().container:
        if op.call == "move_mount":
            assert op.args[1] == op.args[3] == ""
            assert isinstance(op.args[0], Slot)
            assert isinstance(op.args[2], Slot)


def test_only_the_overlay_is_mounted_by_path() -> None:
    """mount(2) is used for the propagation of / and for the overlay on a folder of ours."""
    assert {op.args[1] for op in planned().container if op.call == "mount"} == {"/", "/c/merged"}


@pytest.mark.parametrize(("path", "expected"), [
    ("/a/b", "a/b"), ("/", "."), ("", "."), ("/../../etc", "etc"), ("/a/../../b", "b"), ("//a//./b/", "a/b"), ("a/..", "."), ("/a/b/../c", "a/c"),
])  # fmt: skip
def test_destinations_are_clean(path: str, expected: str) -> None:
    """Lexically, so that `..` is gone before the kernel sees it."""
    assert clean(path) == expected


def test_overlay_paths_are_quoted() -> None:
    """Commas, colons and backslashes in a path do not become options."""
    text = Overlay(["/a:b", "/c,d"], "/u\\", "/w", "/m").options()
    assert text.startswith("lowerdir=/a\\:b:/c\\,d,upperdir=/u\\\\,workdir=/w,")
    assert Overlay(["/a"], "/u", "/w", "/m", volatile=True).options().endswith(",volatile")


# -- what it says ---------------------------------------------------------------------------------------------------------------


def test_every_op_says_why() -> None:
    """One line each, for people."""
    plan = planned(seccomp=bytes(8))
    for op in (*plan.before, *plan.after(1), *plan.container):
        assert op.why
        assert "\n" not in op.why


def test_a_plan_can_be_encoded() -> None:
    """Every op has a number and fits the wire format."""
    plan = planned(lambda s: s["process"].update(terminal=True, consoleSize={"height": 30, "width": 100}), seccomp=bytes(800))
    assert plan.console is not None
    program = Program(list(plan.container), {plan.sync: 4, plan.console: 5})
    assert program.failed() == -1


# -- exec ------------------------------------------------------------------------------------------------------------------------


def test_exec_plan() -> None:
    """exec joins by pidfd after its limits are set, opens its folder below the container's root, and ends as a start does."""
    plan = make_exec_plan(
        {"process": SPEC["process"], "mounts": [], "root": {}}, ident="id", pid=os.getpid(), pidfd=9, cgroup=Group()
    )
    ops = plan.container
    join = at(ops, "setns")
    assert list(plan.inherit.values()) == [9]
    assert ops[join].args[0] in plan.inherit
    cwd = next(op for op in ops if op.call == "openat2" and op.args[1] == "/work")
    assert unpack("QQQ", cwd.args[2].data)[2] == RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    assert ops.index(cwd) > join
    assert join < at(ops, "close_range") < at(ops, "capset") < len(ops) - 1
    assert not [op for op in ops if op.call in ("mount", "move_mount", "pivot_root")]


def test_who_waits_for_start_holds_nothing_of_the_host() -> None:
    """Beyond the standard streams, what is passed on and what the rest of the plan needs, descriptors are closed, not just marked."""
    plan = planned(waits=True, passed=1)
    ops, close = plan.container, at(plan.container, "close_range")
    assert ops[close].args == (3 + 1 + 2, 0xFFFFFFFF, 0)
    assert [op.args[1] for op in ops[:close] if op.call == "dup3"][-3:] == [3, 4, 5]
    assert {op.out for op in ops[:close] if op.call == "dup3"} >= {plan.sync, plan.fifo}
    kept = {plan.sync, plan.fifo, *(op.out for op in ops[close:])}
    assert all(a in kept for op in ops[close:] for a in op.args if isinstance(a, Slot))
