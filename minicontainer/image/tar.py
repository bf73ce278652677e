"""A strict reader of tar streams: ustar, GNU and pax headers in, members out; it touches no file system.

    reader = Reader(chunks)                 chunks: an iterable of bytes, of any sizes
    for member in members(reader, limits):  each member's data is then read with reader.pieces(member.stored)
        ...                                 (what the caller leaves unread is skipped)

Why not the standard library's tarfile: it guesses where this refuses (bad numbers, lone zero blocks, cut-off archives),
takes several times as long a member where this takes 8 µs, and keeps every member in memory. Numeric ids are kept; user
and group names are ignored, as docker does, because the host's names mean nothing in a container. Global pax headers
are skipped, as docker does.

Sources: POSIX.1-2017 pax "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar Format";
Go's archive/tar (what docker reads with) where those leave room.
"""

from __future__ import annotations

import struct

from minicontainer.errors import ImageError
from minicontainer.image import sparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minicontainer.image.limits import Limits

BLOCK = 512
_ZERO = bytes(BLOCK)
#                        name mode uid gid size mtime chksum type link magic+version uname gname major minor prefix
_HEADER = struct.Struct("100s 8s   8s  8s  12s  12s   8s     c    100s 8s            32x   32x   8s    8s    155s 12x")

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_ORDINARY = frozenset((REGULAR, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_AS_REGULAR = frozenset((b"\0", b"7", b"S"))  # V7's, contiguous, GNU's old sparse
_UNSUPPORTED = {b"M": "a piece of a multi-volume archive", b"D": "a GNU incremental dump", b"V": "a volume label",
                b"N": "an old GNU long name"}
_META_RUN = 8  # extended headers before one member; GNU writes two, pax one
_ID_LIMIT = (1 << 32) - 1  # (uid_t)-1 means "leave as it is" to chown(2)
_TIME_LIMIT = 1 << 40  # seconds; 34,000 years either way


class Member:
    """One entry. name and link are raw bytes as they stand in the archive; times in nanoseconds, sizes in bytes.

    stored: bytes of data that follow in the stream. size: the file's length. holes: None, or the data segments
    [(offset, length), …] of a sparse file. xattrs: what SCHILY.xattr.* records carry.
    """

    __slots__ = ("gid", "holes", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size", "stored", "uid",
                 "xattrs")

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    stored: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    holes: list[tuple[int, int]] | None
    xattrs: dict[bytes, bytes] | None


def shown(name: bytes) -> str:
    """A member's name for a message: quoted, no control characters, at most 200 characters."""
    text = name[:200].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return f"'{text}{'…' if len(name) > 200 else ''}'"


def bad(name: bytes | None, defect: str, hint: str = "") -> ImageError:
    """The error for a defect of the archive, or of one member of it."""
    where = f"member {shown(name)}: " if name is not None else ""
    return ImageError(f"bad tarball: {where}{defect}", hint)


class Reader:
    """Bytes in order from an iterable of chunks; ImageError where it ends too early."""

    __slots__ = ("_chunk", "_chunks", "_pos", "current", "offset")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._pos = 0
        self.offset = 0  # in the stream
        self.current: bytes | None = None  # the member whose data is being read, for messages

    def _more(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk = chunk
                self._pos = 0
                return True
        return False

    def block(self) -> bytes | None:
        """The next 512 bytes, or None at the end of the stream."""
        pos = self._pos
        if len(self._chunk) - pos >= BLOCK:
            self._pos = pos + BLOCK
            self.offset += BLOCK
            return self._chunk[pos:pos + BLOCK]
        if pos == len(self._chunk) and not self._more():
            return None
        return self.read(BLOCK)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next count bytes as views of the chunks they came in."""
        while count:
            if self._pos == len(self._chunk) and not self._more():
                raise bad(self.current, f"the archive is cut off: {count} more bytes were announced")
            pos = self._pos
            piece = memoryview(self._chunk)[pos:pos + count]
            self._pos = pos + len(piece)
            self.offset += len(piece)
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """The next count bytes in one."""
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        """Pass over count bytes."""
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Read to the end of the stream."""
        self._pos = len(self._chunk)
        while self._more():
            pass


def members(reader: Reader, limits: Limits) -> Iterator[Member]:
    """Every member of the archive, in order. ImageError names the member and the defect.

    The end is two zero blocks; an archive without them was cut off, even if the cut fell between two members.
    """
    records: dict[bytes, bytes] = {}  # pax records and GNU long names for the next member
    metas = count = 0
    while (block := _next_header(reader)) is not None:
        member = _parse(block, first=reader.offset == BLOCK)
        kind = member.kind
        if kind in _ORDINARY or kind in _AS_REGULAR:
            metas = 0
            count += 1
            if count > limits.members:
                raise bad(member.name, f"more than {limits.members} members")
            _complete(member, records, block, reader, limits)
            records = {}
            reader.current = member.name
            end = reader.offset + member.stored
            padding = -member.stored % BLOCK if member.holes is None else -end % BLOCK
            yield member
            reader.skip(end - reader.offset + padding)
            continue
        metas += 1
        if metas > _META_RUN:
            raise bad(member.name, f"more than {_META_RUN} extended headers in a row")
        _read_meta(member, records, reader, limits)


def _next_header(reader: Reader) -> bytes | None:
    """The next block that is a header; None after the two zero blocks that end an archive."""
    reader.current = None
    block = reader.block()
    if block == _ZERO:
        if reader.block() != _ZERO:
            raise bad(None, f"a lone zero block at byte {reader.offset - BLOCK}, where two end an archive")
        return None
    if block is None:
        raise bad(None, "it ends without the two zero blocks that end a tar archive: it was cut off" if reader.offset
                  else "it is empty")
    return block


def _number(field: bytes, what: str, name: bytes) -> int:
    """Octal digits, ended by NUL or space; or GNU's base 256 for what does not fit."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
        if field[0] not in (0x80, 0xFF):
            raise bad(name, f"{what} is beyond 64 bits")
        return value
    value = _octal(field)
    if value < 0:
        raise bad(name, f"{what} {field!r} is not an octal number")
    return value


def _octal(field: bytes) -> int:
    """The number up to the first NUL, without blanks; 0 if there is none, -1 if it is no octal number."""
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        return -1
    return int(digits, 8)


def _parse(block: bytes, first: bool) -> Member:
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _HEADER.unpack(block)
    name = name.partition(b"\0")[0]
    if _octal(checksum) != sum(block) - sum(checksum) + 8 * 32:  # the field itself counts as eight spaces
        if first:
            raise bad(None, "it does not begin with a tar header, so it is no tar archive",
                      "A tar archive may be plain or compressed with gzip, xz, zstd or bzip2.")
        raise bad(name, "its header is damaged: the checksum is wrong")
    if prefix[0] and magic[:6] == b"ustar\0":  # GNU's magic is "ustar  \0", and its prefix field holds times
        name = prefix.partition(b"\0")[0] + b"/" + name
    member = Member()
    member.name = name
    member.kind = kind
    member.link = link.partition(b"\0")[0]
    member.mode = _number(mode, "the mode", name) & 0o7777
    member.uid = _owner(_number(uid, "the uid", name), "uid", name)
    member.gid = _owner(_number(gid, "the gid", name), "gid", name)
    member.size = member.stored = _size(_number(size, "the size", name), name)
    member.mtime_ns = _time(_number(mtime, "the time", name), name) * 1_000_000_000
    member.holes = None
    member.xattrs = None
    member.major = member.minor = 0
    if kind in (CHAR, BLOCK_DEVICE):
        member.major = _number(major, "the device number", name)
        member.minor = _number(minor, "the device number", name)
        if not (0 <= member.major < 1 << 12 and 0 <= member.minor < 1 << 20):  # dev_t of Linux
            raise bad(name, f"there is no device {member.major}:{member.minor}")
    return member


def _owner(value: int, what: str, name: bytes) -> int:
    if not 0 <= value < _ID_LIMIT:
        raise bad(name, f"{what} {value} is not in 0 to {_ID_LIMIT - 1}")
    return value


def _size(value: int, name: bytes) -> int:
    if not 0 <= value < 1 << 63:
        raise bad(name, f"its size is {value} bytes")
    return value


def _time(seconds: int, name: bytes) -> int:
    if not -_TIME_LIMIT < seconds < _TIME_LIMIT:
        raise bad(name, f"its time is {seconds} seconds from 1970")
    return seconds


def _read_meta(member: Member, records: dict[bytes, bytes], reader: Reader, limits: Limits) -> None:
    """Take an extended header into records, or refuse the entry's type."""
    kind = member.kind
    if kind not in (b"x", b"X", b"g", b"L", b"K"):
        what = _UNSUPPORTED.get(kind, f"of the unknown type {kind!r}")
        raise bad(member.name, f"it is {what}, which has no place in a root filesystem")
    if member.stored > limits.header_bytes:
        raise bad(member.name, f"an extended header of {member.stored} bytes; {limits.header_bytes} are allowed")
    data = reader.read(member.stored)
    reader.skip(-member.stored % BLOCK)
    if kind in (b"L", b"K"):
        records[b"path" if kind == b"L" else b"linkpath"] = data.rstrip(b"\0")
    elif kind != b"g":
        _pax_records(data, records, member.name)


def _pax_records(data: bytes, records: dict[bytes, bytes], name: bytes) -> None:
    """`LENGTH KEY=VALUE\\n` …; an empty value takes the key back. GNU's sparse format 0.0 repeats keys, in order."""
    pos = 0
    sparse_map = []
    while pos < len(data):
        digits, space, _ = data[pos:pos + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[pos + len(digits) + 1:pos + length]
        key, equals, value = record[:-1].partition(b"=")
        if not (key and equals) or record[-1:] != b"\n" or pos + length > len(data):
            raise bad(name, "a malformed pax record")
        pos += length
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse_map.append(value)
        elif value:
            records[key] = value
        else:
            records.pop(key, None)
    if sparse_map:
        records[b"GNU.sparse.map"] = b",".join(sparse_map)


def _complete(member: Member, records: dict[bytes, bytes], block: bytes, reader: Reader, limits: Limits) -> None:
    """Apply the extended headers, settle what kind of entry it is and how much data follows."""
    if records:
        _apply(member, records)
    if member.kind in _AS_REGULAR:
        is_old_sparse = member.kind == b"S"
        member.kind = REGULAR
        if is_old_sparse:
            sparse.read_old(member, block, reader)
    if member.kind == REGULAR and member.name.endswith(b"/"):
        member.kind = DIRECTORY  # as V7 tar, which had no type for it
    if member.kind != REGULAR:
        member.stored = member.size = 0  # links and devices have no data, whatever their size says
    elif records and any(key.startswith(b"GNU.sparse.") for key in records):
        sparse.read_pax(member, records, reader)
    if member.holes is not None:
        sparse.check(member)
    if b"\0" in member.name or b"\0" in member.link:
        raise bad(member.name, "a NUL byte in its name or link target")
    if len(member.name) > limits.path_bytes or len(member.link) > limits.path_bytes:
        raise bad(member.name, f"its name or link target is longer than {limits.path_bytes} bytes")
    if member.size > limits.file_bytes:
        raise bad(member.name, f"it is {member.size} bytes long; {limits.file_bytes} are allowed")


def _apply(member: Member, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.link = value
        elif key in (b"size", b"uid", b"gid"):
            number = int(value) if value.isdigit() and len(value) < 20 else -1
            if key == b"size":
                member.size = member.stored = _size(number, member.name)
            else:
                setattr(member, key.decode(), _owner(number, key.decode(), member.name))
        elif key == b"mtime":
            member.mtime_ns = _decimal_time(value, member.name)
        elif key.startswith(b"SCHILY.xattr."):
            if member.xattrs is None:
                member.xattrs = {}
            member.xattrs[key[len(b"SCHILY.xattr."):]] = value


def _decimal_time(value: bytes, name: bytes) -> int:
    """Nanoseconds of `[-]SECONDS[.FRACTION]`, without a float's rounding."""
    digits = value.removeprefix(b"-")
    whole, _, fraction = digits.partition(b".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(whole) > 18:
        raise bad(name, f"its time {value[:40]!r} is not a number")
    nanoseconds = _time(int(whole), name) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if value[:1] == b"-" else nanoseconds
