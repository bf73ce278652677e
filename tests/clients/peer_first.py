"""Tests of a client of OCI runtimes: the same script with the peer's own runtime first, then with ours.

A script takes a client (a docker, podman or containerd that uses one runtime) and asserts what it must see. What fails
with the peer's runtime already is the machine's doing: the test is skipped, with that failure as the reason.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.clients.daemon import CommandFailed
from tests.clients.ours import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = f"{REPOSITORY}/.venv/bin/minicontainer-oci"


class Client(Protocol):
    """What a script is run with."""

    runtime: str

    def clean(self) -> None:
        """Remove the containers that a script has left; they must not be in the next one's way."""


class Both:
    """One client with the peer's runtime and one with ours. failures: exceptions by which a command of it fails."""

    def __init__(self, theirs: Client, ours: Client, failures: tuple[type[Exception], ...] = ()) -> None:
        self.theirs = theirs
        self.ours = ours
        self.failures = (AssertionError, CommandFailed, subprocess.TimeoutExpired, *failures)

    def run(self, script: Callable[[Client], None]) -> None:
        try:
            script(self.theirs)
        except self.failures as failure:
            pytest.skip(f"{self.theirs.runtime} fails on this machine too: {str(failure)[-600:]}")
        finally:
            self.theirs.clean()
        try:
            script(self.ours)
        finally:
            self.ours.clean()


def peer_first(script: Callable[..., None]) -> Callable[..., None]:
    """Decorates script(client, …): the test takes the fixture `both` in the place of the client."""

    def test(both: Both, **arguments: object) -> None:
        both.run(lambda client: script(client, **arguments))

    parameters = list(inspect.signature(script).parameters.values())
    both = inspect.Parameter("both", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    test.__signature__ = inspect.Signature([both, *parameters[1:]])  # type: ignore[attr-defined]  # pytest reads it
    test.__name__, test.__doc__ = script.__name__, script.__doc__
    return test


def until(true: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until something is so (the cgroup v2 guest is slow); AssertionError with `what` when it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def cgroup_value(pid: int, controller: str, v1: str, v2: str) -> str:
    """What a file of a process's cgroup holds, v1 or v2 (where the controller is); AssertionError if it has none."""
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            return _read(f"/sys/fs/cgroup/{controller}{path}/{v1}")
    unified = next(path for number, _, path in lines if number == "0")
    return _read(f"/sys/fs/cgroup{unified}/{v2}")


def _read(path: str) -> str:
    assert os.path.exists(path), f"there is no {path}"
    with open(path) as file:
        return file.read().strip()
