"""Docker's default seccomp profile, and profiles in docker's JSON form.

The default is the profile of moby/profiles (seccomp/default_linux.go) of 2026-06-30, with one hole closed: see
_SOCKETS. It lists what is allowed; the rest is EPERM. It is data in the shape of docker's JSON, so that it and a user's
file take the same way to OCI's linux.seccomp. Whoever changes it counts GENERATION in runtime/seccomp.py up (a test
holds that).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minicontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

# What any program may call: plain computing on its own files, memory, sockets and processes.
_ALWAYS = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount
statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe
utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""

# What a capability in the bounding set allows on top.
_WITH_CAPABILITY = (
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    ("CAP_SYS_ADMIN",
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules"
     " lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname"
     " sethostname setns syslog umount umount2 unshare"),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
)

_ON_ARCHITECTURE = (
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
    (("ppc64le",), "swapcontext sync_file_range2"),
    (("riscv64",), "riscv_flush_icache"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
)

# personality(2): query, PER_LINUX, PER_LINUX32 and both with UNAME26. No ADDR_NO_RANDOMIZE, no READ_IMPLIES_EXEC.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

# A new namespace needs CAP_SYS_ADMIN: NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET NEWNS. clone3's flags are in
# memory, where a filter can't look: ENOSYS makes the C library fall back on clone.
_CLONE_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x00020000
_ENOSYS = 38

# socket(2), but not AF_ALG (the kernel's own crypto code, which no container needs) and AF_VSOCK (on a virtual machine
# its host answers there, past every network namespace).
# Docker says "less than 38, 39, greater than 40", and a filter compares 64 bits where the kernel takes 32:
# socket(1 << 32 | 40) passes it. Here the upper half must be zero: (mask, value) of 39, 41, 42-43, 44-47, 48-63.
_AF_ALG = 38
_FULL = (1 << 64) - 1
_SOCKETS = ((_FULL, 39), (_FULL, 41), (_FULL - 1, 42), (_FULL - 3, 44), (_FULL - 15, 48))

_SUB_ARCHITECTURES = (
    ("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    ("SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
    ("SCMP_ARCH_S390X", ("SCMP_ARCH_S390",)),
    ("SCMP_ARCH_RISCV64", ()),
    ("SCMP_ARCH_LOONGARCH64", ()),
)

# machine (uname -m): docker's name in includes/excludes, libseccomp's in archMap
MACHINES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def _allow(names: str, *, args: tuple[tuple[int, int, int, str], ...] = (), includes: dict | None = None,
           excludes: dict | None = None) -> dict:
    """A rule of docker's JSON. args: (index, value, valueTwo, SCMP_CMP_*)."""
    return {"names": names.split(), "action": "SCMP_ACT_ALLOW", "includes": includes or {}, "excludes": excludes or {},
            "args": [{"index": i, "value": value, "valueTwo": two, "op": op} for i, value, two, op in args]}


def default_profile() -> dict:
    """Docker's default profile, as its JSON would load."""
    sockets = ((0, _AF_ALG, 0, "SCMP_CMP_LT"), *((0, mask, value, "SCMP_CMP_MASKED_EQ") for mask, value in _SOCKETS))
    admin, s390 = ["CAP_SYS_ADMIN"], ["s390", "s390x"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": a, "subArchitectures": list(sub)} for a, sub in _SUB_ARCHITECTURES],
        "syscalls": [
            _allow(_ALWAYS),
            # before 4.8 ptrace could be used to get round a filter (CVE-2019-2054)
            _allow("process_vm_readv process_vm_writev ptrace", includes={"minKernel": "4.8"}),
            *(_allow("socket", args=(condition,)) for condition in sockets),
            *(_allow("personality", args=((0, value, 0, "SCMP_CMP_EQ"),)) for value in _PERSONALITIES),
            *(_allow(names, includes={"arches": list(arches)}) for arches, names in _ON_ARCHITECTURE),
            *(_allow(names, includes={"caps": [cap]}) for cap, names in _WITH_CAPABILITY),
            _allow("clone", args=((0, _CLONE_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"),),
                   excludes={"caps": admin, "arches": s390}),
            _allow("clone", args=((1, _CLONE_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"),),
                   includes={"arches": s390}, excludes={"caps": admin}),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS, "excludes": {"caps": admin}},
        ],
    }


def _answers(conditions: dict, caps: set[str], arch: str, kernel: tuple[int, int],
             given: Callable[[list[bool]], bool]) -> list[bool]:
    """What each of the conditions says here. given: whether all of several capabilities count, or any."""
    answers = []
    if conditions.get("arches"):
        answers.append(arch in conditions["arches"])
    if conditions.get("caps"):
        answers.append(given([cap in caps for cap in conditions["caps"]]))
    if conditions.get("minKernel"):
        answers.append(kernel >= _version(conditions["minKernel"]))
    return answers


def _version(text: object) -> tuple[int, int]:
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(part.isdigit() and part.isascii() for part in parts):
        raise UsageError(f'seccomp profile: minKernel {text!r} is not "<kernel>.<major>"')
    return int(parts[0]), int(parts[1])


def kernel_version() -> tuple[int, int]:
    """(6, 18) of 6.18.44-something."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor[:3] if c.isdigit()))


def to_oci(profile: dict, capabilities: list[str], *, machine: str | None = None,
           kernel: tuple[int, int] | None = None) -> dict | None:
    """OCI's linux.seccomp of a profile in docker's form, or None if it filters nothing.

    capabilities: the bounding set. UsageError where the profile contradicts itself.
    Source: moby/profiles seccomp/seccomp_linux.go.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    if profile.get("architectures") and profile.get("archMap"):
        raise UsageError("seccomp profile: both 'architectures' and 'archMap' are given", "use one of them")
    arch, native = MACHINES[machine or os.uname().machine]
    here = (set(capabilities), arch, kernel or kernel_version())
    keep = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
    oci = {key: profile[key] for key in keep if profile.get(key) is not None}
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == native:
            oci["architectures"] = [native, *(entry.get("subArchitectures") or ())]
    oci["syscalls"] = []
    for rule in profile.get("syscalls") or ():
        if rule.get("name") and rule.get("names"):
            raise UsageError(f"seccomp profile: both 'name' and 'names' are given in the rule for {rule['name']}",
                             "use one of them")
        if any(_answers(rule.get("excludes") or {}, *here, any)) or not all(_answers(rule.get("includes") or {}, *here, all)):
            continue
        plain = {"names": rule.get("names") or [rule.get("name", "")], "action": rule.get("action", "")}
        plain.update({key: rule[key] for key in ("errnoRet", "args") if rule.get(key) not in (None, [])})
        oci["syscalls"].append(plain)
    return oci


def load(path: str) -> dict:
    """A profile from a JSON file of docker's form. UsageError says why it is none."""
    from minicontainer import fastjson

    try:
        with open(path, "rb") as f:
            profile = fastjson.loads(f.read())
    except OSError as e:
        raise UsageError(f"--security-opt seccomp={path}: {e.strerror}",
                         "name a JSON profile, or use seccomp=unconfined") from None
    except ValueError as e:
        raise UsageError(f"--security-opt seccomp={path}: {e}", "the profile is a JSON file") from None
    rules = profile.get("syscalls") if isinstance(profile, dict) else None
    if not isinstance(profile, dict) or not isinstance(rules or [], list) or not all(isinstance(r, dict) for r in rules or []):
        raise UsageError(f"--security-opt seccomp={path}: not a seccomp profile",
                         'it is an object with "defaultAction" and a list "syscalls"')
    return profile
