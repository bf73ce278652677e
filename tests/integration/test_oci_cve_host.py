"""config.json and the command line against the host itself: its settings, its cgroups, its devices, its folders.

Whoever writes config.json is trusted with much, but engines pass parts of it on from their users: sysctls, cgroup parents,
device rules, names. And what is written into /proc for a container must get there, whatever its image puts in the way.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.daemon import cgroups_named
from tests.integration.engine import SLOW, Done
from tests.integration.oci import Oci


def _refused(oci: Oci, done: Done) -> str:
    """The one line that a refusal is; nothing is there after it."""
    assert done.code == 1, done
    assert done.err.count("\n") == 1 and "Traceback" not in done.err and "internal error" not in done.err, done
    assert not oci.left()
    return done.err


# -- settings of the kernel ----------------------------------------------------------------------------------------------------

_OTHERS = ["kernel.core_pattern", "kernel/core_pattern", "net.ipv4/../../kernel.core_pattern", "net/ipv4/../../kernel/core_pattern",
           "net/../kernel/core_pattern", "net.../kernel/core_pattern", "fs.mqueue/../../kernel/core_pattern", "kernel.msgmax/../core_pattern",
           "vm.panic_on_oom", "kernel.hostname", "kernel.domainname/../core_pattern", "./kernel/core_pattern", "/kernel/core_pattern",
           "net.ipv4.ip_forward\n", "user.max_user_namespaces"]  # fmt: skip


@pytest.mark.parametrize("name", _OTHERS)
def test_sysctls_of_the_host_are_refused(oci: Oci, name: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    oci.config["linux"]["sysctl"] = {name: before.strip() or "core"}
    oci.write()
    assert "linux.sysctl" in _refused(oci, oci.do("run", "one"))
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.parametrize("kind", ["uts", "ipc", "network"])
def test_sysctls_of_a_namespace_that_is_shared_are_refused(oci: Oci, kind: str) -> None:
    """The settings of a namespace are the container's only if the namespace is."""
    name = {"uts": "kernel.domainname", "ipc": "kernel.msgmax", "network": "net.ipv4.ip_forward"}[kind]
    linux = oci.config["linux"]
    del oci.config["hostname"]
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != kind]
    linux["sysctl"] = {name: "1"}
    oci.write()
    _refused(oci, oci.do("run", "one"))
    if kind == "network":
        linux["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
        oci.write()
        assert "host network namespace" in _refused(oci, oci.do("run", "one"))


def test_sysctls_are_written_where_they_count(oci: Oci) -> None:
    """CVE-2019-19921, CVE-2025-52881: what the image or a volume puts below /proc gets none of what is written for the container:
    sysctls, the OOM score. They reach the kernel, or the container does not start."""
    fake = oci.rootfs / "proc"
    for name in ("sys/net/ipv4/ip_forward", "sys/kernel/msgmax", "self/oom_score_adj", "self/attr/exec", "thread-self/attr/exec"):
        (fake / name).parent.mkdir(parents=True, exist_ok=True)
        (fake / name).write_text("untouched")
    oci.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel/msgmax": "7777"}
    script = "cat /p/sys/net/ipv4/ip_forward /p/sys/kernel/msgmax /p/self/oom_score_adj"
    here, elsewhere = (
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/p", "type": "proc", "source": "proc"},
    )
    for mounts in ([here, elsewhere], [elsewhere]):
        oci.config["mounts"] = mounts
        oci.config["linux"]["maskedPaths"] = oci.config["linux"]["readonlyPaths"] = []
        assert oci.sh(script, oomScoreAdj=321).split() == ["1", "7777", "321"]
    for name in ("sys/net/ipv4/ip_forward", "sys/kernel/msgmax", "self/oom_score_adj", "self/attr/exec", "thread-self/attr/exec"):
        assert (fake / name).read_text() == "untouched"


@pytest.mark.parametrize(
    "destination", ["/proc", "/proc/sys", "/proc/self/attr", "/x/../proc//sys/kernel", "proc/self", "/link/sys"]
)
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_nothing_is_mounted_over_proc(oci: Oci, destination: str, kind: str) -> None:
    """CVE-2019-16884: a volume over /proc or a part of it, also by a link of the image, would let programs and the runtime believe what it
    says of their labels."""
    (oci.rootfs / "link").symlink_to("/proc")
    (oci.folder / "fake" / "sys").mkdir(parents=True)
    oci.mount(destination, "tmpfs" if kind == "tmpfs" else oci.folder / "fake")
    oci.write()
    _refused(oci, oci.do("run", "one"))


# -- cgroups -------------------------------------------------------------------------------------------------------------------

_PATHS = ["../escape", "/../escape", "a/../../escape", "/a/b/../../../escape", "/", ".", "..", "/./", "a\nb", "/cgroup.procs", "/" + "x" * 300,
          "\x1b[31m", "a/cgroup.kill", "/x/../../../../sys/fs/cgroup"]  # fmt: skip


@pytest.mark.parametrize("path", _PATHS)
def test_cgroup_paths_that_lead_elsewhere_are_refused(oci: Oci, path: str) -> None:
    """A container's cgroup is one of its own, below the root of the hierarchies."""
    before = _groups()
    oci.config["linux"]["cgroupsPath"] = path
    oci.write()
    _refused(oci, oci.do("run", "one"))
    assert "escape" not in " ".join(_groups() - before)


def _groups() -> set[str]:
    return {f"{top}/{name}" for top in ("/sys/fs/cgroup", *_hierarchies()) for name in os.listdir(top)}


def _hierarchies() -> list[str]:
    return [
        f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup") if os.path.exists(f"/sys/fs/cgroup/{name}/cgroup.procs")
    ]


_KEYS = [
    "../cgroup.procs",
    "memory.high/../../x",
    "/memory.high",
    "",
    ".",
    "..",
    "memory.high\n",
    "cgroup.procs",
    "cgroup.kill",
    "cgroup.subtree_control",
]


@pytest.mark.parametrize("key", _KEYS)
def test_unified_keys_are_files_of_controllers(oci: Oci, key: str) -> None:
    """linux.resources.unified writes files of the container's group, and not those that move or kill processes."""
    oci.config["linux"]["resources"]["unified"] = {key: "1"}
    oci.write()
    _refused(oci, oci.do("run", "one"))


@pytest.mark.parametrize("namespace", ["own", "shared"])
def test_release_agent(oci: Oci, namespace: str) -> None:
    """CVE-2022-0492: with CAP_SYS_ADMIN and the cgroups mounted, there is no release_agent that could be set, and none can be mounted by hand."""
    for names in oci.config["process"]["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    if namespace == "shared":
        oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    options = ["ro"] if namespace == "shared" else []
    oci.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options})
    out = oci.sh(
        "for f in $(find /sys/fs/cgroup -name release_agent); do echo /x 2>/dev/null >$f && echo set $f; done;"
        "for n in /sys/fs/cgroup/*/notify_on_release; do [ -e $n ] && (echo 1 >$n) 2>/dev/null && echo $n; done; echo end"
    )
    assert "set" not in out.split()
    assert out.endswith("end\n")
    if namespace == "shared":
        assert out == "end\n", "limits are the host's to set"


# -- devices -------------------------------------------------------------------------------------------------------------------


def test_devices_stay_denied_after_an_update(oci: Oci) -> None:
    """Whatever `update` changes, a device that was not allowed can't be opened at any time, and the default ones can."""
    found = _device(oci)
    script = f"rm -f /node; mknod /node c {found[0]} {found[1]}; while :; do (: </node) 2>/dev/null && echo opened; (: </dev/null) || echo broken; done"
    log = oci.folder / "log"
    oci.write("sh", "-c", script)
    with open(log, "wb") as f:
        subprocess.run(oci.command("create", "one"), cwd=oci.bundle, stdin=subprocess.DEVNULL, stdout=f, stderr=f, check=True)
    oci.ok("start", "one")
    for words in (
        ("--memory", "64000000"),
        ("--pids-limit", "30"),
        ("--cpu-share", "512"),
        ("--memory", "-1", "--memory-swap", "-1"),
    )[: 2 if SLOW else 4]:
        oci.ok("update", *words, "one")
    resources = oci.bundle / "resources.json"
    for text in ({}, {"devices": []}, {"devices": None}, {"pids": {"limit": 40}}, {"memory": {"limit": 80_000_000}, "unified": {}}):
        resources.write_text(json.dumps(text))
        oci.ok("update", "--resources", str(resources), "one")
    assert oci.ok("exec", "one", "sh", "-c", "(: </node) 2>&1 || echo denied").endswith("denied\n")
    assert log.read_text() == ""


def _device(oci: Oci) -> tuple[int, int]:
    """A device that a container opens where its rules let it, and not where they don't."""
    for major, minor in ((10, 229), (10, 237), (1, 11)):
        answers = []
        for rules in ([{"allow": True, "access": "rwm"}], [{"allow": False, "access": "rwm"}]):
            oci.config["linux"]["resources"]["devices"] = rules
            answers.append(oci.run("sh", "-c", f"mknod /node c {major} {minor} && : </node").code == 0)
        if answers == [True, False]:
            return major, minor
    pytest.skip("this host has none of fuse, loop-control, kmsg to try")


# -- names ---------------------------------------------------------------------------------------------------------------------

_IDS = ["", ".", "..", "../x", "/x", "a/b", "a/../../x", "a\nb", "a b", "a\tb", "\x1b[31m", "a;b", "$(x)", "`x`", "a*", "é", "\u202ex", "x" * 2000, "@x", "a\\b",
        "%s%n", "a:b"]  # fmt: skip


@pytest.mark.parametrize("verb", ["create", "run", "start", "state", "kill", "delete", "exec", "pause", "events", "update", "ps"])
def test_ids_that_are_none(oci: Oci, verb: str) -> None:
    """An id names a folder and a cgroup: what could lead elsewhere, or do something in a log or a shell, is refused by every verb."""
    oci.write()
    before = sorted(os.listdir(oci.folder))
    for ident in _IDS[:: 8 if SLOW else 1 if verb in ("create", "delete") else 4]:
        done = oci.do(verb, ident, *(["true"] if verb == "exec" else []))
        assert done.code in (1, 255), (ident, done)
        assert done.err.count("\n") <= 1 and "Traceback" not in done.err and "internal error" not in done.err, (ident, done)
        assert "\x1b" not in done.err and not oci.left()
    assert sorted(set(os.listdir(oci.folder)) - {"state"}) == before
    assert not cgroups_named("x")
