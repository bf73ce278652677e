"""Numbers that were typed by hand, against the kernel's own headers and libseccomp's table."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import shutil
import subprocess

import pytest

from minicontainer.kernel import flags, syscalls

HEADERS = ("linux/mount.h", "linux/sched.h", "linux/openat2.h", "linux/prctl.h", "linux/capability.h", "linux/resource.h",
           "asm/resource.h")  # fmt: skip
TABLES = {name: getattr(flags, name) for name in ("MS", "CLONE", "RESOLVE", "OPEN_TREE", "MOVE_MOUNT", "FSOPEN", "FSMOUNT", "FSCONFIG", "MOUNT_ATTR", "PR",
                                                  "PR_CAP_AMBIENT", "O", "S_IF")}  # fmt: skip


@pytest.fixture(scope="module")
def constants() -> dict[str, int]:
    """Every constant of the tables as the compiler sees it, as far as the headers here have it."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    names = sorted(
        {name for table in TABLES.values() for name in table} | set(flags.CAPABILITIES) | set(flags.RLIMIT) | {"MOUNT_ATTR__ATIME"}
    )
    includes = "".join(f"#if __has_include(<{h}>)\n#include <{h}>\n#endif\n" for h in HEADERS)
    enums = re.findall(r"\b(FSCONFIG_\w+)\b", " ".join(flags.FSCONFIG))
    body = "".join(f'#ifdef {n}\nprintf("{n} %llu\\n", (unsigned long long)({n}));\n#endif\n' for n in names)
    body += "".join(f'printf("{n} %llu\\n", (unsigned long long)({n}));\n' for n in enums)
    source = f"#define _GNU_SOURCE\n#include <stdio.h>\n#include <fcntl.h>\n#include <sys/stat.h>\n{includes}int main(void) {{\n{body}return 0; }}\n"
    program = f"/tmp/mc-test-constants-{os.getpid()}"
    subprocess.run(["gcc", "-w", "-x", "c", "-", "-o", program], input=source, text=True, check=True)
    try:
        out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    finally:
        os.unlink(program)
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


@pytest.mark.parametrize("table", TABLES)
def test_flags_are_the_kernels(constants: dict[str, int], table: str) -> None:
    """Every flag has the number that the headers give it."""
    known = {name: value for name, value in TABLES[table].items() if name in constants}
    assert known, f"none of {table} is in the headers"
    assert known == {name: constants[name] for name in known}


def test_capabilities_are_the_kernels(constants: dict[str, int]) -> None:
    """Each capability stands at its own number."""
    assert [constants[name] for name in flags.CAPABILITIES if name in constants] == list(
        range(sum(n in constants for n in flags.CAPABILITIES))
    )


def test_limits_are_the_kernels(constants: dict[str, int]) -> None:
    """Each rlimit stands at its own number."""
    assert {n: constants[n] for n in flags.RLIMIT if n in constants} == {n: i for i, n in enumerate(flags.RLIMIT) if n in constants}


def test_time_mask(constants: dict[str, int]) -> None:
    """The field of the three atime modes (mount_setattr(2))."""
    assert constants["MOUNT_ATTR__ATIME"] == flags.MOUNT_ATTR_ATIME


@pytest.mark.parametrize(("column", "token"), [(0, 0xC000003E), (1, 0xC00000B7)])
def test_system_calls_are_the_kernels(column: int, token: int) -> None:
    """Every system call number is libseccomp's for that machine."""
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is not installed")
    lib = ctypes.CDLL("libseccomp.so.2")
    wrong = {}
    for name, numbers in syscalls._NUMBERS.items():
        expected = lib.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
        if expected >= 0 and expected != numbers[column]:  # an older library does not know the newest
            wrong[name] = (numbers[column], expected)
    assert wrong == {}


def test_names() -> None:
    """A flag word in the kernel's words; what has no name stays a number."""
    assert flags.names(3, flags.MS) == "MS_RDONLY|MS_NOSUID"
    assert flags.names(0, flags.MS) == "0"
    assert flags.names(1 | 1 << 40, flags.MS) == "MS_RDONLY|0x10000000000"
