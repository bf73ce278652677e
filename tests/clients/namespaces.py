"""Namespaces of our own for a test: kept by a descriptor, so they vanish with it."""

from __future__ import annotations

import os
import subprocess


def namespace(kind: str, script: str) -> int:
    """A descriptor of a new namespace of this kind ("net", "mnt"), in which the shell script was run first.

    The mount namespace is private. A failing script is an error.
    """
    flag = {"net": "--net", "mnt": "--mount"}[kind]
    waiting = subprocess.Popen(
        ["unshare", flag, "sh", "-ec", f"{script}\necho ready\nread end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert waiting.stdout is not None
    try:
        if waiting.stdout.readline() != b"ready\n":
            assert waiting.stderr is not None
            raise RuntimeError(f"in a new {kind} namespace: {waiting.stderr.read().decode(errors='replace')}")
        return os.open(f"/proc/{waiting.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        waiting.communicate()


def network_namespace() -> int:
    """A network namespace that has nothing but its loopback interface."""
    return namespace("net", "ip link set lo up")
