"""The plan of an OCI spec as data: its order, and what must never be in it. No root: nothing is carried out."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from struct import unpack
from typing import Any

import pytest

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import (
    AT_FDCWD,
    AT_RECURSIVE,
    CAPABILITIES,
    CLONE,
    MS,
    PR,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
)
from minicontainer.runtime import capabilities, process
from minicontainer.runtime.joining import make_exec_plan
from minicontainer.runtime.plan import Network, Plan, make_plan
from minicontainer.runtime.rootfs import Overlay, clean
from minicontainer.stub.ops import EXEC, MAKE, WAIT, WRITE, Op, Slot, mkdir, rtnl
from minicontainer.stub.program import Program


class Group:
    """A cgroup.Cgroup that touches nothing."""

    def __init__(self, unified: str | None = None) -> None:
        self.unified = unified

    def create_ops(self, resources: dict) -> list[Op]:
        return [mkdir("/sys/fs/cgroup/x", why="the group")]

    def enter_ops(self, pid: int = 0) -> list[Op]:
        return [mkdir(f"/sys/fs/cgroup/enter/{pid}", why="enter")]

    born_outside = False

    def unified_dir(self) -> str | None:
        return self.unified

    def mounts(self) -> list:
        return []


SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "args": ["sh", "-c", "true"], "env": ["PATH=/bin:/usr/bin", "A=1"], "cwd": "/work", "user": {"uid": 0, "gid": 0, "additionalGids": [0, 5]},
        "capabilities": {s: ["CAP_CHOWN", "CAP_KILL"] for s in ("bounding", "effective", "permitted")}, "oomScoreAdj": 0,
    },
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        {"destination": "/data", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("mount", "pid", "network", "ipc", "uts")], "maskedPaths": ["/proc/keys", "/sys/firmware", "/own/path"],
        "readonlyPaths": ["/proc/sys"], "sysctl": {"net.ipv4.ip_forward": "1"},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}],
    },
}  # fmt: skip
LAYERS = Overlay(["/layers/a", "/layers/b"], "/c/upper", "/c/work", "/c/merged")


def planned(change: Callable[[dict], object] = lambda spec: None, **more: Any) -> Plan:
    spec = copy.deepcopy(SPEC)
    change(spec)
    return make_plan(
        spec, ident="id", bundle="/bundle", cgroup=more.pop("cgroup", Group()), overlay=more.pop("overlay", LAYERS), **more
    )


def at(ops: list[Op], call: str, *first: object) -> int:
    """The place of the only call whose arguments begin like this."""
    (found,) = [i for i, op in enumerate(ops) if op.call == call and op.args[: len(first)] == first]
    return found


def why(ops: list[Op], text: str) -> int:
    """The place of the first op whose reason has this text."""
    return next(i for i, op in enumerate(ops) if text in op.why)


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


# -- namespaces, devices, masks ----------------------------------------------------------------------------------------------


def test_namespaces() -> None:
    """New ones are flags of the clone; a unified cgroup is entered by it."""
    flags = planned().flags
    assert (
        flags
        == CLONE["CLONE_NEWNS"] | CLONE["CLONE_NEWPID"] | CLONE["CLONE_NEWNET"] | CLONE["CLONE_NEWIPC"] | CLONE["CLONE_NEWUTS"]
    )
    assert planned(cgroup=Group("/sys/fs/cgroup/x")).flags == flags | CLONE["CLONE_INTO_CGROUP"]


def test_joined_namespaces() -> None:
    """By path, opened before the root changes; the pid namespace is the parent's to join."""

    def change(spec: dict) -> None:
        spec["linux"]["namespaces"] = [
            {"type": "mount"},
            {"type": "network", "path": "/proc/self/ns/net"},
            {"type": "pid", "path": "/proc/self/ns/pid"},
        ]

    plan = planned(change)
    assert plan.flags == CLONE["CLONE_NEWNS"]
    (join,) = [op for op in plan.container if op.call == "setns"]
    assert join.args[1] == CLONE["CLONE_NEWNET"]
    assert plan.pid_namespace == "/proc/self/ns/pid"


@pytest.mark.parametrize(("namespaces", "message"), [
    ([{"type": "nosuch"}], 'unknown namespace type "nosuch"'), ([{"type": "ipc", "path": "/proc/self/ns/net"}], "cannot join the ipc namespace .* it is a network namespace"),
    ([{"type": "ipc", "path": "/dev/null"}], "it is no namespace"), ([{"type": "ipc", "path": "/no/such"}], "No such file"),
])  # fmt: skip
def test_bad_namespaces(namespaces: list, message: str) -> None:
    """A type that is none, and a path that is no namespace of the type, is refused."""
    with pytest.raises(UsageError, match=message):
        planned(lambda s: s["linux"].update(namespaces=namespaces))


def test_network_is_configured_from_inside() -> None:
    """In a new namespace the network's ops come after the wait, over one socket; in a shared one there are none."""

    class Cable(Network):
        def container(self, sock: Slot) -> list[Op]:
            return [rtnl(sock, b"message", "link set lo up", why="the loopback")]

    ops = planned(network=Cable()).container
    wait = next(i for i, op in enumerate(ops) if op.kind == WAIT)
    assert wait < at(ops, "socket") < why(ops, "the loopback")
    shared = planned(lambda s: s["linux"].update(namespaces=[{"type": "mount"}]), network=Cable()).container
    assert not [op for op in shared if "loopback" in op.why]


def test_devices() -> None:
    """The default ones and the asked ones, by descriptor of /dev, with their own numbers and modes."""
    nodes = {op.args[1]: (op.args[2], op.args[3]) for op in planned().container if op.call == "mknodat"}
    assert nodes["null"] == (0o020666, os.makedev(1, 3))
    assert nodes["fuse"] == (0o020666, os.makedev(10, 229))
    assert set(nodes) == {"null", "zero", "full", "random", "urandom", "tty", "fuse"}


def test_masks() -> None:
    """A folder of the kernel's is hidden by an empty tmpfs, a file by the host's null device; what this kernel lacks is left out;
    of a path that is the image's own both are tried."""
    ops = planned().container
    null = ops[why(ops, "the host's /dev/null, to hide")].out
    trees = [op for op in ops if op.call == "open_tree" and op.args[0] is null]
    assert len(trees) == 1 + os.path.exists("/proc/keys")
    assert len([op for op in ops if "/own/path is to be hidden" in op.why]) == 2
    assert not [op for op in planned(lambda s: s["linux"].update(maskedPaths=["/proc/nosuch"])).container if "nosuch" in op.why]


def test_missing_bind_source() -> None:
    """A source that is not there is refused when the plan is made."""
    with pytest.raises(UsageError, match='cannot bind "/no/such" to "/data"'):
        planned(lambda s: s["mounts"][3].update(source="/no/such"))


def test_relative_working_directory() -> None:
    """The OCI spec wants it absolute."""
    with pytest.raises(UsageError, match="not absolute"):
        planned(lambda s: s["process"].update(cwd="work"))


def test_root_as_a_directory() -> None:
    """Without layers the root is a bind of the bundle's directory over itself."""
    ops = planned(overlay=None).container
    assert any(op.call == "open_tree" and op.args[1] == "/bundle/rootfs" for op in ops)
    assert not any(op.call == "mount" and op.args[2] == "overlay" for op in ops)


# -- the process ---------------------------------------------------------------------------------------------------------------


def test_capabilities() -> None:
    """All that is not in the bounding set is dropped; the three masks are exactly those asked for."""
    ops = planned().container
    dropped = {op.args[1] for op in ops if op.call == "prctl" and op.args[0] == PR["PR_CAPBSET_DROP"]}
    kept = {CAPABILITIES.index("CAP_CHOWN"), CAPABILITIES.index("CAP_KILL")}
    assert dropped == set(range(capabilities.last_capability() + 1)) - kept
    effective, permitted, inheritable, high, _, _ = unpack("6I", ops[at(ops, "capset")].args[1].data)
    held = capabilities.held()
    assert effective == permitted == sum(1 << c for c in kept) & held & 0xFFFFFFFF
    assert (inheritable, high) == (0, 0)


def test_unknown_capability_and_limit() -> None:
    """A capability that there is not is left out with a warning, as in runc; a limit refused."""
    plan = planned(lambda s: s["process"]["capabilities"].update(bounding=["CAP_NOSUCH", "CAP_CHOWN"]))
    assert plan.warnings == ["ignoring unknown or unavailable capabilities: [CAP_NOSUCH]"]
    with pytest.raises(UsageError, match="RLIMIT_NOSUCH"):
        planned(lambda s: s["process"].update(rlimits=[{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]))


def test_rlimits() -> None:
    """Soft and hard, unlimited as all ones."""
    ops = planned(lambda s: s["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 5, "hard": (1 << 64) - 1}])).container
    limit = ops[at(ops, "prlimit64", 0, 7)].args[2]
    assert unpack("QQ", limit.data) == (5, (1 << 64) - 1)


def test_groups() -> None:
    """setgroups has exactly the additional groups, also when there are none."""
    ops = planned().container
    assert unpack("2I", ops[at(ops, "setgroups", 2)].args[1].data) == (0, 5)
    none = planned(lambda s: s["process"]["user"].update(additionalGids=[])).container
    assert none[at(none, "setgroups", 0)].args[1] == 0


@pytest.mark.parametrize(("program", "env", "expected"), [
    ("sh", ["PATH=/a:/b"], ["/a/sh", "/b/sh"]), ("/bin/sh", ["PATH=/a"], ["/bin/sh"]), ("./sh", [], ["./sh"]), ("sh", ["PATH=/a", "PATH=/b"], ["/b/sh"]),
    ("sh", ["PATH=:/b"], ["./sh", "/b/sh"]), ("sh", [], [f"{d}/sh" for d in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")]),
])  # fmt: skip
def test_where_the_program_is_looked_for(program: str, env: list[str], expected: list[str]) -> None:
    """As execvp(3), with the container's PATH."""
    assert process.candidates(program, env) == expected


def test_last_op_is_the_program() -> None:
    """Arguments and environment are the spec's."""
    op = planned().container[-1]
    assert op.kind == EXEC
    assert op.args == (["/bin/sh", "/usr/bin/sh"], ["sh", "-c", "true"], ["PATH=/bin:/usr/bin", "A=1"])


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


def test_a_bind_takes_no_options_of_a_file_system() -> None:
    """They are told and left out, as runc 1.1 does: a bind shows a file system that is there."""
    mount = {"destination": "/x", "type": "bind", "source": "/tmp", "options": ["bind", "mode=755", "size=1k"]}
    plan = planned(lambda s: s["mounts"].append(mount))
    assert 'mount "/x": a bind mount has no options of a file system: mode, size' in plan.warnings
    assert not [op for op in plan.container if "mode=755" in str(op.args)]


def test_what_is_hidden_of_an_image_is_looked_at_again() -> None:
    """Outside /proc and /sys only the start can tell a file from a directory: both are tried, and what is there then is checked."""
    ops = planned(lambda s: s["linux"].update(maskedPaths=["/secret"])).container
    check = next(op for op in ops if op.call == "fstatfs" and "/secret is hidden" in op.why)
    assert check.args[1] == 0x01021994
    assert ops.index(check) > max(i for i, op in enumerate(ops) if op.call == "move_mount" and "/secret" in op.why)


def test_a_new_network_namespace_has_its_loopback() -> None:
    """As with runc, also without a network of the engine's: 127.0.0.1 is there. Not in one that is joined."""
    assert [op.args[1].text for op in planned().container if op.call == "rtnetlink"] == ["ip link set lo up"]
    joined = planned(lambda s: s["linux"].update(namespaces=[{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/net"}]))
    assert not [op for op in joined.container if op.call == "rtnetlink"]


def test_a_mount_on_the_root_is_what_later_ones_go_into() -> None:
    """The pivot goes there too."""
    mounts = [
        {"destination": "/", "type": "bind", "source": "/tmp", "options": ["rbind", "bind"]},
        {"destination": "/x", "type": "tmpfs"},
    ]
    ops = planned(lambda s: s.update(mounts=mounts)).container
    tree = next(op for op in ops if op.call == "open_tree" and op.args[1] == "/tmp")
    assert tree.args[2] & AT_RECURSIVE, "bind behind rbind takes nothing back"
    place = next(op for op in ops if op.call == "make" and op.args[1] == "x")
    assert place.args[0] is tree.out
    assert ops[at(ops, "pivot_root") - 1].args[0] is tree.out


def test_who_waits_for_start_holds_nothing_of_the_host() -> None:
    """Beyond the standard streams, what is passed on and what the rest of the plan needs, descriptors are closed, not just marked."""
    plan = planned(waits=True, passed=1)
    ops, close = plan.container, at(plan.container, "close_range")
    assert ops[close].args == (3 + 1 + 2, 0xFFFFFFFF, 0)
    assert [op.args[1] for op in ops[:close] if op.call == "dup3"][-3:] == [3, 4, 5]
    assert {op.out for op in ops[:close] if op.call == "dup3"} >= {plan.sync, plan.fifo}
    kept = {plan.sync, plan.fifo, *(op.out for op in ops[close:])}
    assert all(a in kept for op in ops[close:] for a in op.args if isinstance(a, Slot))
