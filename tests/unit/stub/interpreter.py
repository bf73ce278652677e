"""Runs ops in this process, for the tests of what they do."""

from __future__ import annotations

import os

from minicontainer.kernel import spawn
from minicontainer.stub.ops import Op, Slot
from minicontainer.stub.program import Program, Result


def run(*steps: Op, fds: dict[Slot, int] | None = None) -> tuple[int, list[Result], Program]:
    """Runs ops in this process: the index of the failed one or -1, and the results."""
    p = Program(list(steps), fds or {})
    failed = spawn.run_here(p.code)
    return failed, p.results(), p


def states(results: list[Result]) -> list[int]:
    return [r.state for r in results]


def close(p: Program, *slots: Slot) -> None:
    for slot in slots:
        os.close(p.descriptor(slot))
