"""linux.intelRdt as ops, on a folder that looks like resctrl (few machines have one)."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicontainer.errors import LimitError, UsageError
from minicontainer.runtime.resctrl import Rdt, change, parts, remove
from minicontainer.stub.ops import MAKE, WRITE, Op

SCHEMATA = "    L3:0=00ff;1=00ff\n    MB:0=100;1=70\n"


def told(ops: list[Op]) -> list[str]:
    assert not [op for op in ops if op.kind == MAKE]
    return [f"{op.args[1]}: {op.args[2].decode()}" if op.kind == WRITE else f"mkdir {op.args[1]}" for op in ops]


@pytest.fixture
def resctrl(tmp_path: Path) -> Path:
    """With one class, as an administrator makes it."""
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "schemata").write_text(SCHEMATA)
    return tmp_path


def test_a_class_of_its_own(resctrl: Path) -> None:
    """Without closID: made by the container's id, cache before bandwidth before the rest, and removed with it."""
    rdt = Rdt({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "schemata": ["L2:0=3"]}, "id", str(resctrl))
    at = f"{resctrl}/id"
    assert told(rdt.before()) == [
        f"mkdir {at}",
        f"{at}/schemata: L3:0=f\n",
        f"{at}/schemata: MB:0=20\n",
        f"{at}/schemata: L2:0=3\n",
    ]
    assert told(rdt.after(7)) == [f"{at}/tasks: 7"]
    assert rdt.folders == [at]


def test_a_named_class_that_is_there(resctrl: Path) -> None:
    """It is used as it is, if it is as asked, and stays."""
    for more in ({}, {"l3CacheSchema": "L3:1=ff;0=ff"}, {"schemata": ["MB:0=100"]}):
        rdt = Rdt({"closID": "gold", **more}, "id", str(resctrl))
        assert rdt.before() == [] and rdt.folders == []
        assert told(rdt.after(7)) == [f"{resctrl}/gold/tasks: 7"]
    with pytest.raises(UsageError, match='does not have "L3:0=f"'):
        Rdt({"closID": "gold", "l3CacheSchema": "L3:0=f"}, "id", str(resctrl))


def test_a_named_class_that_is_not_there(resctrl: Path) -> None:
    """It is made if it is said what it gets, and outlives the container."""
    with pytest.raises(UsageError, match="there is no class silver"):
        Rdt({"closID": "silver"}, "id", str(resctrl))
    rdt = Rdt({"closID": "silver", "l3CacheSchema": "L3:0=f"}, "id", str(resctrl))
    assert told(rdt.before())[0] == f"mkdir {resctrl}/silver" and rdt.folders == []


def test_the_default_class_with_monitoring(resctrl: Path) -> None:
    """closID / is the root; a monitoring group is the container's own in any class."""
    rdt = Rdt({"closID": "/", "enableMonitoring": True}, "id", str(resctrl))
    at = f"{resctrl}/mon_groups/id"
    assert told(rdt.before()) == [f"mkdir {at}"]
    assert told(rdt.after(7)) == [f"{resctrl}/tasks: 7", f"{at}/tasks: 7"]
    assert rdt.folders == [at]


def test_parts() -> None:
    """Order, blanks and leading zeros mean nothing; bandwidth is decimal."""
    assert parts(" L3:0=00ff;1=f\n") == parts("L3:1=0f;0=ff") and parts("MB:0=10") == {("MB", "0", 10)}
    assert parts("MB:0=max") == {("MB", "0", "max")}


def test_remove(resctrl: Path) -> None:
    """What is there; twice is no error."""
    (resctrl / "id").mkdir()
    for _ in range(2):
        remove([f"{resctrl}/id"])
    assert not (resctrl / "id").exists()


@pytest.fixture
def enabled(resctrl: Path) -> Path:
    """With what the kernel says of its resources."""
    for name in ("L3", "MB"):
        (resctrl / "info" / name).mkdir(parents=True)
    (resctrl / "info" / "last_cmd_status").write_text("ok\n")
    return resctrl


def test_change(enabled: Path) -> None:
    """Each line is one write; what was there is told, and can be given back."""
    gold = {"closID": "gold"}
    had = change(gold, "id", {"l3CacheSchema": "L3:0=1"}, str(enabled))
    assert (enabled / "gold" / "schemata").read_text() == "L3:0=1\n"
    assert had == {"l3CacheSchema": "L3:0=00ff;1=00ff"}
    change(gold, "id", {"memBwSchema": "MB:0=10;1=10"}, str(enabled))
    assert (enabled / "gold" / "schemata").read_text().startswith("MB:0=10;1=10\n")


@pytest.mark.parametrize(
    ("rdt", "asked", "words"),
    [
        (None, {"l3CacheSchema": "L3:0=1"}, "updating a non-existent Intel RDT configuration is not supported"),
        ({}, {"memBwSchema": "MB:0=1"}, "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ],
)
def test_what_can_not_be_changed(enabled: Path, rdt: dict | None, asked: dict, words: str) -> None:
    """In runc's words."""
    (enabled / "info" / "MB").rmdir()
    with pytest.raises(UsageError, match=words):
        change(rdt, "id", asked, str(enabled))


def test_a_change_that_the_kernel_refuses(enabled: Path) -> None:
    """It says why in a file of its own."""
    schemata = enabled / "gold" / "schemata"
    schemata.unlink()
    schemata.symlink_to("/proc/self/oom_score_adj")  # which takes no such line either
    with pytest.raises(LimitError, match='unable to write "L3:0=1": Invalid argument, last_cmd_status: ok'):
        change({"closID": "gold"}, "id", {"l3CacheSchema": "L3:0=1"}, str(enabled))
