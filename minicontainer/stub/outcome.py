"""How a plan that was run has failed, read from its bytes (plan.h) without the modules that make plans, which cost `start` 1 ms."""

from __future__ import annotations

# struct plan: nops, results_at and failed (-1 for none); struct result: its size, and where errno is.
_NOPS, _RESULTS_AT, _FAILED = 8, 16, 36
_RESULT_SIZE, _ERRNO = 32, 4


def failure(code: bytes) -> tuple[int, int, int] | None:
    """The index of the op that failed, how many ops there are, its errno; None if none failed."""
    failed = _number(code, _FAILED)
    if failed < 0:
        return None
    return failed, _number(code, _NOPS), _number(code, _number(code, _RESULTS_AT) + failed * _RESULT_SIZE + _ERRNO)


def _number(code: bytes, at: int) -> int:
    return int.from_bytes(code[at : at + 4], "little", signed=True)
