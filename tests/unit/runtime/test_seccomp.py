"""Seccomp: the default profile's decisions, profiles in docker's form, and the cache."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import subprocess
import sys

import pytest

from minicontainer.errors import MinicontainerError, UsageError
from minicontainer.kernel import seccomp as lib
from minicontainer.runtime import seccomp, seccomp_compile, seccomp_profile

DOCKER_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"]

X86_64, X86, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
NATIVE = {"x86_64": X86_64, "aarch64": AARCH64}[os.uname().machine]
ALLOW, KILL = lib.ACT_ALLOW, lib.ACT_KILL_THREAD


def ERRNO(number: int) -> int:  # the kernel's name of the action
    return lib.ACT_ERRNO | number


def evaluate(program: bytes, number: int, *args: int, arch: int = NATIVE) -> int:
    """The action for one system call: an interpreter of the classic BPF that libseccomp uses (linux/filter.h)."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif op == 0x54:
            accumulator &= k
        elif op == 0x05:
            at += k
        elif op in (0x15, 0x25, 0x35, 0x45):
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[op]
            at += yes if holds else no
        elif op == 0x06:
            return k
        else:
            raise AssertionError(f"instruction {op:#x}")


@pytest.fixture(scope="module")
def resolve():
    """The number of a system call of this machine by name."""
    with lib.Filter(ALLOW) as context:
        yield lambda name: context.resolve(name, context.arch(""))


@pytest.fixture(scope="module")
def default() -> bytes:
    """The program of the default profile with docker's capabilities."""
    program = seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, "")
    assert program
    return program


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: object) -> dict:
    return {"names": list(names), "action": action, **more}


def _read_if(arg: dict) -> dict:
    return rule("read", args=[arg])


# -- the default profile -------------------------------------------------------------------------------------------


def test_a_change_of_the_default_profile_counts_the_generation_up():
    """A cached program is never of another profile: whoever changes the data changes GENERATION and this digest."""
    text = json.dumps(seccomp_profile.default_profile(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (seccomp.GENERATION, digest) == (1, "e40168cd3b6b695b")


def test_the_capabilities_in_the_cache_key_are_all_that_the_profile_asks_for():
    """A capability that changes the program changes the name of its file."""
    asked = {cap for r in seccomp_profile.default_profile()["syscalls"] for side in ("includes", "excludes")
             for cap in r.get(side, {}).get("caps", ())}
    assert asked == set(seccomp.RELEVANT)


@pytest.mark.parametrize("name", ["read", "openat", "execve", "mmap", "chroot", "ptrace", "statx", "socketpair", "fchmodat2"])
def test_ordinary_calls_are_allowed(default, resolve, name):
    """What programs need passes."""
    number = resolve(name)
    if number < 0:
        pytest.skip(f"this libseccomp does not know {name}")
    assert evaluate(default, number) == ALLOW


@pytest.mark.parametrize("name", ["mount", "umount2", "unshare", "setns", "bpf", "keyctl", "add_key", "request_key", "reboot",
                                  "init_module", "kexec_load", "open_by_handle_at", "perf_event_open", "pivot_root",
                                  "swapon", "userfaultfd", "io_uring_setup", "acct", "settimeofday", "quotactl", "move_pages"])
def test_what_reaches_beyond_the_container_is_eperm(default, resolve, name):
    """The calls that docker keeps from containers without further capabilities fail with EPERM."""
    assert evaluate(default, resolve(name)) == ERRNO(1)


@pytest.mark.parametrize(("family", "allowed"), [(1, True), (2, True), (10, True), (16, True), (37, True), (38, False), (39, True),
                                                 (40, False), (41, True), (44, True), (63, True), (64, False),
                                                 (2**32 + 40, False), (2**32 + 38, False), (2**63 + 40, False)])
def test_sockets_of_af_alg_and_af_vsock_are_refused(default, resolve, family, allowed):
    """All families but two; upper bits, which the kernel ignores, don't get past the filter (they do with docker's)."""
    assert evaluate(default, resolve("socket"), family) == (ALLOW if allowed else ERRNO(1))


@pytest.mark.parametrize(("persona", "allowed"), [(0, True), (8, True), (0x20000, True), (0x20008, True), (0xFFFFFFFF, True),
                                                  (0x0040000, False), (0x0400000, False), (1, False)])
def test_only_harmless_personalities_can_be_set(default, resolve, persona, allowed):
    """Address space randomization can't be switched off."""
    assert evaluate(default, resolve("personality"), persona) == (ALLOW if allowed else ERRNO(1))


@pytest.mark.parametrize("namespace", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_no_namespace_without_cap_sys_admin(default, resolve, namespace):
    """Threads and processes yes, namespaces no; clone3, whose flags can't be seen, is ENOSYS."""
    assert evaluate(default, resolve("clone"), 0x3D0F00) == ALLOW
    assert evaluate(default, resolve("clone"), 17) == ALLOW
    assert evaluate(default, resolve("clone"), namespace | 17) == ERRNO(1)
    assert evaluate(default, resolve("clone3")) == ERRNO(38)


def test_capabilities_open_their_calls(resolve):
    """Each capability allows what it is for, and CAP_SYS_ADMIN any clone."""
    for cap, names in seccomp_profile._WITH_CAPABILITY:
        without = seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, "")
        program = seccomp.filter_for(seccomp.DEFAULT, [cap], "")
        assert program and without
        for name in names.split():
            if resolve(name) >= 0:
                assert evaluate(program, resolve(name)) == ALLOW, (cap, name)
    admin = seccomp.filter_for(seccomp.DEFAULT, ["CAP_SYS_ADMIN"], "")
    assert admin and evaluate(admin, resolve("clone"), 0x10000000) == evaluate(admin, resolve("clone3")) == ALLOW


def test_calls_newer_than_the_profile_are_enosys(default):
    """Programs try new calls and fall back on ENOSYS; EPERM would stop them."""
    assert evaluate(default, 700) == ERRNO(38)
    assert evaluate(default, 0x3FFFFFFF) == ERRNO(38)


@pytest.mark.skipif(NATIVE != X86_64, reason="the other ABIs of x86_64")
def test_the_other_abis_of_the_machine_are_filtered_alike(default):
    """i386 and x32 calls pass or fail as the native ones do; another architecture kills."""
    getpid32, mount32, getpid_x32, mount_x32 = 20, 21, (1 << 30) | 39, (1 << 30) | 165
    assert evaluate(default, getpid32, arch=X86) == evaluate(default, getpid_x32) == ALLOW
    assert evaluate(default, mount32, arch=X86) == evaluate(default, mount_x32) == ERRNO(1)
    assert evaluate(default, 700, arch=X86) == evaluate(default, (1 << 30) | 700) == ERRNO(38)
    assert evaluate(default, 39, arch=AARCH64) == KILL


def test_the_default_profile_is_expanded_for_other_tools():
    """`expand` gives the OCI form: names, actions and architectures that any runtime takes."""
    oci = seccomp.expand(seccomp.DEFAULT, DOCKER_CAPABILITIES)
    assert set(oci) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert all(set(r) <= {"names", "action", "args", "errnoRet"} for r in oci["syscalls"])
    assert seccomp.filter_for(oci, [], "") == seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, "")


# -- profiles in docker's form -------------------------------------------------------------------------------------


def test_includes_and_excludes_of_dockers_form():
    """arches, caps and minKernel: all of an include must hold, one of an exclude is enough."""
    def kept(**sides: dict) -> bool:
        oci = seccomp_profile.to_oci({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("read", **sides)]},
                                     ["CAP_A", "CAP_B"], machine="x86_64", kernel=(5, 10))
        assert oci is not None
        return bool(oci["syscalls"])

    assert kept()
    assert kept(includes={"caps": ["CAP_A", "CAP_B"]})
    assert not kept(includes={"caps": ["CAP_A", "CAP_C"]})
    assert not kept(excludes={"caps": ["CAP_C", "CAP_B"]})
    assert kept(excludes={"caps": ["CAP_C"]})
    assert kept(includes={"arches": ["arm64", "amd64"]})
    assert not kept(includes={"arches": ["arm64"]})
    assert not kept(includes={"arches": ["amd64"], "caps": ["CAP_C"]})
    assert not kept(excludes={"arches": ["amd64"], "caps": ["CAP_C"]})
    assert kept(includes={"minKernel": "5.10"})
    assert kept(includes={"minKernel": "4.19"})
    assert not kept(includes={"minKernel": "5.11"})
    assert not kept(excludes={"minKernel": "5.9"})


def test_the_old_form_and_the_arch_map_are_understood(tmp_path):
    """`name` instead of `names`, and only this machine's entry of archMap."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW", "archMap": seccomp_profile.default_profile()["archMap"],
        "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO", "args": None}]}))
    oci = seccomp.profile_for(str(path), [])
    assert oci is not None
    assert oci["syscalls"] == [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]
    assert oci["architectures"][0] == "SCMP_ARCH_" + os.uname().machine.upper()


@pytest.mark.parametrize("text", ["{}", '{"defaultAction": "", "syscalls": []}'])
def test_an_empty_profile_filters_nothing(tmp_path, text):
    """As in docker: no default action and no rules is no filter."""
    path = tmp_path / "profile.json"
    path.write_text(text)
    assert seccomp.profile_for(str(path), []) is None
    assert seccomp.filter_for(None, [], "") is None
    assert seccomp.filter_for({}, [], "") is None


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"), ("{", "the profile is a JSON file"), ("[]", "not a seccomp profile"),
    ('{"syscalls": 3}', "not a seccomp profile"),
    ('{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}', "'architectures' and 'archMap'"),
    ('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "a", "names": ["b"]}]}', "both 'name' and 'names'"),
    ('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "a", "includes": {"minKernel": "x"}}]}', "minKernel 'x'"),
])
def test_a_file_that_is_no_profile_is_named(tmp_path, content, message):
    """The error says what is wrong with --security-opt seccomp=FILE."""
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as error:
        seccomp.profile_for(str(path), [])
    assert message in str(error.value)
    assert "seccomp" in str(error.value)


# -- OCI's linux.seccomp -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "errno", "value"), [
    ("SCMP_ACT_KILL", None, 0x00000000), ("SCMP_ACT_KILL_THREAD", None, 0x00000000), ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
    ("SCMP_ACT_TRAP", None, 0x00030000), ("SCMP_ACT_ERRNO", None, 0x00050001), ("SCMP_ACT_ERRNO", 99, 0x00050063),
    ("SCMP_ACT_TRACE", None, 0x7FF00001), ("SCMP_ACT_TRACE", 7, 0x7FF00007), ("SCMP_ACT_LOG", None, 0x7FFC0000),
    ("SCMP_ACT_NOTIFY", None, 0x7FC00000)])
def test_every_action(resolve, action, errno, value):
    """Each action of OCI becomes the kernel's, with its errno or message."""
    more = {} if errno is None else {"errnoRet": errno}
    program = seccomp.filter_for({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("mkdirat", action=action, **more)]}, [], "")
    assert program
    assert evaluate(program, resolve("mkdirat")) == value
    assert evaluate(program, resolve("getpid")) == ALLOW


@pytest.mark.parametrize(("op", "value", "two", "matches", "others"), [
    ("SCMP_CMP_NE", 5, 0, [4, 6], [5]), ("SCMP_CMP_LT", 5, 0, [0, 4], [5, 6]), ("SCMP_CMP_LE", 5, 0, [4, 5], [6]),
    ("SCMP_CMP_EQ", 5, 0, [5], [4, 6]), ("SCMP_CMP_GE", 5, 0, [5, 2**40], [4]), ("SCMP_CMP_GT", 5, 0, [6], [4, 5]),
    ("SCMP_CMP_MASKED_EQ", 6, 2, [2, 3], [4, 6]), ("SCMP_CMP_EQ", 2**63, 0, [2**63], [0])])
def test_every_operator(resolve, op, value, two, matches, others):
    """Conditions compare 64-bit arguments as OCI says."""
    args = [{"index": 1, "value": value, "valueTwo": two, "op": op}]
    rules = [rule("mkdirat", action="SCMP_ACT_TRAP", args=args)]
    program = seccomp.filter_for({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, [], "")
    assert program
    assert {evaluate(program, resolve("mkdirat"), 0, v) for v in matches} == {lib.ACT_TRAP}
    assert {evaluate(program, resolve("mkdirat"), 0, v) for v in others} == {ALLOW}


def test_conditions_on_several_arguments_must_all_hold_and_on_one_are_alternatives(resolve):
    """runc's reading of `args`."""
    def program(*args: tuple[int, int]) -> bytes:
        conditions = [{"index": i, "value": v, "op": "SCMP_CMP_EQ"} for i, v in args]
        made = seccomp.filter_for({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("mkdirat", args=conditions)]}, [], "")
        assert made
        return made

    both = program((0, 1), (1, 2))
    assert [evaluate(both, resolve("mkdirat"), a, b) == ALLOW for a, b in ((1, 2), (1, 3), (0, 2))] == [True, False, False]
    either = program((0, 1), (0, 2))
    assert [evaluate(either, resolve("mkdirat"), a) == ALLOW for a in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize(("profile", "message"), [
    ({"defaultAction": "SCMP_ACT_NONSENSE"}, "SCMP_ACT_NONSENSE"),
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "cannot be used as default action"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}, "SCMP_ARCH_PDP11"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86_64"]}, "x86_64"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}, "names"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", action="ALLOW")]}, "ALLOW"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", action="SCMP_ACT_ERRNO", errnoRet=-1)]}, "errnoRet"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("write", action="SCMP_ACT_NOTIFY")]}, "write"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [_read_if({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"})]}, "index 6"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [_read_if({"index": 0, "value": 1, "op": "EQ"})]}, "'EQ'"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [_read_if({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"})]}, "64-bit")])
def test_what_is_wrong_in_a_profile_is_named(profile, message):
    """Unknown values are refused with a text that names them."""
    with pytest.raises(UsageError) as error:
        seccomp.filter_for(profile, [], "")
    assert message in str(error.value)


def test_unknown_names_and_rules_that_say_what_the_default_says_are_left_out(resolve):
    """As in runc: a profile for newer kernels and one with redundant rules both work."""
    program = seccomp.filter_for({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule("no_such_call_ever", action="SCMP_ACT_ERRNO"), rule("read"), rule("mkdirat", action="SCMP_ACT_ERRNO")]}, [], "")
    assert program
    assert (evaluate(program, resolve("read")), evaluate(program, resolve("mkdirat"))) == (ALLOW, ERRNO(1))


def test_a_permissive_default_and_one_of_enosys_get_no_prefix(resolve):
    """New calls are allowed where the default allows, and ENOSYS where it is ENOSYS anyway."""
    program = seccomp.filter_for({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", action="SCMP_ACT_ERRNO")]}, [], "")
    assert program and evaluate(program, 700) == ALLOW
    plain = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [rule("read")]}
    program = seccomp.filter_for(plain, [], "")
    assert program and evaluate(program, 700) == ERRNO(38) == evaluate(program, resolve("mount"))


@pytest.mark.parametrize("newest", [{"X86_64": 450}, {"X86": 450}, {"AARCH64": 450},
                                    {"X86_64": 450, "X86": 440, "X32": (1 << 30) + 547}, {"AARCH64": 450, "ARM": 440},
                                    {"X32": (1 << 30) + 547}, {}])
def test_the_enosys_prefix_of_any_set_of_architectures(newest):
    """It falls through to the filter for all but newer calls of the architectures it knows."""
    program = seccomp_compile.enosys_for_newer(newest) + struct.pack("=HBBI", 6, 0, 0, ALLOW)
    for arch in seccomp_compile._AUDIT:
        audit, bit = seccomp_compile._AUDIT[arch], (1 << 30 if arch == "X32" else 0)
        limit = newest.get(arch)
        for number in (0, 440, 441, 450, 451, 547, 548, 0x3FFFFFFF):
            expected = ERRNO(38) if limit is not None and (bit | number) > limit else ALLOW
            assert evaluate(program, bit | number, arch=audit) == expected, (arch, number)


def test_flags():
    """SPEC_ALLOW unless flags are given, none for an empty list, NEW_LISTENER with a rule that notifies."""
    assert seccomp.flags_for(seccomp.DEFAULT) == 4
    assert seccomp.flags_for({"flags": []}) == 0
    names = ("LOG", "SPEC_ALLOW", "TSYNC")
    assert seccomp.flags_for({"flags": [f"SECCOMP_FILTER_FLAG_{name}" for name in names]}) == 6
    assert seccomp.flags_for({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}) == 32
    assert seccomp.flags_for({"flags": [], "syscalls": [rule("mkdir", action="SCMP_ACT_NOTIFY")]}) == 8
    with pytest.raises(MinicontainerError, match="SECCOMP_FILTER_FLAG_X"):
        seccomp.flags_for({"flags": ["SECCOMP_FILTER_FLAG_X"]})


# -- the cache -----------------------------------------------------------------------------------------------------


def test_a_program_is_made_once(tmp_path, monkeypatch):
    """The second start reads the file, which only root can."""
    cache = str(tmp_path / "seccomp")
    first = seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, cache)
    monkeypatch.setattr(seccomp_compile, "compile_profile", lambda profile: pytest.fail("made again"))
    assert seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, cache) == first
    (name,) = os.listdir(cache)
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{cache}/{name}").st_mode) == 0o600


def test_another_profile_or_capability_is_another_program(tmp_path):
    """What the program depends on is in the name: nobody gets a looser filter than his own."""
    cache = str(tmp_path)
    loose = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", action="SCMP_ACT_ERRNO")]}
    tight = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("read")]}
    asked = [(seccomp.DEFAULT, []), (seccomp.DEFAULT, ["CAP_SYS_ADMIN"]), (seccomp.DEFAULT, ["CAP_BPF"]), (loose, []), (tight, [])]
    programs = [seccomp.filter_for(profile, caps, cache) for profile, caps in asked]
    assert len(os.listdir(cache)) == 5
    assert [seccomp.filter_for(profile, caps, cache) for profile, caps in asked] == programs
    assert len(set(programs)) == 5


@pytest.mark.parametrize("damage", [b"", b"1234567", b"\0" * (8 * 5000)])
def test_a_damaged_file_of_the_cache_is_made_anew(tmp_path, damage):
    """A file that can't be a program is never handed to the kernel."""
    cache = str(tmp_path)
    program = seccomp.filter_for(seccomp.DEFAULT, [], cache)
    (name,) = os.listdir(cache)
    (tmp_path / name).write_bytes(damage)
    assert seccomp.filter_for(seccomp.DEFAULT, [], cache) == program
    assert (tmp_path / name).read_bytes() == program


def test_a_cache_that_cannot_be_written_does_not_stop_a_start(tmp_path):
    """Disk full, read-only, or something else in its place: the program is made each time."""
    (tmp_path / "file").write_text("")
    program = seccomp.filter_for(seccomp.DEFAULT, [], f"{tmp_path}/file/seccomp")
    assert program == seccomp.filter_for(seccomp.DEFAULT, [], "")


def test_the_cache_stays_small(tmp_path):
    """Files of old profiles and libraries go when new ones come."""
    for i in range(80):
        (tmp_path / f"old{i}.bpf").write_bytes(b"x")
        os.utime(tmp_path / f"old{i}.bpf", (i, i))
    seccomp.filter_for(seccomp.DEFAULT, [], str(tmp_path))
    left = os.listdir(tmp_path)
    assert len(left) == 64
    assert "old79.bpf" in left
    assert "old0.bpf" not in left


def test_a_cached_start_imports_next_to_nothing(tmp_path):
    """On the path of `run` neither json nor hashlib nor cffi is loaded for a cached default profile."""
    seccomp.filter_for(seccomp.DEFAULT, DOCKER_CAPABILITIES, str(tmp_path))
    code = (f"import sys; sys.path.insert(0, {os.getcwd()!r})\nfrom minicontainer.runtime import seccomp\n"
            f"caps = {DOCKER_CAPABILITIES!r}\n"
            f"assert seccomp.filter_for(seccomp.profile_for('default', caps), caps, {str(tmp_path)!r})\n"
            "assert seccomp.flags_for(seccomp.DEFAULT) == 4\n"
            "print(' '.join(sorted(set(sys.modules) & {'json', 'hashlib', 'cffi', 're', 'typing', 'enum', 'ctypes',"
            " 'minicontainer.runtime.seccomp_profile', 'minicontainer.runtime.seccomp_compile'})))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
