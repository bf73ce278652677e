"""Which groups a further process enters."""

from __future__ import annotations

import pytest

from minicontainer.cgroup.entering import Entrance
from minicontainer.cgroup.group import Cgroup
from minicontainer.errors import MinicontainerError


def test_the_containers_group_in_every_tree(v1):
    ops = Entrance(Cgroup(v1.detect(), "/c"), 1).enter_ops()
    assert [op.args[1].removeprefix(v1.root) for op in ops][:2] == ["/cpu,cpuacct/c/tasks", "/cpuset/c/tasks"]


def test_a_group_below_in_the_trees_named(v1):
    v1.put("cpu,cpuacct/c/sub/cgroup.procs")
    ops = Entrance(Cgroup(v1.detect(), "/c"), 1, ["cpu,cpuacct:/sub"]).enter_ops()
    assert [op.args[1].removeprefix(v1.root) for op in ops][:2] == ["/cpu,cpuacct/c/sub/tasks", "/cpuset/c/tasks"]


def test_a_group_below_in_every_tree_that_has_it(hybrid):
    hybrid.put("cpuset/c/sub/cgroup.procs")
    hybrid.put("unified/c/sub/cgroup.procs")
    entrance = Entrance(Cgroup(hybrid.detect(), "/c"), 1, ["sub"])
    assert [op.args[1].removeprefix(hybrid.root) for op in entrance.enter_ops()][:2] == [
        "/cpu,cpuacct/c/tasks",
        "/cpuset/c/sub/tasks",
    ]
    assert entrance.unified_dir() == f"{hybrid.root}/unified/c/sub"


def test_a_group_below_on_v2(v2):
    v2.put("c/a/b/cgroup.procs")
    assert Entrance(Cgroup(v2.detect(), "/c"), 1, ["a/b"]).unified_dir() == f"{v2.root}/c/a/b"


def test_where_the_first_process_is_if_the_group_itself_takes_none(v2, monkeypatch):
    """systemd in a container moves itself into init.scope and hands controllers down from the container's group."""
    group = Cgroup(v2.detect(), "/c")
    read = "minicontainer.cgroup.entering.tree.read"
    files = {"/proc/7/cgroup": "0::/c/init.scope\n", f"{v2.root}/c/cgroup.subtree_control": "memory pids\n"}
    monkeypatch.setattr(read, lambda path: files.get(path, ""))
    assert Entrance(group, 7).unified_dir() == f"{v2.root}/c/init.scope"
    files["/proc/7/cgroup"] = "0::/elsewhere\n"
    assert Entrance(group, 7).unified_dir() == f"{v2.root}/c"
    files[f"{v2.root}/c/cgroup.subtree_control"] = "\n"
    assert Entrance(group, 7).unified_dir() == f"{v2.root}/c"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["cpu:/../x"], "bad sub cgroup path: /../x"),
        (["cpu:/none"], "adding pid .*/c/none/cgroup.procs: no such file or directory"),
        (["/x"], "adding pid .*/c/x/cgroup.procs: no such file or directory"),
        (["../x"], "bad sub cgroup path: ../x is not a sub cgroup path"),
        (["cpu:/a", "/b"], "missing <controller>: prefix"),
        (["cpu,:/a"], r"\(empty <controller> prefix\)"),
        (["cpu:/a", "cpu:/b"], "controller cpu specified multiple times"),
        (["dogs:/a"], "unknown controller dogs"),
    ],
)
def test_arguments_that_are_refused(v1, wanted, words):
    with pytest.raises(MinicontainerError, match=words):
        Entrance(Cgroup(v1.detect(), "/c"), 1, wanted)
