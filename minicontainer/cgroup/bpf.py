"""Device rules on cgroup v2: a small BPF program for each group that the kernel asks at every open and mknod of a device.

Sources: bpf(2), linux/bpf.h (BPF_PROG_TYPE_CGROUP_DEVICE, struct bpf_cgroup_dev_ctx), cgroup-v2.rst "Device controller".
The program carries the bits that are asked for from the last rule to the first; each bit is settled by the first rule it
meets, so the last rule of the list wins:

    r2 = type, r4 = access bits not settled yet, r5 = major, r6 = minor
    for each rule:  type, major, minor differ?  next rule
                    allow: r4 &= ~access; nothing left? return 1
                    deny:  r4 & access?     return 0
    return the default
"""

from __future__ import annotations

import os
from errno import ENOENT
from struct import Struct, pack, unpack_from

from minicontainer.cgroup.devices import LIMIT, Rule, parse
from minicontainer.errors import KernelError, LimitError
from minicontainer.kernel import calls
from minicontainer.stub.ops import Blob, Op, PointerTo, Slot, openat2, store, syscall

_INSTRUCTION = Struct("=BBhi")  # struct bpf_insn
_LOAD32, _MOV32, _MOV32_IMM, _AND32_IMM, _RSH32_IMM = 0x61, 0xBC, 0xB4, 0x54, 0x74
_JNE_IMM, _JEQ_IMM, _EXIT = 0x55, 0x15, 0x95
_TYPE = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2
_O_DIRECTORY = 0o200000
_MAX_PROGRAMS = 64


def _instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, src << 4 | dst, off, imm)


def assemble(rules: list[Rule]) -> bytes:
    """The program of a list of rules (devices.parse), as an array of struct bpf_insn."""
    code = [
        _instruction(_LOAD32, 2, 1, 0),  # access_type: type in the low half, access in the high one
        _instruction(_MOV32, 4, 2),
        _instruction(_AND32_IMM, 2, imm=0xFFFF),
        _instruction(_RSH32_IMM, 4, imm=16),
        _instruction(_LOAD32, 5, 1, 4),
        _instruction(_LOAD32, 6, 1, 8),
    ]
    for rule in reversed(rules):
        if rule.everything():
            return b"".join(code) + _return(rule.allow)
        if max(rule.major, rule.minor) < 1 << 31:  # what would not fit is no device's number (kdev_t.h: 12 and 20 bits)
            code.append(_match(rule))
    return b"".join(code) + _return(True)


def _return(value: bool) -> bytes:
    return _instruction(_MOV32_IMM, 0, imm=int(value)) + _instruction(_EXIT)


def _match(rule: Rule) -> bytes:
    """One rule: comparisons that jump behind it, then its verdict."""
    access = sum(_ACCESS[letter] for letter in rule.access)
    if rule.allow:
        verdict = _instruction(_AND32_IMM, 4, imm=~access) + _instruction(_JNE_IMM, 4, off=2, imm=0)
    else:
        verdict = _instruction(_MOV32, 7, 4) + _instruction(_AND32_IMM, 7, imm=access) + _instruction(_JEQ_IMM, 7, off=2, imm=0)
    verdict += _return(rule.allow)
    tests = []
    if rule.type != "a":
        tests.append((2, _TYPE[rule.type]))
    tests += [(register, value) for register, value in ((5, rule.major), (6, rule.minor)) if value >= 0]
    length = len(verdict) // _INSTRUCTION.size
    return (
        b"".join(
            _instruction(_JNE_IMM, register, off=len(tests) - 1 - i + length, imm=value)
            for i, (register, value) in enumerate(tests)
        )
        + verdict
    )


def attach_ops(group: str, entries: list[dict]) -> list[Op]:
    """Host ops that load the program of these rules and attach it to the group; then detach the group's earlier ones.

    Both are attached for a moment, and a device passes only if both allow it: an update never opens what neither does.
    """
    rules = parse(entries)
    code = assemble(rules)
    # union bpf_attr: prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name
    load = PointerTo(
        pack("=IIQQIIQII16s", _TYPE_CGROUP_DEVICE, len(code) // _INSTRUCTION.size, 0, 0, 0, 0, 0, 0, 0, b"devices"),
        8,
        code,
        f"CGROUP_DEVICE, {len(rules)} rules",
        more=((16, b"GPL\0"),),
    )
    directory, program = Slot("cgroup"), Slot("device program")
    # union bpf_attr: target_fd, attach_bpf_fd, attach_type, attach_flags
    attach = Blob(pack("=IIII", 0, 0, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI), "CGROUP_DEVICE, BPF_F_ALLOW_MULTI")
    ops = [
        openat2(None, group, _O_DIRECTORY, out=directory, why="the group, for bpf(2)"),
        syscall("bpf", _PROG_LOAD, load, len(load.data), out=program, why=f"{LIMIT}: the rules as a program"),
        store(directory, attach, 0, why="target_fd: which group"),
        store(program, attach, 4, why="attach_bpf_fd: which program"),
        syscall("bpf", _PROG_ATTACH, attach, len(attach.data), why="from now on the kernel asks it at every open of a device"),
    ]
    for old in _attached(group):
        detach = Blob(pack("=IIII", 0, old, _ATTACH_CGROUP_DEVICE, 0), f"CGROUP_DEVICE, program {old}")
        ops += [
            store(directory, detach, 0, why="target_fd: which group"),
            syscall("bpf", _PROG_DETACH, detach, len(detach.data), why="the rules of before are over"),
            syscall("close", old, why="done with the program of before"),
        ]
    return [*ops, *(syscall("close", slot, why="the kernel holds it now") for slot in (directory, program))]


def verify(group: str) -> None:
    """LimitError unless a program is attached to the group."""
    programs = _attached(group)
    for fd in programs:
        os.close(fd)
    if not programs:
        raise LimitError(f"{LIMIT}: no device program is attached to {group}", "another tool may have taken it off")


def _attached(group: str) -> list[int]:
    """Descriptors of the device programs attached to the group itself; [] if it is not there."""
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        ids = bytearray(4 * _MAX_PROGRAMS)
        # union bpf_attr: target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt
        attr = bytearray(
            pack(
                "=IIIIQII",
                directory,
                _ATTACH_CGROUP_DEVICE,
                0,
                0,
                int(calls.ffi.cast("uintptr_t", calls.ffi.from_buffer(ids))),
                _MAX_PROGRAMS,
                0,
            )
        )
        calls.bpf(_PROG_QUERY, attr)
        count = unpack_from("=I", attr, 24)[0]
        return [fd for ident in unpack_from(f"={count}I", ids) if (fd := _program(ident)) >= 0]
    finally:
        os.close(directory)


def _program(ident: int) -> int:
    """The descriptor of a program by its number; -1 if it went away meanwhile."""
    try:
        return calls.bpf(_GET_FD_BY_ID, pack("=III", ident, 0, 0))
    except KernelError as e:
        if e.errno != ENOENT:
            raise
        return -1
