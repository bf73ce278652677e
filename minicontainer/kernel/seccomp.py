"""libseccomp: from rules with names to a BPF program. Imported only when a program is not in the cache.

The library is opened at run time: a host without it can still run what asks for no filter. Names and argument order
are libseccomp's (seccomp_init(3), seccomp_rule_add(3)); each call is checked.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from cffi import FFI

from minicontainer.errors import MinicontainerError, Unsupported

SONAME = "libseccomp.so.2"
UNKNOWN = -1  # __NR_SCMP_ERROR: no architecture has a system call of this name

ACT_KILL_THREAD = 0x00000000
ACT_KILL_PROCESS = 0x80000000
ACT_TRAP = 0x00030000
ACT_ERRNO = 0x00050000  # | errno
ACT_NOTIFY = 0x7FC00000
ACT_TRACE = 0x7FF00000  # | message
ACT_LOG = 0x7FFC0000
ACT_ALLOW = 0x7FFF0000

# enum scmp_compare and enum scmp_filter_attr of seccomp.h
CMP_NE, CMP_LT, CMP_LE, CMP_EQ, CMP_GE, CMP_GT, CMP_MASKED_EQ = range(1, 8)
FLTATR_CTL_NNP = 3
FLTATR_CTL_OPTIMIZE = 8

_CDEF = """
void *seccomp_init(uint32_t def_action);
void seccomp_release(void *ctx);
int seccomp_arch_add(void *ctx, uint32_t arch_token);
uint32_t seccomp_arch_native(void);
uint32_t seccomp_arch_resolve_name(const char *arch_name);
int seccomp_attr_set(void *ctx, int attr, uint32_t value);
int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
int seccomp_rule_add_array(void *ctx, uint32_t action, int syscall, unsigned int arg_cnt, const void *arg_array);
int seccomp_export_bpf(void *ctx, int fd);
unsigned int seccomp_api_get(void);
const unsigned int *seccomp_version(void);
"""


def version() -> str:
    """The library's version (seccomp_version(3)), like "2.5.4"; "" on a host without it."""
    ffi = FFI()
    ffi.cdef(_CDEF)
    try:
        lib: Any = ffi.dlopen(SONAME)
    except OSError:
        return ""
    found = lib.seccomp_version()
    return ".".join(str(found[i]) for i in range(3))


class Filter:
    """A libseccomp filter context. Use it in a `with`."""

    def __init__(self, default_action: int) -> None:
        """seccomp_init(3). Unsupported without the library."""
        self._ffi = FFI()
        self._ffi.cdef(_CDEF)
        try:
            self._lib = self._open()
        except OSError as e:
            raise Unsupported(f"seccomp needs {SONAME}: {e}",
                              "apt-get install libseccomp2, or run without a filter: --security-opt seccomp=unconfined"
                              ) from None
        self._ctx = self._lib.seccomp_init(default_action)
        if self._ctx == self._ffi.NULL:
            raise MinicontainerError(f"libseccomp refuses the default action {default_action:#x}")

    def _open(self) -> Any:
        return self._ffi.dlopen(SONAME)

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.seccomp_release(self._ctx)

    def _check(self, result: int, what: str) -> None:
        if result < 0:
            raise MinicontainerError(f"libseccomp: {what}: {os.strerror(-result)}")

    def api(self) -> int:
        """seccomp_api_get(3): what library and kernel can do together; 5 and more: SCMP_ACT_NOTIFY."""
        return self._lib.seccomp_api_get()

    def arch(self, name: str) -> int:
        """The token of an architecture by libseccomp's name ("x86_64"), 0 if it knows none; "" is the native one."""
        return self._lib.seccomp_arch_resolve_name(name.encode()) if name else self._lib.seccomp_arch_native()

    def arch_add(self, token: int) -> None:
        """seccomp_arch_add(3); the native one is there from the start."""
        result = self._lib.seccomp_arch_add(self._ctx, token)
        if result != -17:  # EEXIST: it is there
            self._check(result, f"architecture {token:#x}")

    def attr_set(self, attr: int, value: int) -> None:
        """seccomp_attr_set(3)."""
        self._check(self._lib.seccomp_attr_set(self._ctx, attr, value), f"attribute {attr} = {value}")

    def resolve(self, name: str, token: int) -> int:
        """The number of a system call; negative and not UNKNOWN: only other architectures have it."""
        return self._lib.seccomp_syscall_resolve_name_arch(token, name.encode())

    def rule_add(self, action: int, syscall: int, conditions: list[tuple[int, int, int, int]], name: str) -> None:
        """seccomp_rule_add_array(3). conditions: (argument, CMP_*, datum_a, datum_b), all of which must hold."""
        array = b"".join(struct.pack("=IIQQ", *condition) for condition in conditions)
        self._check(self._lib.seccomp_rule_add_array(self._ctx, action, syscall, len(conditions), array),
                    f"rule for {name}")

    def export_bpf(self) -> bytes:
        """seccomp_export_bpf(3): an array of struct sock_filter."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._lib.seccomp_export_bpf(self._ctx, fd), "export")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
