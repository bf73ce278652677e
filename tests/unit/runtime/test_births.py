"""The plan of a container with a user or time namespace as data: what is done before, between and after its two births."""

from __future__ import annotations

import os
from typing import Any

import pytest

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import CLONE, PR
from minicontainer.runtime import namespaces, userns
from minicontainer.runtime.namespaces import FLAGS, Namespaces
from minicontainer.stub.ops import CLONE as CLONE_OP
from minicontainer.stub.ops import EXEC, RUN, WAIT, WRITE, Op
from tests.unit.runtime.planned import Group, at, planned, why

MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.fixture(autouse=True)
def _root_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests: the plans are those of root, and nothing is carried out."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "initial_user_namespace", lambda: True)


def with_users(spec: dict) -> None:
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"].update(uidMappings=MAPS, gidMappings=MAPS)
    spec["linux"]["devices"] = []


def with_time(spec: dict) -> None:
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 7, "nanosecs": 9}, "monotonic": {"secs": -1}}


def birth(ops: list[Op]) -> int:
    (found,) = [i for i, op in enumerate(ops) if op.kind == CLONE_OP]
    return found


def test_one_birth_is_enough_for_the_others() -> None:
    """All other namespaces are flags of the one clone3, and there is no second."""
    plan = planned(lambda s: s["linux"]["namespaces"].append({"type": "cgroup"}))
    assert not [op for op in plan.container if op.kind == CLONE_OP]
    assert plan.meetings is None


def test_flags_of_the_two_births() -> None:
    """The first is in our namespaces; user and time are unshared between them, and the second has the rest."""
    plan = planned(lambda s: (with_users(s), with_time(s)))
    assert plan.flags == 0
    second = plan.container[birth(plan.container)]
    new = ("mount", "pid", "network", "ipc", "uts")
    assert second.args[1] == sum(FLAGS[kind] for kind in new)
    assert at(plan.container, "unshare", FLAGS["user"]) < at(plan.container, "unshare", FLAGS["time"]) < birth(plan.container)


def test_what_takes_our_rights_is_done_before() -> None:
    """Cgroups, the OOM score, the root and sources of binds, nodes of devices: before we are nobody outside."""
    ops = planned(with_users, overlay=None).container
    unshared = at(ops, "unshare", FLAGS["user"])
    assert why(ops, "enter") < unshared and why(ops, "OOM killer") < unshared
    early = [op.args[1] for op in ops[:unshared] if op.call == "open_tree"]
    assert {"/bundle/rootfs", "/usr", "/dev/null", "/dev/urandom"} <= set(early)
    assert not [op for op in ops if op.call == "mknodat"]
    assert not [op for op in ops[unshared:] if op.call == "open_tree" and op.args[1] != ""]


def test_copies_are_made_in_mounts_of_its_own() -> None:
    """Private, so that nothing is tied to the host's; and nothing is mounted before that."""
    ops = planned(with_users, overlay=None).container
    first = at(ops, "unshare", FLAGS["mount"])
    assert first < why(ops, "stays unknown to the host") < min(i for i, op in enumerate(ops) if op.call == "open_tree")
    assert not [op for op in ops[: birth(ops)] if op.call == "move_mount"]


def test_it_is_root_as_soon_as_the_ids_are_mapped() -> None:
    """It asks, waits, and becomes root in there; PDEATHSIG, which that clears, is said again, and after the second birth once more."""
    ops = planned(with_users).container
    asked, root = at(ops, "write"), next(i for i, op in enumerate(ops) if op.call == "setresuid")
    assert at(ops, "unshare", FLAGS["user"]) < asked < root < birth(ops)
    assert ops[asked + 1].kind == WAIT and ops[root].args == (0, 0, 0)
    deaths = [i for i, op in enumerate(ops) if op.call == "prctl" and op.args[:2] == (PR["PR_SET_PDEATHSIG"], 9)]
    assert deaths == [0, root + 1, birth(ops) + 1]


def test_supplementary_groups_go_before_it_may_be_denied() -> None:
    """setgroups(2) comes before the user namespace, where we surely may."""
    ops = planned(with_users).container
    assert next(i for i, op in enumerate(ops) if op.call == "setgroups") < at(ops, "unshare", FLAGS["user"])


def test_ids_are_mapped_by_the_parent() -> None:
    """gid_map and uid_map of whoever asks, whole lines, in one write each."""
    plan = planned(with_users)
    assert plan.meetings is not None
    ops = plan.meetings[b"users"](4711)
    assert [(op.args[1], op.args[2]) for op in ops if op.kind == WRITE] == [
        ("/proc/4711/gid_map", b"0 100000 65536\n"),
        ("/proc/4711/uid_map", b"0 100000 65536\n"),
    ]


def test_clocks_are_set_by_the_parent() -> None:
    """After the namespace is there and before anybody is in it (time_namespaces(7))."""
    plan = planned(with_time)
    assert plan.meetings is not None
    (op,) = plan.meetings[b"clocks"](4711)
    assert (op.args[1], op.args[2]) == ("/proc/4711/timens_offsets", b"boottime 7 9\nmonotonic -1 0\n")
    assert at(plan.container, "unshare", FLAGS["time"]) < at(plan.container, "write") < birth(plan.container)


@pytest.mark.parametrize(("user", "order"), [(0, ["ipc", "user"]), (1000, ["user", "ipc"])])
def test_a_joined_user_namespace(monkeypatch: pytest.MonkeyPatch, user: int, order: list[str]) -> None:
    """Root joins all others first; who is not root joins it first, and may then join what belongs to it (setns(2))."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(namespaces, "_check", lambda kind, path: True)
    monkeypatch.setattr(userns, "joined", lambda linux, path: linux)

    def change(spec: dict) -> None:
        paths = [{"type": kind, "path": f"/namespaces/{kind}"} for kind in ("user", "ipc")]
        spec["linux"].update(namespaces=[{"type": "mount"}, *paths], devices=[])

    plan = planned(change, overlay=None)
    assert [op.args[1] for op in plan.container if op.call == "setns"] == [FLAGS[kind] for kind in order]
    assert plan.pid_namespace == "" and plan.meetings == {}


def test_the_own_user_namespace_is_none_to_join() -> None:
    """setns(2) refuses that; and with it one birth is enough."""
    names = Namespaces([{"type": "user", "path": "/proc/self/ns/user"}])
    assert names.joined == {} and not names.user and not names.twice


def test_unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done before the user namespace but what anybody may; newuidmap reads who we are; setgroups may be denied."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    own = [{"containerID": 0, "hostID": 1000, "size": 1}]

    def change(spec: dict) -> None:
        with_users(spec)
        spec["linux"].update(uidMappings=own, gidMappings=own)
        spec["process"]["user"] = {}
        spec["process"].pop("oomScoreAdj")

    plan = planned(change, overlay=None)
    ops = plan.container
    before = ops[: at(ops, "unshare", FLAGS["user"])]
    assert not [op for op in before if op.call in ("open_tree", "unshare", "mount", "setns")]
    assert at(ops, "prctl", 4, 1) < at(ops, "write") < birth(ops)
    groups = [op for op in ops if op.call == "setgroups"]
    assert len(groups) == 1 and groups[0].ok == (1,)
    assert plan.meetings is not None
    assert [op.args[1] for op in plan.meetings[b"users"](7)] == ["/proc/7/setgroups", "/proc/7/gid_map", "/proc/7/uid_map"]


def test_helpers_map_what_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the own id is newuidmap's and newgidmap's work."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: path.startswith("/usr/bin/new"))
    maps = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 65536}]
    ops = [op for op in userns.map_ops(7, {"uidMappings": maps, "gidMappings": maps}, privileged=False) if op.kind == RUN]
    assert [op.args[1] for op in ops] == [[f"new{kind}idmap", "7", "0", "1000", "1", "1", "200000", "65536"] for kind in "gu"]


@pytest.mark.parametrize(("maps", "needed"), [
    ([{"containerID": 0, "hostID": 1000, "size": 1}], False), ([{"containerID": 5, "hostID": 1000, "size": 1}], False),
    ([{"containerID": 0, "hostID": 1001, "size": 1}], True), ([{"containerID": 0, "hostID": 1000, "size": 2}], True), ([], True),
])  # fmt: skip
def test_who_needs_helpers(maps: list, needed: bool) -> None:
    """All but one who maps the own id alone (user_namespaces(7), "Defining user and group ID mappings")."""
    assert userns.helpers_needed(maps, 1000) == needed


def test_startContainer_hooks_are_found_behind_the_first_birth() -> None:
    """Their place in the plan counts the ops before the second birth."""
    plan = planned(lambda s: (with_time(s), s.update(hooks={"startContainer": [{"path": "/bin/true"}]})))
    assert plan.container[plan.first_start_hook].kind == RUN
    assert plan.container[-1].kind == EXEC


@pytest.mark.parametrize(("entries", "kind", "shared"), [
    ([{"type": "user"}], "network", True), ([{"type": "user"}, {"type": "network"}], "network", False), ([], "network", False),
    ([{"type": "user"}, {"type": "ipc", "path": "/proc/self/ns/ipc"}], "ipc", True),
])  # fmt: skip
def test_which_namespaces_are_others(entries: list, kind: str, shared: bool) -> None:
    """What is the host's, or joined by who has a new user namespace, can't be mounted from inside."""
    assert Namespaces(entries).shared(kind) == shared


def test_cgroup_of_the_first_birth() -> None:
    """In the v2 tree the first process is born in the group, and its child with it."""
    assert planned(with_users, cgroup=Group("/sys/fs/cgroup/x")).flags == CLONE["CLONE_INTO_CGROUP"]


def test_mapped_ids() -> None:
    """A mount with mapped ids gets a user namespace from the launcher: one for each mapping, by its descriptor."""

    def change(spec: dict) -> None:
        bind: dict[str, Any] = {
            "type": "bind",
            "source": "/usr",
            "options": ["bind", "idmap"],
            "uidMappings": MAPS,
            "gidMappings": MAPS,
        }
        spec["mounts"] += [{"destination": "/one", **bind}, {"destination": "/two", **bind, "options": ["rbind", "ridmap"]}]

    plan = planned(change)
    assert list(plan.idmaps.values()) == [("0 100000 65536\n", "0 100000 65536\n")]
    (slot,) = plan.idmaps
    places = [i for i, op in enumerate(plan.container) if op.call == "store" and op.args[0] is slot]
    assert [plan.container[i + 1].args[2] for i in places] == [0x1000, 0x1000 | 0x8000]
    assert all(plan.container[i].args[1] is plan.container[i + 1].args[3] for i in places)


def test_mapped_ids_of_nobody() -> None:
    """Without mappings there is nothing to map by."""
    with pytest.raises(UsageError, match="must have both uid and gid mappings"):
        planned(lambda s: s["mounts"][3]["options"].append("idmap"))
