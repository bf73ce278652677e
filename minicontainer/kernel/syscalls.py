"""System call numbers by name, for the ops of a plan: from asm/unistd.h of x86_64 and the generic table (aarch64)."""

from __future__ import annotations

import os

# name: (x86_64, aarch64). From 424 on the numbers are the same everywhere.
_NUMBERS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62), "ioctl": (16, 29), "dup3": (292, 24),
    "rt_sigprocmask": (14, 135), "socket": (41, 198), "bind": (49, 200), "fchdir": (81, 50), "chdir": (80, 49), "chroot": (161, 51),
    "umask": (95, 166), "setsid": (112, 157), "personality": (135, 92), "setgroups": (116, 159), "setresuid": (117, 147),
    "setresgid": (119, 149), "capset": (126, 91), "prctl": (157, 167), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "sethostname": (170, 161), "setdomainname": (171, 162), "keyctl": (250, 219),
    "mkdirat": (258, 34), "mknodat": (259, 33), "fchownat": (260, 54), "symlinkat": (266, 36), "fchmod": (91, 52),
    "fchown": (93, 55), "fchmodat": (268, 53), "unshare": (272, 97), "prlimit64": (302, 261), "setns": (308, 268),
    "seccomp": (317, 277), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "unlinkat": (263, 35), "fstatfs": (138, 44),
    "memfd_create": (319, 279), "pidfd_send_signal": (424, 424), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "pidfd_open": (434, 434),
    "clone3": (435, 435), "close_range": (436, 436), "openat2": (437, 437), "pidfd_getfd": (438, 438),
    "fcntl": (72, 25), "set_mempolicy": (238, 237), "mount_setattr": (442, 442),
    "bpf": (321, 280), "kcmp": (312, 272), "syncfs": (306, 267),
}

_COLUMN = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine, 0)


def number(name: str) -> int:
    """The number of a system call on this machine. KeyError for one that no plan uses."""
    return _NUMBERS[name][_COLUMN]
