"""Tarballs for tests, made header by header, so that they can be as wrong as an attacker likes."""

from __future__ import annotations

import os

BLOCK = 512
END = bytes(2 * BLOCK)
TIME = 1_700_000_000


def octal(value: int, width: int) -> bytes:
    return f"{value:0{width - 1}o}".encode() + b"\0"


def header(name: bytes, kind: bytes = b"0", size: int = 0, *, mode: int = 0o644, uid: int = 0, gid: int = 0,
           mtime: int = TIME, link: bytes = b"", major: int = 0, minor: int = 0, raw: dict[int, bytes] | None = None,
           checksum: bytes | None = None) -> bytes:
    """One ustar header; raw {offset: bytes} overwrites any of it before the checksum is made."""
    block = bytearray(BLOCK)

    def put(at: int, data: bytes) -> None:
        block[at:at + len(data)] = data

    put(0, name[:100])
    put(100, octal(mode, 8))
    put(108, octal(uid, 8))
    put(116, octal(gid, 8))
    put(124, octal(size, 12))
    put(136, octal(mtime, 12))
    put(156, kind)
    put(157, link[:100])
    put(257, b"ustar\x0000")
    put(329, octal(major, 8))
    put(337, octal(minor, 8))
    for at, data in (raw or {}).items():
        put(at, data)
    put(148, b" " * 8)
    put(148, checksum or f"{sum(block):06o}\0 ".encode())
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"content\n", **fields) -> bytes:
    return header(name, b"0", len(data), **fields) + padded(data)


def directory(name: bytes, **fields) -> bytes:
    return header(name, b"5", **{"mode": 0o755, **fields})


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", link=target)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header; it applies to the header that follows."""
    body = b""
    for key, value in records.items():
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        body += str(length).encode() + rest
    return file(b"PaxHeaders/x", body).replace(header(b"PaxHeaders/x", b"0", len(body)),
                                               header(b"PaxHeaders/x", kind, len(body)))


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    return header(b"././@LongLink", kind, len(name) + 1) + padded(name + b"\0")


def archive(*members: bytes) -> bytes:
    return b"".join(members) + END


def snapshot(top: str) -> dict[str, tuple]:
    """Everything about a tree that an attack could change: type, mode, owner, size, mtime, target, content."""
    found = {}
    for base, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = os.path.join(base, name)
            info = os.lstat(path)
            what: bytes | str = b""
            if os.path.islink(path):
                what = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as f:
                    what = f.read()
            found[path] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_mtime_ns, what)
    return found
