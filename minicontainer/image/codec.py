"""Compressed streams, told by their first bytes and decompressed in pieces of bounded size.

A decoder never returns more than PIECE bytes at once (zstd: what 4 KiB of input hold, at most 128 MiB), so a bomb
fills no memory; what it may fill on disk is for limits.py. A stream that ends early, or is followed by something that
is neither a further stream nor padding, is an error: it was cut off or tampered with.
"""

from __future__ import annotations

from minicontainer.errors import ImageError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 1 << 20
MAGIC_LENGTH = 6
_MAGIC = {"gzip": b"\x1f\x8b", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh"}
_XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MiB to decompress
_ZSTD_WINDOW = 128 << 20  # bytes; what `zstd -d` allows without --long
_ZSTD_SLICE = 4096  # bytes of input at a time: its decompressor can't be told to stop at a size


def detect(head: bytes) -> str:
    """"gzip", "xz", "zstd", "bzip2", or "" for anything else."""
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return ""


class Decoder:
    """Decompresses one stream after another: feed() it the compressed bytes in order, then close() it."""

    def __init__(self, kind: str) -> None:
        """kind: what detect() said. Unsupported if it is zstd and the module zstandard is not installed."""
        self.kind = kind
        self._stream: _Gzip | _Bzip2 | _Zstd = _STREAMS[kind]()
        self._tail = b""  # after a stream's end, until it is known whether another begins

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What data decompresses to, in pieces. ImageError if it is damaged."""
        data = self._tail + data
        self._tail = b""
        while data:
            if self._stream.ended():
                data = data.lstrip(b"\0")  # tapes and `dd` pad with NULs
                if len(data) < MAGIC_LENGTH:
                    self._tail = data
                    return
                if not data.startswith(_MAGIC[self.kind]):
                    raise ImageError(f"bad tarball: something else follows the end of the {self.kind} data")
                self._stream = _STREAMS[self.kind]()
            try:
                yield from self._stream.pieces(data)
            except self._stream.errors as e:
                raise ImageError(f"bad tarball: damaged {self.kind} data: {e}") from None
            data = self._stream.rest()

    def close(self) -> None:
        """Say that nothing follows. ImageError if the stream has not ended."""
        if not self._stream.ended() or self._tail:
            raise ImageError(f"bad tarball: the {self.kind} data is cut off")


class _Gzip:
    def __init__(self) -> None:
        import zlib

        self._object = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: a gzip header and trailer, CRC checked
        self.errors = zlib.error

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            out = self._object.decompress(data, PIECE)
            yield out
            data = self._object.unconsumed_tail
            if self._object.eof or (not data and len(out) < PIECE):
                return

    def ended(self) -> bool:
        return self._object.eof

    def rest(self) -> bytes:
        return self._object.unused_data


class _Bzip2:
    def __init__(self) -> None:
        import bz2

        self._object = bz2.BZ2Decompressor()
        self.errors: type[Exception] = OSError

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            yield self._object.decompress(data, PIECE)
            data = b""
            if self._object.eof or self._object.needs_input:
                return

    def ended(self) -> bool:
        return self._object.eof

    def rest(self) -> bytes:
        return self._object.unused_data if self._object.eof else b""


class _Xz(_Bzip2):  # the two modules share one interface
    def __init__(self) -> None:
        import lzma

        self._object = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)  # type: ignore[assignment]
        self.errors = lzma.LZMAError


class _Zstd:
    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise Unsupported("this tarball is compressed with zstd, and the Python module zstandard is not installed",
                              "Install it, or decompress it on the way: `zstd -dc FILE | minicontainer import - NAME`."
                              ) from None
        self._object = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._rest = b""
        self.errors = zstandard.ZstdError

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._rest = b""
        for at in range(0, len(data), _ZSTD_SLICE):
            yield self._object.decompress(data[at:at + _ZSTD_SLICE])
            if self._object.eof:
                self._rest = self._object.unused_data + data[at + _ZSTD_SLICE:]
                return

    def ended(self) -> bool:
        return self._object.eof

    def rest(self) -> bytes:
        return self._rest


_STREAMS: dict[str, type[_Gzip | _Bzip2 | _Zstd]] = {"gzip": _Gzip, "bzip2": _Bzip2, "xz": _Xz, "zstd": _Zstd}
