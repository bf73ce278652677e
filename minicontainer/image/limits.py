"""How much a tarball may ask for before it is taken for an attack."""

from __future__ import annotations


class Limits:
    """Bounds on one archive. The defaults let every real root filesystem through and stop what only attacks.

    members:        entries in the archive; each costs an inode.
    unpacked_bytes: data written, holes of sparse files not counted.
    file_bytes:     apparent size of one file, holes included.
    path_bytes:     length of a name or link target; PATH_MAX of Linux, less its NUL.
    depth:          directories in one name.
    header_bytes:   one extended header (pax records, GNU long name).
    ratio:          plain bytes for each compressed byte, looked at once `ratio_after` plain bytes have come.
                    gzip can't exceed 1,032; xz and zstd reach more than 10,000 with zeros alone.
    """

    __slots__ = ("depth", "file_bytes", "header_bytes", "members", "path_bytes", "ratio", "ratio_after",
                 "unpacked_bytes")

    def __init__(self, *, members: int = 5_000_000, unpacked_bytes: int = 256 << 30, file_bytes: int = 1 << 43,
                 path_bytes: int = 4095, depth: int = 512, header_bytes: int = 1 << 20, ratio: int = 500,
                 ratio_after: int = 1 << 30) -> None:
        self.members = members
        self.unpacked_bytes = unpacked_bytes
        self.file_bytes = file_bytes
        self.path_bytes = path_bytes
        self.depth = depth
        self.header_bytes = header_bytes
        self.ratio = ratio
        self.ratio_after = ratio_after
