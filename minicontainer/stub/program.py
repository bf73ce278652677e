"""A list of ops as bytes in the layout of plan.h, and the results that come back in the same bytes."""

from __future__ import annotations

import os
from struct import Struct, pack_into, unpack_from

from minicontainer.kernel import syscalls
from minicontainer.stub.ops import SYSCALL, Blob, Op, PointerTo, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap

_PLAN = Struct("=9Ii")
_OP = Struct("=HHBBhii6Q")
_RESULT = Struct("=iiqQQ")
_MAGIC = 0x314E4C50
_MASK = (1 << 64) - 1
PENDING, ENTERED, DONE, FORGIVEN, SKIPPED, FAILED = range(6)
STATES = ("pending", "entered", "done", "forgiven", "skipped", "failed")


class Result:
    """What became of an op: state, errno (0 if none), value (the call's), begin and duration in nanoseconds."""

    __slots__ = ("begin_ns", "duration_ns", "errno", "state", "value")

    def __init__(self, state: int, errno: int, value: int, begin_ns: int, end_ns: int) -> None:
        self.state = state
        self.errno = errno
        self.value = value
        self.begin_ns = begin_ns
        self.duration_ns = max(0, end_ns - begin_ns)


class Program:
    """Ops and the descriptors they start with, encoded.

    fds: descriptor number by Slot, as whoever runs the program has it. `code` is the bytes.
    """

    def __init__(self, ops: list[Op], fds: dict[Slot, int]) -> None:
        self.ops = ops
        self._slots: dict[Slot, int] = {}
        self._blob = bytearray()
        self._relocs: list[int] = []
        self._strings: dict[bytes, int] = {}
        self._base = _PLAN.size + len(ops) * (_OP.size + _RESULT.size)
        encoded = b"".join([self._op(i, op) for i, op in enumerate(ops)])
        descriptors = {self._slot(slot): fd for slot, fd in fds.items()}
        relocs_at = self._base + len(self._blob)
        slots_at = relocs_at + 4 * len(self._relocs)
        size = slots_at + 4 * len(self._slots)
        code = bytearray(size)
        results_at = _PLAN.size + len(encoded)
        slots = [descriptors.get(i, -1) for i in range(len(self._slots))]
        _PLAN.pack_into(
            code, 0, _MAGIC, size, len(ops), _PLAN.size, results_at, len(self._relocs), relocs_at, len(slots), slots_at, -1
        )
        pack_into(f"={len(slots)}i", code, slots_at, *slots)
        code[_PLAN.size : results_at] = encoded
        code[self._base : relocs_at] = self._blob
        pack_into(f"={len(self._relocs)}I", code, relocs_at, *self._relocs)
        self.code = code
        self._results_at = results_at
        self._slots_at = slots_at

    def _slot(self, slot: Slot) -> int:
        return self._slots.setdefault(slot, len(self._slots))

    def _bytes(self, data: bytes) -> int:
        """Where data lies in the plan; equal data lies there once."""
        at = self._strings.get(data)
        if at is None:
            at = self._strings[data] = self._base + len(self._blob)
            self._blob += data
            self._blob += bytes(-len(data) % 8)
        return at

    def _vector(self, strings: list[str]) -> int:
        """A NULL-terminated array of pointers to strings."""
        pointers = [self._bytes(os.fsencode(s) + b"\0") for s in strings]
        at = self._base + len(self._blob)
        self._relocs += range(at, at + 8 * len(pointers), 8)
        self._blob += Struct(f"={len(pointers) + 1}Q").pack(*pointers, 0)
        return at

    def _op(self, index: int, op: Op) -> bytes:
        words = [0, 0, 0, 0, 0, 0]
        slots = 0
        first_word = _PLAN.size + index * _OP.size + 16
        for k, arg in enumerate(op.args):
            if type(arg) is int:
                words[k] = arg & _MASK
                continue
            if type(arg) is Slot:
                slots |= 1 << k
                words[k] = self._slot(arg)
                continue
            if type(arg) is str:
                words[k] = self._bytes(os.fsencode(arg) + b"\0")
            elif type(arg) is Blob:
                words[k] = self._bytes(arg.data)
            elif type(arg) is PointerTo:
                words[k] = self._struct(arg)
            elif type(arg) is list:
                words[k] = self._vector(arg)
            else:
                words[k] = self._bytes(arg)
            self._relocs.append(first_word + 8 * k)
        number = syscalls.number(op.call) if op.kind == SYSCALL else 0
        out = -1 if op.out is None else self._slot(op.out)
        ok = (*op.ok, 0, 0)
        return _OP.pack(op.kind, number, slots, len(op.ok), out, ok[0], ok[1], *words)

    def _struct(self, struct: PointerTo) -> int:
        """A struct with a word that points to more data."""
        pointers = [(offset, self._bytes(target)) for offset, target in ((struct.offset, struct.target), *struct.more)]
        at = self._base + len(self._blob)
        self._blob += struct.data
        self._blob += bytes(-len(struct.data) % 8)
        for offset, target in pointers:
            pack_into("=Q", self._blob, at - self._base + offset, target)
            self._relocs.append(at + offset)
        return at

    def results(self, code: bytes | bytearray | mmap | None = None) -> list[Result]:
        """The results, read from this program's bytes or from the memory shared with whoever runs it."""
        return [self.result(i, code) for i in range(len(self.ops))]

    def result(self, index: int, code: bytes | bytearray | mmap | None = None) -> Result:
        """One of the results."""
        return Result(*_RESULT.unpack_from(self.code if code is None else code, self._results_at + index * _RESULT.size))

    def failed(self, code: bytes | bytearray | mmap | None = None) -> int:
        """The index of the op that failed, or -1."""
        return unpack_from("=i", self.code if code is None else code, _PLAN.size - 4)[0]

    def descriptor(self, slot: Slot, code: bytes | bytearray | mmap | None = None) -> int:
        """The descriptor number in a slot, as whoever runs the program has it; -1 if empty."""
        return unpack_from("=i", self.code if code is None else code, self._slots_at + 4 * self._slots[slot])[0]
