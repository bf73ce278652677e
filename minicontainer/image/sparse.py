"""The four ways GNU tar writes a file with holes: old GNU headers, and the pax formats 0.0, 0.1 and 1.0.

Each is read into member.holes, the data segments [(offset, length), …], and member.size, the file's real length.
Source: GNU tar manual, appendix "Storing Sparse Files".
"""

from __future__ import annotations

from minicontainer.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.image.tar import Member, Reader

_BLOCK = 512
_SEGMENTS_MAX = 1 << 20  # of one file; GNU tar writes one for each run of data of at least a block
_DIGITS_MAX = 19  # of a decimal number below 2**63


def _bad(member: Member, defect: str) -> ImageError:
    from minicontainer.image.tar import bad

    return bad(member.name, f"its sparse map is wrong: {defect}")


def read_old(member: Member, block: bytes, reader: Reader) -> None:
    """Type 'S': four segments in the header, then blocks of 21 for as long as a flag says so."""
    member.size = _field(member, block[483:495])
    segments = _old_entries(member, block[386:482])
    more = block[482]
    while more:
        if len(segments) > _SEGMENTS_MAX:
            raise _bad(member, f"more than {_SEGMENTS_MAX} segments")
        block = reader.read(_BLOCK)
        segments += _old_entries(member, block[:504])
        more = block[504]
    member.holes = segments


def _old_entries(member: Member, raw: bytes) -> list[tuple[int, int]]:
    entries = []
    for at in range(0, len(raw), 24):
        if raw[at] == 0:  # an unused entry; GNU tar fills the rest with NULs
            break
        entries.append((_field(member, raw[at:at + 12]), _field(member, raw[at + 12:at + 24])))
    return entries


def _field(member: Member, raw: bytes) -> int:
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    digits = raw.partition(b"\0")[0].strip(b" ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise _bad(member, f"{digits!r} is not an octal number") from None


def read_pax(member: Member, records: dict[bytes, bytes], reader: Reader) -> None:
    """Formats 0.0 and 0.1 carry the map in records; 1.0 puts it, in decimal lines, before the data."""
    if b"GNU.sparse.name" in records:
        member.name = records[b"GNU.sparse.name"]
    if records.get(b"GNU.sparse.major") == b"1":
        member.size = _decimal(member, records.get(b"GNU.sparse.realsize", b""))
        member.holes = _read_map(member, reader)
    elif b"GNU.sparse.map" in records:
        member.size = _decimal(member, records.get(b"GNU.sparse.size", b""))
        numbers = [_decimal(member, text) for text in records[b"GNU.sparse.map"].split(b",")]
        if len(numbers) % 2:
            raise _bad(member, "an odd count of numbers")
        member.holes = list(zip(numbers[::2], numbers[1::2]))
    elif b"GNU.sparse.size" in records and records.get(b"GNU.sparse.numblocks") == b"0":
        member.size = _decimal(member, records[b"GNU.sparse.size"])
        member.holes = []
    else:
        raise _bad(member, "there is none, or of an unknown version")


def _read_map(member: Member, reader: Reader) -> list[tuple[int, int]]:
    """COUNT, then OFFSET and LENGTH of each segment, a line each, padded to a block; it is part of the stored bytes."""
    text = b""
    lines: list[bytes] = []
    wanted = 1
    while len(lines) < wanted:
        if member.stored < _BLOCK:
            raise _bad(member, "it runs past the data")
        member.stored -= _BLOCK
        *complete, text = (text + reader.read(_BLOCK)).split(b"\n")
        if len(text) > _DIGITS_MAX and len(lines) + len(complete) < wanted:
            raise _bad(member, "a number that does not end")
        lines += complete
        if wanted == 1 and lines:
            wanted = 1 + 2 * _decimal(member, lines[0])
            if wanted > 2 * _SEGMENTS_MAX:
                raise _bad(member, f"more than {_SEGMENTS_MAX} segments")
    numbers = [_decimal(member, line) for line in lines[1:wanted]]
    return list(zip(numbers[::2], numbers[1::2]))


def _decimal(member: Member, text: bytes) -> int:
    if not text.isdigit() or len(text) > _DIGITS_MAX:
        raise _bad(member, f"{text[:40]!r} is not a number")
    return int(text)


def check(member: Member) -> None:
    """Segments in order, apart, within the file, and together as long as the data that is stored."""
    end = total = 0
    for offset, length in member.holes or ():
        if offset < end:
            raise _bad(member, f"the segment at {offset} begins before the one before it ends")
        end = offset + length
        total += length
    if end > member.size or member.size >= 1 << 63:
        raise _bad(member, f"its segments end at {end}, the file at {member.size}")
    if total != member.stored:
        raise _bad(member, f"its segments hold {total} bytes, the archive {member.stored}")
