"""The systemd driver's names and properties; the units themselves are tested where systemd runs (test_oci_systemd.py)."""

from __future__ import annotations

import pytest

from minicontainer.cgroup.systemd import Unit, expand, full_name
from minicontainer.cgroup.unit_properties import of_annotations, of_devices, of_resources, round_quota, variant
from minicontainer.errors import Conflict, Unsupported, UsageError

MIB = 1 << 20
INFINITY = (1 << 64) - 1


@pytest.mark.parametrize(
    ("asked", "full", "path"),
    [
        ("", "system.slice:minicontainer:web", "/system.slice/minicontainer-web.scope"),
        ("a-b.slice:docker:x", "a-b.slice:docker:x", "/a.slice/a-b.slice/docker-x.scope"),
        (":libpod:x", "system.slice:libpod:x", "/system.slice/libpod-x.scope"),
        ("-.slice:p:x", "-.slice:p:x", "/p-x.scope"),
        ("m.slice::x", "m.slice::x", "/m.slice/-x.scope"),
    ],
)
def test_a_path_names_a_scope_in_a_slice(v2, asked, full, path):
    assert full_name(asked, "web") == full
    assert Unit(v2.detect(), full).path == path


def test_a_users_unit_lies_below_the_users_manager(v2):
    full = full_name(":libpod:x", "web", "/user.slice/user-7.slice/user@7.service")
    assert full == "user.slice:libpod:x:/user.slice/user-7.slice/user@7.service"
    assert Unit(v2.detect(), full).path == "/user.slice/user-7.slice/user@7.service/user.slice/libpod-x.scope"


def test_a_users_unit_needs_cgroup_v2(hybrid):
    with pytest.raises(Unsupported, match="without root needs cgroup v2"):
        Unit(hybrid.detect(), "user.slice:p:x:/user.slice").create_ops({})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("/a/b", 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/a/b" instead'),
        ("a:b", "expected cgroupsPath"),
        ("a:b:c:d", "expected cgroupsPath"),
        ("nope:p:x", "invalid slice name: nope"),
        ("a--b.slice:p:x", "invalid slice name"),
        (".slice:p:x", "invalid slice name"),
        ("../x.slice:p:x", "invalid slice name"),
        ("m.slice:p:../../x", "is not the name of a systemd unit"),
        ("m.slice:p:", "is not the name of a systemd unit"),
        ("m.slice:p:" + "x" * 300, "is not the name of a systemd unit"),
        ("m.slice:p:x.slice", "names a slice"),
    ],
)
def test_what_is_no_unit_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        full_name(asked, "web")


def test_a_slice_lies_in_those_its_name_begins_with():
    assert expand("kubepods-burstable-pod7.slice") == (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "properties"),
    [
        ({}, []),
        ({"memory": {"limit": MIB}}, [("MemoryMax", ("t", MIB))]),
        ({"memory": {"limit": -1}}, [("MemoryMax", ("t", INFINITY)), ("MemorySwapMax", ("t", INFINITY))]),
        ({"memory": {"limit": MIB, "swap": 3 * MIB}}, [("MemoryMax", ("t", MIB)), ("MemorySwapMax", ("t", 2 * MIB))]),
        ({"memory": {"reservation": MIB}}, [("MemoryLow", ("t", MIB))]),
        ({"cpu": {"shares": 1024}}, [("CPUWeight", ("t", 100))]),
        ({"cpu": {"shares": 1024, "idle": 1}}, [("CPUWeight", ("t", 0))]),
        ({"cpu": {"quota": 50000}}, [("CPUQuotaPerSecUSec", ("t", 500000))]),
        ({"cpu": {"quota": -1, "period": 5000}}, [("CPUQuotaPeriodUSec", ("t", 5000)), ("CPUQuotaPerSecUSec", ("t", INFINITY))]),
        ({"cpu": {"cpus": "0,8-9", "mems": "0"}}, [("AllowedCPUs", ("ay", b"\x01\x03")), ("AllowedMemoryNodes", ("ay", b"\x01"))]),
        ({"pids": {"limit": 7}}, [("TasksMax", ("t", 7))]),
        ({"pids": {"limit": -1}}, [("TasksMax", ("t", INFINITY))]),
        ({"pids": {"limit": 0}}, [("TasksMax", ("t", 1))]),
        ({"unified": {"memory.high": "7", "pids.max": "max"}}, [("MemoryHigh", ("t", 7)), ("TasksMax", ("t", INFINITY))]),
        ({"unified": {"cpu.max": "25000 50000"}}, [("CPUQuotaPeriodUSec", ("t", 50000)), ("CPUQuotaPerSecUSec", ("t", 500000))]),
    ],
)
def test_limits_are_properties(resources, properties):
    assert of_resources(resources, v2=True, version=252) == properties


def test_v1_has_the_older_properties():
    asked = {"memory": {"limit": MIB, "swap": MIB}, "cpu": {"shares": 512}, "blockIO": {"weight": 100}}
    assert of_resources(asked, v2=False, version=252) == [
        ("MemoryLimit", ("t", MIB)),
        ("CPUShares", ("t", 512)),
        ("BlockIOWeight", ("t", 100)),
    ]


def test_the_quota_is_one_that_systemd_can_hold():
    assert round_quota({"cpu": {"quota": 20001, "period": 100000}})["cpu"]["quota"] == 21000
    assert round_quota({"cpu": {"quota": 20000, "period": 50000}})["cpu"]["quota"] == 20000
    for same in ({}, {"cpu": {"quota": -1}}):
        assert round_quota(same) == same


def test_on_v1_devices_are_denied_by_systemd_too():
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "type": "c", "major": 136, "access": "rw"},
    ]
    assert of_devices(rules) == [
        ("DevicePolicy", ("s", "strict")),
        ("DeviceAllow", ("a(ss)", [])),
        ("DeviceAllow", ("a(ss)", [("char-*", "m"), ("/dev/char/1:3", "rwm"), ("char-136", "rw")])),
    ]
    assert of_devices([{"allow": True}])[0] == ("DevicePolicy", ("s", "auto"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a b'", ("s", "a b")),
        ('"x"', ("s", "x")),
        ("true", ("b", True)),
        ("7", ("i", 7)),
        ("-7", ("i", -7)),
        ("1.5", ("d", 1.5)),
        ("uint64 7", ("t", 7)),
        ("['a', 'b,c']", ("as", ["a", "b,c"])),
    ],
)
def test_values_of_annotations(text, value):
    assert variant(text) == value


@pytest.mark.parametrize("text", ["", "a", "'a", "uint64 'x'", "uint64 1.5", "[]", "[1, 'a']", "7; rm", "@s 'a'", "'a' 'b'"])
def test_what_is_no_value_is_refused(text):
    with pytest.raises(ValueError):
        variant(text)


@pytest.mark.parametrize("text", ["uint64 -7", "99999999999", "byte 256", "[1, 99999999999]"])
def test_a_number_that_its_type_cant_hold_is_refused(text):
    with pytest.raises(UsageError, match="out of range"):
        of_annotations({"org.systemd.property.Weight": text})


@pytest.mark.parametrize("text", ["1e999", "-1"])
def test_seconds_that_are_no_time_are_refused(text):
    with pytest.raises(UsageError, match="value parse error"):
        of_annotations({"org.systemd.property.TimeoutStopSec": text})


@pytest.mark.parametrize("value", ["25000 x", "25000 0", "², 7", "9" * 30, "25000 max", ""])
def test_a_value_of_unified_that_systemd_has_no_form_for_is_left_to_the_kernel(value):
    assert of_resources({"unified": {"cpu.max": value}}, v2=True, version=252) == []


def test_annotations_are_properties():
    prefix = "org.systemd.property."
    assert of_annotations({f"{prefix}CollectMode": "'inactive'", "other": "x", f"{prefix}TimeoutStopSec": "7"}) == [
        ("CollectMode", ("s", "inactive")),
        ("TimeoutStopUSec", ("t", 7000000)),
    ]
    for name, text, words in (
        ("Ab", "1", "name incorrect: too short"),
        ("A.b-c", "1", "name incorrect: contains non-alphabetic character"),
        ("Abc", "x y", "value parse error"),
        ("StopSec", "'x'", "value parse error: not a number"),
    ):
        with pytest.raises(UsageError, match=words):
            of_annotations({prefix + name: text})


def test_after_systemd_the_limits_are_set_in_the_files_and_the_process_enters_the_other_trees(hybrid):
    """systemd manages some of the v1 trees only; nothing happens before it has the unit, and the stub itself enters nothing."""
    unit = Unit(hybrid.detect(), "m.slice:p:x")
    assert unit.born_outside and unit.create_ops({"memory": {"limit": MIB}, "cpu": {"quota": 20001}}) == []
    assert unit.enter_ops()[0].args[2] == b"0", "of exec, whose stub does enter by itself"
    ops = [(op.call, op.args[1].removeprefix(hybrid.root), op.args[2]) for op in unit.enter_ops(42)]
    where = "/m.slice/p-x.scope"
    limits = [
        (path, text) for call, path, text in ops if call == "write_file" and not path.endswith(("cgroup.procs", "cpus", "mems"))
    ]
    assert limits == [
        (f"/memory{where}/memory.limit_in_bytes", str(MIB).encode()),
        (f"/cpu,cpuacct{where}/cpu.cfs_quota_us", b"21000"),
    ]
    entered = [path for _, path, text in ops if path.endswith("cgroup.procs") and text == b"42"]
    assert entered[0] == f"/cpu,cpuacct{where}/cgroup.procs" and entered[-1] == f"/unified{where}/cgroup.procs"
    assert len(entered) == 10


def test_a_unit_with_processes_is_another_containers(v2):
    v2.put("m.slice/p-x.scope/cgroup.procs", "17\n")
    with pytest.raises(Conflict, match="container's cgroup is not empty"):
        Unit(v2.detect(), "m.slice:p:x").create_ops({})
