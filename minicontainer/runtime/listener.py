"""Who answers for system calls that a filter notifies about (SCMP_ACT_NOTIFY; config-linux.md "Seccomp").

The kernel gives the listener's descriptor to the process that loads the filter. Whoever started that process takes it out of
it, and sends it with the container process state over the Unix socket listenerPath.
"""

from __future__ import annotations

from minicontainer import fastjson
from minicontainer.errors import MinicontainerError


def hand_over(seccomp: dict, fd: int, pid: int, state: dict) -> None:
    """Sends the listener's descriptor and the container process state. pid: of the filtered process; state: the container's."""
    import _socket
    from array import array

    message = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        **({"metadata": seccomp["listenerMetadata"]} if seccomp.get("listenerMetadata") else {}),
        "state": state,
    }
    path = seccomp["listenerPath"]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [fd]))
        sock.sendmsg([fastjson.dumps(message).encode()], [rights])
    except OSError as e:
        raise MinicontainerError(
            f"failed to connect with seccomp agent specified in the seccomp profile: {path}: {e.strerror or e}",
            "whoever answers for the system calls has to listen there first",
        ) from None
    finally:
        sock.close()
