"""Compiles what is C: the cffi extension, the stub and the monitor.

`python -m minicontainer.kernel.build` builds in place; setup.py calls the same for a wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))
STUB = os.path.join(os.path.dirname(HERE), "stub")

# No C library: what runs inside a container, and what stays beside it, is a few KiB and touches nothing of the host.
STATIC = [
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-Wl,--build-id=none",
    "-Wl,-z,noseparate-code",
    "-Wl,-z,noexecstack",
    "-s",
]

CALLS = """
long mc_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
long mc_syscall(long nr, long a, long b, long c, long d, long e, long f);
void plan_relocate(struct plan *p);
int plan_run(struct plan *p, uint32_t first, uint32_t last);
long mc_spawn(struct spawn *s);
"""

SOURCE = """
#include <stdint.h>
#include "ops.c"
#include "spawn.c"
#include "monitor.c"
static long mc_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{ return openat2(dir, path, flags, mode, resolve); }
static long mc_syscall(long nr, long a, long b, long c, long d, long e, long f)
{ return sys6(nr, a, b, c, d, e, f); }
"""


def _declarations(path: str, *, what: str = r"(?:enum|struct) \w+ \{.*?\n\};") -> str:
    """The enums and structs of a C header, as cffi reads them: one definition for stub, monitor and Python."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    defines = "".join(f"#define {m[1]} ...\n" for m in re.finditer(r"^#define (PLAN_\w+|MONITOR_\w+) \S", text, re.M))
    structs = "\n".join(m[0] for m in re.finditer(what, text, re.S))
    prototypes = "\n".join(m[0] for m in re.finditer(r"^(?:int|long) monitor_\w+\([^;{]*\);", text, re.M))
    return defines + structs + "\n" + prototypes


def ffibuilder() -> FFI:
    """The extension `minicontainer.kernel._kernel` in cffi's API mode."""
    ffi = FFI()
    ffi.cdef(
        _declarations(os.path.join(STUB, "plan.h"))
        + _declarations(os.path.join(HERE, "spawn.c"))
        + _declarations(os.path.join(STUB, "monitor.h"))
        + CALLS
    )
    ffi.set_source(
        "minicontainer.kernel._kernel",
        SOURCE,
        include_dirs=[STUB, HERE],
        extra_compile_args=["-O2", "-Wall", "-Wno-unused-function"],
        depends=[os.path.join(d, f) for d in (STUB, HERE) for f in os.listdir(d) if f[-2:] in (".c", ".h")],
    )
    return ffi


def build_static(target_dir: str) -> None:
    """The static programs `stub` and `monitor` in target_dir."""
    cc = os.environ.get("CC", "gcc")
    for name, flags in (("stub", []), ("monitor", ["-DMONITOR_MAIN"])):
        subprocess.run([cc, *STATIC, *flags, "-o", os.path.join(target_dir, name), os.path.join(STUB, f"{name}.c")], check=True)


def main() -> None:
    """Builds everything in place."""
    root = os.path.dirname(os.path.dirname(HERE))
    os.chdir(root)
    build_static(STUB)
    print(ffibuilder().compile(tmpdir=root, verbose="-v" in sys.argv))


ffi = ffibuilder()  # the name that setuptools' cffi_modules looks up

if __name__ == "__main__":
    main()
