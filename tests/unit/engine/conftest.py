"""The host that specs are made for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minicontainer.engine.host import Host

# Everything but CAP_SYS_RESOURCE (24), as on many a build machine.
CAP_EFF = (1 << 41) - 1 & ~(1 << 24)
MOUNTINFO = """\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 8:2 / /follows rw,relatime master:2 - ext4 /dev/sdb1 rw
22 20 8:3 / /alone rw,relatime - ext4 /dev/sdc1 rw
23 20 8:4 / /with\\040space rw,relatime shared:3 - ext4 /dev/sdd1 rw
"""


@pytest.fixture
def _profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seccomp profile that tells what it was asked for."""
    fake = SimpleNamespace(profile_for=lambda kind, capabilities: {"kind": kind, "of": list(capabilities)})
    monkeypatch.setitem(sys.modules, "minicontainer.runtime.seccomp", fake)


@pytest.fixture
def host(tmp_path: Path, _profile: None) -> Host:
    """A host made of a few files."""
    proc, system = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "self/status").write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{CAP_EFF:016x}\n")
    (proc / "self/mountinfo").write_text(MOUNTINFO)
    (proc / "sys/net/ipv4").mkdir(parents=True)
    (proc / "sys/net/ipv4/ping_group_range").touch()
    (proc / "sys/net/ipv4/ip_unprivileged_port_start").touch()
    (system / "devices/system/cpu/cpu1/thermal_throttle").mkdir(parents=True)
    (system / "devices/system/cpu/possible").write_text("0-1\n")
    return Host(proc=str(proc), sys=str(system), dev="/dev", kernel=(6, 1), inits=("/no/tini", sys.executable))
