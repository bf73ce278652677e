"""From OCI's linux.seccomp to a BPF program. Only on a cache miss.

As runc does it: names that libseccomp does not know are left out, a rule that says what the default says is left out,
two conditions on one argument are two rules, and system calls newer than every one that the profile names fail with
ENOSYS, so that programs fall back instead of stopping at EPERM.
Source: runtime-spec config-linux.md "Seccomp"; runc libcontainer/seccomp.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from minicontainer.errors import Unsupported, UsageError
from minicontainer.kernel import seccomp as lib

if TYPE_CHECKING:
    Condition = tuple[int, int, int, int]  # argument, CMP_*, datum_a, datum_b
    Rules = list[tuple[str, int, list[list[Condition]]]]  # name, action, alternatives of conditions that all must hold

_ENOSYS, _EPERM = 38, 1

ACTIONS = {
    "SCMP_ACT_KILL": lib.ACT_KILL_THREAD, "SCMP_ACT_KILL_THREAD": lib.ACT_KILL_THREAD, "SCMP_ACT_TRAP": lib.ACT_TRAP,
    "SCMP_ACT_KILL_PROCESS": lib.ACT_KILL_PROCESS, "SCMP_ACT_ERRNO": lib.ACT_ERRNO, "SCMP_ACT_TRACE": lib.ACT_TRACE,
    "SCMP_ACT_LOG": lib.ACT_LOG, "SCMP_ACT_ALLOW": lib.ACT_ALLOW, "SCMP_ACT_NOTIFY": lib.ACT_NOTIFY,
}
OPERATORS = {
    "SCMP_CMP_NE": lib.CMP_NE, "SCMP_CMP_LT": lib.CMP_LT, "SCMP_CMP_LE": lib.CMP_LE, "SCMP_CMP_EQ": lib.CMP_EQ,
    "SCMP_CMP_GE": lib.CMP_GE, "SCMP_CMP_GT": lib.CMP_GT, "SCMP_CMP_MASKED_EQ": lib.CMP_MASKED_EQ,
}
# A default of these lets new system calls through anyway, or asks somebody who knows.
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

# AUDIT_ARCH_* (linux/audit.h) of what may run on our two machines; x32 shares x86_64's.
_AUDIT = {"X86_64": 0xC000003E, "X32": 0xC000003E, "X86": 0x40000003, "AARCH64": 0xC00000B7, "ARM": 0x40000028}
_X32_BIT = 1 << 30

# linux/bpf_common.h
_LOAD, _JUMP, _JUMP_EQ, _JUMP_GT, _JUMP_SET, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_DATA_NR, _DATA_ARCH = 0, 4  # offsets in struct seccomp_data


def _action(name: object, errno: object, where: str) -> int:
    action = ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise UsageError(f"seccomp: {where}: {name!r} is not an action", f"actions are {' '.join(ACTIONS)}")
    if action not in (lib.ACT_ERRNO, lib.ACT_TRACE):
        return action
    if errno is None:
        return action | _EPERM
    if not isinstance(errno, int) or not 0 <= errno <= 0xFFFF:
        raise UsageError(f"seccomp: {where}: errnoRet {errno!r} is not an errno")
    return action | errno


def _condition(arg: dict, where: str) -> Condition:
    index, op = arg.get("index"), arg.get("op")
    value, two = arg.get("value", 0), arg.get("valueTwo", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise UsageError(f"seccomp: {where}: argument index {index!r} is not 0 to 5")
    if op not in OPERATORS:
        raise UsageError(f"seccomp: {where}: {op!r} is not an operator", f"operators are {' '.join(OPERATORS)}")
    if not all(isinstance(v, int) and 0 <= v < 1 << 64 for v in (value, two)):
        raise UsageError(f"seccomp: {where}: argument {index} is compared with what is no 64-bit number")
    return index, OPERATORS[op], value, two


def _conditions(args: list[dict], where: str) -> list[list[Condition]]:
    """The alternatives of one rule: libseccomp takes one condition per argument, more are rules of their own."""
    all_of = [_condition(arg, where) for arg in args]
    if len({condition[0] for condition in all_of}) == len(all_of):
        return [all_of]
    return [[condition] for condition in all_of]


def _rules(profile: dict) -> Rules:
    """Each system call of each rule, in order."""
    rules: Rules = []
    for rule in profile.get("syscalls") or ():
        names = rule.get("names") or []
        where = ", ".join(map(str, names[:3]))
        if not names or not all(isinstance(name, str) and name for name in names):
            raise UsageError(f"seccomp: the names {names!r} of a rule are not system calls")
        action = _action(rule.get("action"), rule.get("errnoRet"), where)
        alternatives = _conditions(rule.get("args") or [], where)
        rules += [(name, action, alternatives) for name in names]
    return rules


def _add_architectures(context: lib.Filter, names: list[str]) -> dict[str, int]:
    """{"X86_64": token, …}, the native one always among them."""
    tokens = {}
    for name in names:
        short = name.removeprefix("SCMP_ARCH_") if isinstance(name, str) else ""
        token = context.arch(short.lower()) if short != name and short else 0
        if not token:
            raise UsageError(f"seccomp: {name!r} is not an architecture that libseccomp knows")
        context.arch_add(token)
        tokens[short] = token
    native = context.arch("")
    if native not in tokens.values():
        tokens.update({name: native for name in _AUDIT if context.arch(name.lower()) == native})
    return tokens


def _check_notify(context: lib.Filter, default: int, rules: Rules) -> None:
    if default == lib.ACT_NOTIFY:
        raise UsageError("seccomp: SCMP_ACT_NOTIFY cannot be used as default action")
    notified = [name for name, action, _ in rules if action == lib.ACT_NOTIFY]
    if "write" in notified:
        raise UsageError("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall", "the listener could never be handed over")
    if notified and context.api() < 5:
        raise Unsupported("seccomp: SCMP_ACT_NOTIFY needs libseccomp 2.5 and Linux 5.0")


def compile_profile(profile: dict) -> bytes:
    """The array of struct sock_filter of OCI's linux.seccomp.

    UsageError names what in the profile is wrong; Unsupported and MinicontainerError what libseccomp can't do.
    """
    default_errno = profile.get("defaultErrnoRet")
    default = _action(profile.get("defaultAction"), default_errno, "defaultAction")
    rules = _rules(profile)
    with lib.Filter(default) as context:
        _check_notify(context, default, rules)
        tokens = _add_architectures(context, profile.get("architectures") or [])
        native = context.arch("")
        context.attr_set(lib.FLTATR_CTL_NNP, 0)
        if len(rules) > 32:  # a binary tree; libseccomp up to 2.5.4 goes wrong with it where there are no rules
            context.attr_set(lib.FLTATR_CTL_OPTIMIZE, 2)
        for name, action, alternatives in rules:
            number = context.resolve(name, native)
            if action == default or number == lib.UNKNOWN:
                continue
            for conditions in alternatives:
                context.rule_add(action, number, conditions, name)
        program = context.export_bpf()
        if profile["defaultAction"] in _PERMISSIVE or default_errno == _ENOSYS:
            return program
        newest = {arch: max((context.resolve(name, token) for name, _, _ in rules), default=0)
                  for arch, token in tokens.items() if arch in _AUDIT}
    return enosys_for_newer(newest) + program


def enosys_for_newer(newest: dict[str, int]) -> bytes:
    """A prefix for a program: system calls above `newest` of their architecture fail with ENOSYS.

    It looks at number and architecture alone, so the kernel still knows which calls are always allowed and skips the
    filter for them (Linux 5.11, kernel/seccomp.c seccomp_cache_prepare).
    """
    deny = (_RETURN, 0, 0, lib.ACT_ERRNO | _ENOSYS)
    sections = []
    by_audit: dict[int, dict[str, int]] = {}
    for arch, number in newest.items():
        if number > 0:
            by_audit.setdefault(_AUDIT[arch], {})[arch] = number
    for audit, numbers in by_audit.items():
        body = [(_LOAD, 0, 0, _DATA_NR)]
        if audit == _AUDIT["X86_64"]:
            # no limit known for one of the two: let the filter decide
            plain, x32 = numbers.get("X86_64", _X32_BIT), numbers.get("X32", 0xFFFFFFFF)
            body += [(_JUMP_SET, 1, 0, _X32_BIT), (_JUMP_GT, 1, 2, plain), (_JUMP_GT, 0, 1, x32), deny]
        else:
            body += [(_JUMP_GT, 0, 1, max(numbers.values())), deny]
        sections.append((audit, body))
    program: list[tuple[int, int, int, int]] = []
    for audit, body in reversed(sections):
        section = [(_JUMP_EQ, 0, len(body) + 1, audit), *body, (_JUMP, 0, 0, len(program))]
        program = section + program
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in [(_LOAD, 0, 0, _DATA_ARCH), *program])
