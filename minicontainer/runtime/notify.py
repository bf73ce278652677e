"""sd_notify(3) from within a container: what its program says goes to a socket of ours, and READY=1 on to who called us.

the container                      start, or run                           systemd
─────────────                      ─────────────                           ───────
READY=1 ─▶ /run/notify/notify.sock ──▶ READY=1 ──▶ MAINPID=… ──▶ BARRIER=1 ──▶ $NOTIFY_SOCKET
                                       ends, or stands by ◀── closes its end of a pipe

The folder of the socket is bound into the container, since the socket is made later: by `start`, which may not be the
process that made the container. As runc has it (notify_socket.go).
"""

from __future__ import annotations

import _socket
import os
from select import POLLIN, poll

from minicontainer.errors import UsageError

_INSIDE = "/run/notify"
_NAME = "notify.sock"
_DATAGRAM = 4096
_POLL_MILLISECONDS = 100
_BARRIER_SECONDS = 30
_ENDING = {1, 2, 3, 15}  # SIGHUP, INT, QUIT, TERM: whoever stands by a container passes them on


def add(spec: dict, folder: str) -> None:
    """The mount and the variable that a container needs; folder: the container's own."""
    mount = {"destination": _INSIDE, "source": f"{folder}/notify", "options": ["bind", "nosuid", "noexec", "nodev", "ro"]}
    spec["mounts"] = [*(spec.get("mounts") or ()), mount]
    process = spec["process"]
    process["env"] = [*(process.get("env") or ()), f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"]


def make(folder: str) -> None:
    """The folder that is bound."""
    os.mkdir(f"{folder}/notify", 0o755)


class Listener:
    """The socket in a container's folder, which its processes write to."""

    def __init__(self, folder: str) -> None:
        self.inside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        at = os.open(f"{folder}/notify", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # by descriptor: an address has room for 107 bytes
            self.inside.bind(f"/proc/self/fd/{at}/{_NAME}")
            os.chmod(_NAME, 0o777, dir_fd=at)
        finally:
            os.close(at)

    def wait(self, init: int, main: int, host: str) -> None:
        """Until the container is ready, which is told, or its first process ends. UsageError if nobody listens to what is told.

        init: its pidfd; main: the pid that systemd is to watch; host: $NOTIFY_SOCKET. A signal that would end us, if those are
        held, ends the wait.
        """
        from _signal import sigpending  # type: ignore[import-not-found]  # what signal.py takes it from

        out = _connect(host)
        either = poll()
        either.register(init, POLLIN)
        either.register(self.inside.fileno(), POLLIN)
        while not _ENDING & set(sigpending()):
            found = [fd for fd, _ in either.poll(_POLL_MILLISECONDS)]
            if self.inside.fileno() in found:
                for line in self.inside.recv(_DATAGRAM).split(b"\n"):
                    if line.startswith(b"READY="):
                        _tell(out, line, main)
                        return
            elif init in found:
                return


def _connect(host: str) -> _socket.socket:
    out = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        out.connect("\0" + host[1:] if host[:1] == "@" else host)
    except OSError as e:
        out.close()
        raise UsageError(f"NOTIFY_SOCKET: dial unixgram {host}: {os.strerror(e.errno or 0).lower()}") from None
    return out


def _tell(out: _socket.socket, ready: bytes, main: int) -> None:
    out.send(ready + b"\n")
    out.send(f"MAINPID={main}\n".encode())
    # sd_notify_barrier(3): the pipe is closed when all before has been read. A reader that knows no barrier never does.
    end, theirs = os.pipe()
    out.sendmsg([b"BARRIER=1"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, theirs.to_bytes(4, "little"))])
    os.close(theirs)
    closed = poll()
    closed.register(end, 0)
    closed.poll(_BARRIER_SECONDS * 1000)
    os.close(end)
