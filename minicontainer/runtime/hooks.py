"""Hooks: programs that the caller wants run at points of a container's life (config.md, "POSIX-platform Hooks").

    prestart, createRuntime    in the runtime's namespaces, when everything is mounted, before pivot_root
    createContainer            in the container's namespaces, but with the host's root: the path is the host's
    startContainer             in the container, as its user, before its program
    poststart, poststop        in the runtime's namespaces

Each gets the state as JSON on its stdin, and no descriptor but 0 to 2. The same op runs any of them, here or in the stub.
What the spec leaves open is as in runc: a hook without env has the runtime's, startContainer the process' environment.
"""

from __future__ import annotations

import os
from errno import ETIMEDOUT

from minicontainer import fastjson
from minicontainer.errors import StartError, UsageError
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import F_ADD_SEALS, F_SEALS_ALL, MFD_ALLOW_SEALING, MFD_CLOEXEC
from minicontainer.stub import ops as op
from minicontainer.stub.ops import Op, Slot
from minicontainer.stub.program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.builder import Ops

NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_INSIDE_PATH = "startContainer"  # the one whose path is the container's
_OUTPUT = ("hook.stdout", "hook.stderr")  # files, or names of memfds
_MOST_SHOWN = 4096  # bytes of what a failed hook wrote


def of(spec: dict, name: str) -> list[dict]:
    """The hooks of this name, in order."""
    return (spec.get("hooks") or {}).get(name) or []


def check(spec: dict) -> None:
    """UsageError for a hook that is not there: told by `create`, not when it is due."""
    for name in NAMES:
        for i, hook in enumerate(of(spec, name)):
            if name != _INSIDE_PATH and not os.path.exists(hook["path"]):
                raise UsageError(f"hooks.{name}[{i}].path: {hook['path']}: no such file or directory", "it is a path of the host")


class Streams:
    """The standard streams of hooks: the state to read, and what they write."""

    def __init__(self) -> None:
        self.slots = (Slot("state"), Slot("hook's stdout"), Slot("hook's stderr"))
        self._fds: list[int] = []

    def open(self, folder: str = "") -> dict[Slot, int]:
        """Our descriptors by slot. folder: where what they write is kept, for another process to read; "" in memory."""
        self._fds = [calls.memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING)]
        for name in _OUTPUT:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fds.append(os.open(f"{folder}/{name}", flags, 0o600) if folder else calls.memfd_create(name, MFD_CLOEXEC))
        return dict(zip(self.slots, self._fds))

    def say(self, state: dict) -> None:
        """Writes the state, for good: no hook changes what the next one reads."""
        from fcntl import fcntl

        os.write(self._fds[0], fastjson.dumps(state).encode())
        fcntl(self._fds[0], F_ADD_SEALS, F_SEALS_ALL)

    def close(self) -> None:
        """Closes our descriptors."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def written(self) -> list[str]:
        """What hooks wrote to stdout and to stderr."""
        return [_text(fd) for fd in self._fds[1:]]


def written(folder: str) -> list[str]:
    """What the hooks in the stub wrote to stdout and to stderr."""
    out = []
    for name in _OUTPUT:
        fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        out.append(_text(fd))
        os.close(fd)
    return out


def _text(fd: int) -> str:
    return os.pread(fd, _MOST_SHOWN, 0).decode(errors="replace")


def run(spec: dict, name: str, state: dict, *, go_on: bool = False) -> list[str]:
    """Runs the hooks of this name here; state is what they get.

    The first that fails ends it with StartError in runc's words; with go_on the rest is run too, and the words are returned.
    """
    failures: list[str] = []
    for i, hook in enumerate(of(spec, name)):
        streams = Streams()
        fds = streams.open()
        try:
            streams.say(state)
            folder = state["bundle"] if os.path.isdir(state["bundle"]) else "/"
            program = Program([_op(name, hook, _environment(), streams, folder)], fds)
            if spawn.run_here(program.code) >= 0:
                error = failure(name, i, hook, program.results()[0].errno, streams.written())
                if not go_on:
                    raise error
                failures.append(error.message)
        finally:
            streams.close()
    return failures


def inside(ops: Ops, spec: dict, name: str, streams: Streams) -> None:
    """Adds the ops that run the hooks of this name in the stub."""
    env = list(spec["process"].get("env") or ()) if name == _INSIDE_PATH else _environment()
    ops.extend(_op(name, hook, env, streams) for hook in of(spec, name))


def _op(name: str, hook: dict, env: list[str], streams: Streams, cwd: str = "") -> Op:
    return op.run(
        hook["path"],
        hook.get("args") or [hook["path"]],
        hook["env"] if hook.get("env") is not None else env,
        streams.slots,
        cwd=cwd,
        timeout_seconds=hook.get("timeout") or 0,
        why=f"{name} hook",
    )


def _environment() -> list[str]:
    return [f"{name}={value}" for name, value in os.environ.items()]


def failure(name: str, index: int, hook: dict, code: int, output: list[str]) -> StartError:
    """The error for a hook that failed with this code (ops.run); output: what it wrote to stdout and stderr. runc's words."""
    if code == ETIMEDOUT:
        what = f"hook ran past specified timeout of {hook.get('timeout', 0):.1f}s"
    elif code < op.EXITED:
        what = f"fork/exec {hook['path']}: {os.strerror(code).lower()}"
    else:
        what = "error running hook: "  # runc 1.1 said no more than that, and clients look for it
        what += f"exit status {code - op.EXITED}" if code < op.SIGNALLED else f"signal: {_signal(code - op.SIGNALLED)}"
        what += ", stdout: {}, stderr: {}".format(*output)
    return StartError("hook", hook["path"], 0, message=f"error running {name} hook #{index}: {what}")


def _signal(number: int) -> str:
    import signal

    return (signal.strsignal(number) or f"signal {number}").lower()
