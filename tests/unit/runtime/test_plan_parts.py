"""What the plan makes of each part of an OCI spec. No root: nothing is carried out."""

from __future__ import annotations

import os
from struct import unpack

import pytest

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import (
    AT_RECURSIVE,
    CAPABILITIES,
    CLONE,
    PR,
)
from minicontainer.runtime import capabilities, process
from minicontainer.runtime.plan import Network
from minicontainer.stub.ops import EXEC, WAIT, Op, Slot, rtnl
from tests.unit.runtime.planned import Group, at, planned, why

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
