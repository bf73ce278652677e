"""The system call filter of a container: which BPF program, from a cache, without the libraries that make it.

A start with the default profile reads one file, whose name says all that the program depends on:

    <cache>/default-<GENERATION>-<machine>-<capabilities that matter, as bits>-<the libseccomp that made it>.bpf

and with another profile <cache>/<digest of it and of the same>.bpf. Making one takes libseccomp through cffi, 60 ms.
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from minicontainer.errors import MinicontainerError, UsageError
from minicontainer.kernel.flags import NEW_LISTENER

# Counted up with every change of the default profile or of how programs are made: old files are never read again.
GENERATION = 1

# What `linux.seccomp` holds for docker's default profile: it is expanded only where somebody wants to see it.
DEFAULT = {"defaultAction": "SCMP_ACT_ERRNO", "x-minicontainer-profile": "default"}

# The capabilities that the default profile asks for, in the order of their bits in a file's name.
RELEVANT = ("CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
            "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME",
            "CAP_SYS_TTY_CONFIG")

# linux/seccomp.h. TSYNC is for programs with threads: the stub has none.
FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
         "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32}

_INSTRUCTION = 8  # sizeof(struct sock_filter)
_MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_KEPT = 64  # files in the cache
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib")


def profile_for(kind: str, capabilities: list[str]) -> dict | None:
    """`linux.seccomp` for "default" or the path of a profile in docker's JSON form; None if that filters nothing.

    capabilities: the bounding set, by name ("CAP_CHOWN"). UsageError for a file that is no profile.
    """
    if kind == "default":
        return DEFAULT
    from minicontainer.runtime import seccomp_profile

    return seccomp_profile.to_oci(seccomp_profile.load(kind), capabilities)


def expand(seccomp: dict, capabilities: list[str]) -> dict:
    """`linux.seccomp` as other tools know it: the default profile in full, any other as it is."""
    if not _is_default(seccomp):
        return seccomp
    from minicontainer.runtime import seccomp_profile

    oci = seccomp_profile.to_oci(seccomp_profile.default_profile(), capabilities)
    assert oci is not None  # it has rules
    return oci


def flags_for(seccomp: dict) -> int:
    """The flags of seccomp(2). Without any asked for, SPEC_ALLOW as in runc: speculation is not what it guards.

    NEW_LISTENER is set where the profile notifies: seccomp(2) then returns the listener's descriptor.
    """
    names = seccomp.get("flags")
    bits = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"] if names is None else 0
    for name in names or ():
        if name not in FLAGS:
            raise MinicontainerError(f"seccomp: unknown flag {name!r}", f"flags are {' '.join(FLAGS)}")
        bits |= FLAGS[name]
    if _notifies(seccomp):
        bits |= NEW_LISTENER
    return bits


def _notifies(seccomp: dict) -> bool:
    return any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in seccomp.get("syscalls") or ())


def check_listener(seccomp: dict) -> None:
    """UsageError for a filter that notifies nobody, or has something to say to nobody (config-linux.md "Seccomp")."""
    if not seccomp.get("listenerPath") and (_notifies(seccomp) or seccomp.get("listenerMetadata")):
        what = "SCMP_ACT_NOTIFY is used" if _notifies(seccomp) else "listenerMetadata is set"
        raise UsageError(f"linux.seccomp.listenerPath: is missing: {what}", "name the Unix socket of who is to be told")


def filter_for(seccomp: dict | None, capabilities: list[str], cache: str) -> bytes | None:
    """The program (an array of struct sock_filter) for `linux.seccomp`, or None where that filters nothing.

    capabilities: the bounding set; cache: a directory of root's alone, made where missing, or "" for none.
    Errors are those of seccomp_compile.compile_profile.
    """
    if not seccomp or not (seccomp.get("defaultAction") or seccomp.get("syscalls")):
        return None
    path = f"{cache}/{_key(seccomp, capabilities)}.bpf" if cache and _ours_alone(cache) else ""
    program = _read(path) if path else None
    if program is None:
        from minicontainer.runtime.seccomp_compile import compile_profile

        program = compile_profile(expand(seccomp, capabilities))
        if len(program) > _INSTRUCTION * _MOST_INSTRUCTIONS:
            raise MinicontainerError(f"seccomp: the profile takes {len(program) // _INSTRUCTION} BPF instructions,"
                                     f" the kernel takes {_MOST_INSTRUCTIONS}", "make the profile smaller")
        if path:
            _write(path, program)
    return program


def _ours_alone(directory: str) -> bool:
    """Whether nobody else can have put a filter there: one that somebody else made is no filter."""
    try:
        info = os.lstat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return True  # nobody has: _write makes it, or can't
    return info.st_uid == os.geteuid() and S_ISDIR(info.st_mode) and not info.st_mode & 0o022


def _is_default(seccomp: dict) -> bool:
    return seccomp.get("x-minicontainer-profile") == "default"


def _library() -> str:
    """What tells one build of libseccomp from another without opening it."""
    for directory in _LIBRARIES:
        try:
            stat = os.stat(f"{directory}/libseccomp.so.2")
        except FileNotFoundError:
            continue
        return f"{stat.st_size:x}.{stat.st_mtime_ns:x}"
    return "none"


def _key(seccomp: dict, capabilities: list[str]) -> str:
    uname = os.uname()
    if _is_default(seccomp):
        bits = sum(1 << i for i, name in enumerate(RELEVANT) if name in capabilities)
        return f"default-{GENERATION}-{uname.machine}-{bits:x}-{_library()}"
    from _blake2 import blake2b  # without hashlib, which takes 3 ms to import

    from minicontainer import fastjson

    release = ".".join(uname.release.split(".")[:2])  # which actions there are
    text = fastjson.dumps([GENERATION, uname.machine, release, _library(), seccomp])
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _read(path: str) -> bytes | None:
    """A program that is whole, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # not made yet, or not readable: it is made anew
    try:
        program = os.read(fd, _INSTRUCTION * _MOST_INSTRUCTIONS + 1)
    finally:
        os.close(fd)
    return program if program and len(program) % _INSTRUCTION == 0 else None


def _write(path: str, program: bytes) -> None:
    """Atomically: concurrent starts may make the same program, and each leaves a whole file.

    Where it can't be written (disk full) the start goes on: the next one makes the program again.
    """
    directory, temporary = os.path.dirname(path), f"{path}.{os.getpid()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            whole = os.write(fd, program) == len(program)
            os.fsync(fd)
        finally:
            os.close(fd)
        if whole:
            os.rename(temporary, path)
        _prune(directory)
    except OSError:
        return


def _prune(directory: str) -> None:
    """Keeps the newest: profiles change, libraries are upgraded."""
    with os.scandir(directory) as entries:
        files = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries)
    for _, path in files[:-_KEPT]:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue  # another start pruned it first
