"""Netlink: attributes, message headers, and a socket that waits for its answers (netlink(7), rtnetlink(7))."""

from __future__ import annotations

import _socket
from struct import Struct, unpack_from

from minicontainer.errors import KernelError

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED = 0x8000
SOCK_RAW_CLOEXEC = 3 | 0o2000000

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """One message: struct nlmsghdr and its body."""
    return _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr, its value, and the padding to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes of data from offset on, by their kind."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


class Netlink:
    """A netlink socket in the caller's network namespace; a context manager. protocol: NETLINK_*."""

    __slots__ = ("_socket",)

    def __init__(self, protocol: int) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, SOCK_RAW_CLOEXEC, protocol)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _drain(self) -> None:
        """Each message of a transaction that failed may have sent an error of its own; the next request must not read them."""
        try:
            while True:
                self._socket.recv(1 << 16, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return

    def ask(self, data: bytes, what: str, ok: tuple[int, ...] = ()) -> list[tuple[int, bytes]]:
        """Sends and reads until the answer is whole: the (type, body) of each message before its acknowledgement.

        what: the request in words; ok: errnos that are no failure. KernelError carries the kernel's errno.
        """
        self._socket.send(data)
        answers: list[tuple[int, bytes]] = []
        while True:
            received = self._socket.recv(1 << 16)
            offset = 0
            while offset + 16 <= len(received):
                length, kind, _, _, _ = _HEADER.unpack_from(received, offset)
                body = received[offset + 16 : offset + length]
                offset += length + 3 & ~3
                if kind == NLMSG_ERROR:
                    (error,) = unpack_from("=i", body)
                    if error:
                        self._drain()
                    if error and -error not in ok:
                        raise KernelError("netlink", what, -error)
                    return answers
                if kind == NLMSG_DONE:
                    return answers
                answers.append((kind, body))
