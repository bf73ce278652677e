"""The fields of config.json and what each may hold (OCI runtime spec 1.0 to 1.3: config.md, config-linux.md, schema/).

Types and ranges are those of the spec's Go types, which is what callers write; what a runtime can't do anything with is
narrower, with the reason. What depends on several fields, or on this host, is in validate.py.
"""

from __future__ import annotations

from minicontainer.kernel.flags import RLIMIT
from minicontainer.runtime.shapes import Wrong, array, boolean, integer, mapping, one_of, path, record, shown, text, texts

OLDEST, NEWEST = "1.0.0", "1.3.0"  # versions of the specification

_U16 = integer(0, (1 << 16) - 1)
_I32, _U32 = integer(-(1 << 31), (1 << 31) - 1), integer(0, (1 << 32) - 1)
_I64, _U64 = integer(-(1 << 63), (1 << 63) - 1), integer(0, (1 << 64) - 1)

# 4294967295 is -1: setresuid(2) and chown(2) take it for "leave it as it is", which is root.
_ID = integer(0, (1 << 32) - 2, "0 to 4294967294; -1 and 4294967295 mean nobody")
# Kernel: 12 bits and 20 (include/linux/kdev_t.h).
_MAJOR, _MINOR = integer(0, 4095), integer(0, (1 << 20) - 1)
_NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")


def _filled(value: object) -> None:
    text(value)
    if not value:
        raise Wrong("must not be empty")


def _variable(value: object) -> None:
    if value[:1] in ("=", "") or "=" not in value:  # type: ignore[index,operator]  # texts() has been there
        what = "name cannot be empty" if value[:1] == "=" else "missing '='"  # type: ignore[index]
        raise Wrong(f"invalid environment variable: {what}", "write NAME=value")


def _environment(value: object) -> None:
    texts(value)
    array(_variable)(value)


def _host_name(value: object) -> None:
    text(value)
    if len(value.encode()) > 64:  # type: ignore[attr-defined]  # it is a str
        raise Wrong(f"{shown(value)} is longer than 64 bytes", "the kernel's limit: uname(2)")


def _numbers(value: object) -> None:
    """A list as cpuset(7) writes it, roughly: whoever uses it parses it."""
    text(value)
    if not set(value) <= set("0123456789,- "):  # type: ignore[call-overload]  # it is a str
        raise Wrong(f"{shown(value)} is not a list of numbers", "write it like 0-3 or 0,2")


def _file_name(value: object) -> None:
    text(value)
    if "/" in value:  # type: ignore[operator]  # it is a str
        raise Wrong("must be a file name (no slashes)", "a file of the cgroup, like memory.high")
    if "." not in value[1:]:  # type: ignore[index]
        raise Wrong(f"the specified key has not the form CONTROLLER.VALUE `{value}`", "a file of the cgroup, like memory.high")


def _access(value: object) -> None:
    text(value)
    if not value or not set(value) <= set("rwm"):  # type: ignore[call-overload]  # it is a str
        raise Wrong("device access cannot be empty" if not value else f"{shown(value)} is no access", "some of r, w and m")


def interface(value: object) -> None:
    text(value)
    if not 0 < len(value.encode()) < 16 or value in (".", "..") or set(value) & set("/: \t\n"):  # type: ignore[attr-defined,call-overload]
        raise Wrong(f"invalid network device name {shown(value)}", "1 to 15 bytes without slash, colon and blanks")


_MAPPINGS = array(
    record({"containerID": _U32, "hostID": _U32, "size": integer(1, (1 << 32) - 1)}, need=("containerID", "hostID", "size"))
)


# -- process ---------------------------------------------------------------------------------------------------------------

_SCHEDULER = record(
    {
        "policy": one_of(
            ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"),
            "invalid scheduler policy: {}",
        ),
        "nice": _I32,
        "priority": _I32,
        "flags": array(
            one_of(
                [
                    f"SCHED_FLAG_{name}"
                    for name in ("RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX".split())
                ],
                "invalid scheduler flag: {}",
            )
        ),
        "runtime": _U64,
        "deadline": _U64,
        "period": _U64,
    },
    need=("policy",),
)

PROCESS = record(
    {
        "terminal": boolean,
        # struct winsize has 16 bits for each.
        "consoleSize": record({"height": _U16, "width": _U16}, need=("height", "width")),
        "user": record({"uid": _ID, "gid": _ID, "umask": _U32, "additionalGids": array(_ID), "username": text}),
        "args": texts,
        "env": _environment,
        "cwd": text,
        "capabilities": record(dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), texts)),
        "rlimits": array(
            record(
                {"type": one_of(RLIMIT, "unknown rlimit {}"), "soft": _U64, "hard": _U64},
                need=("type", "soft", "hard"),
            )
        ),
        "noNewPrivileges": boolean,
        "apparmorProfile": text,
        "selinuxLabel": text,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": _SCHEDULER,
        "ioPriority": record(
            {
                "class": one_of(("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"), "invalid ioPriority.Class: {}"),
                "priority": integer(0, 7),
            },
            need=("class",),
        ),
        "execCPUAffinity": record({"initial": _numbers, "final": _numbers}),
    }
)

# -- cgroups ---------------------------------------------------------------------------------------------------------------

_RATES = array(record({"major": _I64, "minor": _I64, "rate": _U64}, need=("major", "minor", "rate")))

RESOURCES = record(
    {
        "devices": array(
            record(
                {
                    "allow": boolean,
                    "type": one_of(("a", "b", "c", ""), "invalid cgroup device type {}"),
                    "major": integer(-1, (1 << 32) - 1),
                    "minor": integer(-1, (1 << 32) - 1),
                    "access": _access,
                },
                need=("allow",),
            )
        ),
        "memory": record(
            {
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), _I64),
                "swappiness": _U64,
                **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), boolean),
            }
        ),
        "cpu": record(
            {
                **dict.fromkeys(("shares", "period", "burst", "realtimePeriod"), _U64),
                **dict.fromkeys(("quota", "realtimeRuntime", "idle"), _I64),
                **dict.fromkeys(("cpus", "mems"), _numbers),
            }
        ),
        "pids": record({"limit": _I64}),
        "blockIO": record(
            {
                "weight": _U16,
                "leafWeight": _U16,
                "weightDevice": array(
                    record({"major": _I64, "minor": _I64, "weight": _U16, "leafWeight": _U16}, need=("major", "minor"))
                ),
                **dict.fromkeys(
                    ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"), _RATES
                ),
            }
        ),
        "hugepageLimits": array(record({"pageSize": _filled, "limit": _U64}, need=("pageSize", "limit"))),
        "network": record(
            {
                "classID": _U32,
                "priorities": array(record({"name": interface, "priority": _U32}, need=("name", "priority"))),
            }
        ),
        "rdma": mapping(record({"hcaHandles": _U32, "hcaObjects": _U32})),
        "unified": mapping(text, _file_name),
    }
)

# -- the rest of linux -----------------------------------------------------------------------------------------------------

_ACTION = one_of(
    [f"SCMP_ACT_{name}" for name in "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY".split()],
    "invalid seccomp action {}",
)
ARCHITECTURES = """X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64
PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64""".split()

_SECCOMP = record(
    {
        "defaultAction": _ACTION,
        "defaultErrnoRet": _U32,
        "architectures": array(one_of([f"SCMP_ARCH_{name}" for name in ARCHITECTURES], "invalid seccomp architecture {}")),
        "flags": array(
            one_of(
                [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")],
                "seccomp flag {} is not known",
            )
        ),
        "listenerPath": text,
        "listenerMetadata": text,
        "syscalls": array(
            record(
                {
                    "names": texts,
                    "action": _ACTION,
                    "errnoRet": _U32,
                    "args": array(
                        record(
                            {
                                "index": integer(0, 5, "a system call has arguments 0 to 5"),
                                "value": _U64,
                                "valueTwo": _U64,
                                "op": one_of([f"SCMP_CMP_{name}" for name in "NE LT LE EQ GE GT MASKED_EQ".split()],
                                             "invalid seccomp operator {}"),
                            },
                            need=("index", "value", "op"),
                        )
                    ),
                },
                need=("names", "action"),
            )
        ),
    },
    need=("defaultAction",),
)  # fmt: skip

LINUX = record(
    {
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "sysctl": mapping(text),
        "resources": RESOURCES,
        "cgroupsPath": text,
        "namespaces": array(record({"type": one_of(_NAMESPACES, "namespace {} does not exist"), "path": text}, need=("type",))),
        "devices": array(
            record(
                {
                    "path": path,
                    "type": one_of(("c", "b", "u", "p"), "invalid device type {}"),
                    "major": _MAJOR,
                    "minor": _MINOR,
                    "fileMode": _U32,
                    "uid": _ID,
                    "gid": _ID,
                },
                need=("path", "type"),
            )
        ),
        "netDevices": mapping(record({"name": text}), interface),
        "seccomp": _SECCOMP,
        "rootfsPropagation": one_of(
            ("", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
            "rootfsPropagation={} is not supported",
        ),
        "maskedPaths": array(path),
        "readonlyPaths": array(path),
        "mountLabel": text,
        "intelRdt": record(
            {
                "closID": text,
                "schemata": texts,
                "l3CacheSchema": text,
                "memBwSchema": text,
                "enableCMT": boolean,
                "enableMBM": boolean,
                "enableMonitoring": boolean,
            }
        ),
        "memoryPolicy": record(
            {
                "mode": one_of(
                    [f"MPOL_{m}" for m in "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL".split()],
                    "invalid memory policy mode {}",
                ),
                "nodes": _numbers,
                "flags": array(
                    one_of(
                        ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"), "invalid memory policy flag {}"
                    )
                ),
            },
            need=("mode",),
        ),
        "personality": record(
            {"domain": one_of(("LINUX", "LINUX32"), "invalid personality domain {}"), "flags": texts}, need=("domain",)
        ),
        "timeOffsets": mapping(
            record({"secs": _I64, "nanosecs": integer(0, 999_999_999)}),
            one_of(("monotonic", "boottime"), "{} is no clock of a time namespace"),
        ),
    }
)

# -- the whole -------------------------------------------------------------------------------------------------------------

_HOOKS = array(
    record(
        {
            "path": path,
            "args": texts,
            "env": texts,
            "timeout": integer(1, (1 << 31) - 1, "seconds, greater than zero"),
        },
        need=("path",),
    )
)

CONFIG = record(
    {
        "ociVersion": text,
        "process": PROCESS,
        "root": record({"path": _filled, "readonly": boolean}, need=("path",)),
        "hostname": _host_name,
        "domainname": _host_name,
        "mounts": array(
            record(
                {
                    "destination": _filled,
                    "type": text,
                    "source": text,
                    "options": texts,
                    "uidMappings": _MAPPINGS,
                    "gidMappings": _MAPPINGS,
                },
                need=("destination",),
            )
        ),
        "hooks": record(
            dict.fromkeys(("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), _HOOKS)
        ),
        "annotations": mapping(text, _filled),
        "linux": LINUX,
    },
    need=("ociVersion",),
)
