"""The filters that we make beside those that runc makes of the same profile, asked call by call in the kernel."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import subprocess

import pytest

from minicontainer.kernel import build
from minicontainer.runtime import seccomp
from tests.unit.runtime.test_seccomp import DOCKER_CAPABILITIES

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runc, and filters without no_new_privs"),
    pytest.mark.skipif(not shutil.which("runc"), reason="needs runc"),
]

MAGIC, PROBED, LAST = 0x5ECC0B, 177, 600
PODMANS_PROFILE = "/usr/share/containers/seccomp.json"

# (number, argument 0, argument 1) of x86_64: socket, personality, clone with each kind of argument
ARGUMENTS = (
    [(41, family, 0) for family in (*range(50), 70, 2**32 + 2, 2**32 + 40, 2**63 + 38)]
    + [(135, value, 0) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 0x40000, 2**64 - 1)]
    + [(56, flags, 0) for flags in (17, 0x3D0F00, *(1 << bit for bit in range(32)), 2**40)]
)


def _filter(instructions: bytes) -> None:
    """seccomp(SECCOMP_SET_MODE_FILTER) for this process; it has CAP_SYS_ADMIN, so no_new_privs stays off."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HxxxxxxQ", len(instructions) // 8, ctypes.addressof(code))
    if libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def _answer_probes() -> None:
    """The older filter: a call whose sixth argument is MAGIC fails with PROBED. ERRNO counts more than ALLOW, and of two
    ERRNOs the newer filter's (seccomp(2), "Filters")."""
    load, equal, ret = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 16 + 5 * 8), (equal, 0, 1, MAGIC), (ret, 0, 0, 0x00050000 | PROBED), (ret, 0, 0, 0x7FFF0000)]
    _filter(b"".join(struct.pack("=HBBI", *instruction) for instruction in code))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> str:
    """An OCI bundle whose rootfs has the probe alone."""
    path = tmp_path_factory.mktemp("bundle")
    (path / "rootfs").mkdir()
    source = os.path.join(os.path.dirname(__file__), "seccomp_probe.c")
    subprocess.run(["gcc", *build.STATIC, "-I", build.STUB, "-o", str(path / "rootfs" / "probe"), source], check=True)
    subprocess.run(["runc", "spec"], cwd=path, check=True)
    return str(path)


def _parse(output: bytes) -> list[tuple[str, int, int]]:
    return [(abi, int(number), int(errno)) for abi, number, errno in (line.split() for line in output.decode().splitlines())]


def _words() -> list[str]:
    return [str(LAST), *(str(word) for triple in ARGUMENTS for word in triple)]


def _with_runc(bundle: str, profile: dict, capabilities: list[str]) -> list[tuple[str, int, int]]:
    with open(f"{bundle}/config.json", encoding="utf-8") as f:
        spec = json.load(f)
    spec["process"].update(args=["/probe", *_words()], terminal=False, noNewPrivileges=False)
    spec["process"]["rlimits"] = []
    spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    spec["linux"].update(seccomp=profile, resources={}, namespaces=[{"type": "mount"}, {"type": "pid"}])
    spec.pop("hostname", None)
    spec["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as f:
        json.dump(spec, f)
    done = subprocess.run(
        ["runc", "--root", f"{bundle}/state", "run", f"seccomp-probe-{os.getpid()}"],
        cwd=bundle,
        capture_output=True,
        preexec_fn=_answer_probes,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return _parse(done.stdout)


def _with_ours(bundle: str, profile: dict, capabilities: list[str]) -> list[tuple[str, int, int]]:
    program = seccomp.filter_for(profile, capabilities, "")
    assert program

    def both() -> None:
        _answer_probes()
        _filter(program)

    done = subprocess.run([f"{bundle}/rootfs/probe", *_words()], capture_output=True, preexec_fn=both, check=True)
    return _parse(done.stdout)


def _differences(bundle: str, profile: dict, capabilities: list[str]) -> list[tuple]:
    ours = _with_ours(bundle, profile, capabilities)
    theirs = _with_runc(bundle, seccomp.expand(profile, capabilities), capabilities)
    assert len(ours) == len(theirs) > LAST
    assert {errno for _, _, errno in ours} <= {1, 38, PROBED}
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]


ALL = [*DOCKER_CAPABILITIES, *(cap for cap in seccomp.RELEVANT if cap not in DOCKER_CAPABILITIES)]


@pytest.mark.parametrize(
    "capabilities", [[], DOCKER_CAPABILITIES, ALL, [*DOCKER_CAPABILITIES, "CAP_SYS_ADMIN"]], ids=["none", "docker", "all", "admin"]
)
def test_the_default_profile_allows_what_runc_makes_of_it(bundle, capabilities):
    """Every system call number of each ABI, and the arguments that matter, get the same answer from the kernel."""
    assert _differences(bundle, seccomp.DEFAULT, capabilities) == []


@pytest.mark.skipif(not os.path.exists(PODMANS_PROFILE), reason="needs the profile of golang-github-containers-common")
@pytest.mark.parametrize("capabilities", [DOCKER_CAPABILITIES, ALL], ids=["docker", "all"])
def test_podmans_profile_is_read_as_podman_means_it(bundle, capabilities):
    """A file with errnoRet, excludes and a default of ENOSYS, through --security-opt seccomp=FILE."""
    profile = seccomp.profile_for(PODMANS_PROFILE, capabilities)
    assert profile
    program_errnos = {errno for _, _, errno in _with_ours(bundle, profile, capabilities)}
    assert program_errnos <= {1, 22, 38, PROBED}
    ours, theirs = _with_ours(bundle, profile, capabilities), _with_runc(bundle, profile, capabilities)
    assert [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b] == []


def test_podmans_and_dockers_defaults_differ_where_they_say_so(bundle):
    """With docker's capabilities podman lets a container mount and make namespaces, and says ENOSYS to unknown calls."""
    podman = seccomp.profile_for(PODMANS_PROFILE, DOCKER_CAPABILITIES) if os.path.exists(PODMANS_PROFILE) else None
    if podman is None:
        pytest.skip("needs the profile of golang-github-containers-common")
    dockers, podmans = (
        {nr: errno for abi, nr, errno in reversed(_with_ours(bundle, profile, DOCKER_CAPABILITIES)) if abi == "native"}
        for profile in (seccomp.DEFAULT, podman)
    )  # reversed, so that the call without arguments counts
    looser = {nr for nr, errno in podmans.items() if errno == PROBED and dockers[nr] != PROBED}
    tighter = {nr for nr, errno in podmans.items() if errno != PROBED and dockers[nr] == PROBED}
    if os.uname().machine == "x86_64":
        # pivot_root mount umount2 reboot mbind/set_mempolicy/get_mempolicy keyctl unshare setns syslog and the new mount API
        assert {155, 165, 166, 272, 308, 250} <= looser
        assert {278, 333} <= tighter  # vmsplice, io_pgetevents


def test_a_container_of_one_rule_kills_where_it_says_kill(tmp_path):
    """KILL_PROCESS ends the process with SIGSYS, for real."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    program = seccomp.filter_for(profile, [], str(tmp_path))
    assert program
    done = subprocess.run(["uname"], preexec_fn=lambda: _filter(program), capture_output=True, check=False)
    assert done.returncode == -31
