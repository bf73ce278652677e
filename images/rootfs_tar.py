"""Writes a rootfs tarball that is the same, byte for byte, whenever its contents are the same.

Owners are numeric and 0:0, times are one fixed moment, and it takes no root: nothing is unpacked on the way.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import os
import tarfile
from collections.abc import Callable

EPOCH = 1_700_000_000  # seconds; any moment serves, as long as it never changes (see SOURCE_DATE_EPOCH)


class RootfsTar:
    """A tarball under construction; it appears under its name when `close()` is reached, whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}.{os.getpid()}"
        self._tar = tarfile.open(self._temporary, "w", format=tarfile.GNU_FORMAT)

    def _add(self, name: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> None:
        member = tarfile.TarInfo("./" + name)
        member.type, member.mode, member.linkname = kind, mode, target
        member.size, member.mtime = len(data), EPOCH
        self._tar.addfile(member, io.BytesIO(data))

    def directory(self, name: str, mode: int = 0o755) -> None:
        """A folder; `name` is relative to the rootfs, without a leading slash."""
        self._add(name, tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes | str, mode: int = 0o644) -> None:
        """A regular file."""
        self._add(name, tarfile.REGTYPE, mode, data.encode() if isinstance(data, str) else data)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link that holds `target`."""
        self._add(name, tarfile.SYMTYPE, 0o777, target=target)

    def module(self, name: str, source: bytes) -> None:
        """A Python module together with its bytecode, so that no container start has to compile it.

        The .pyc is of the `unchecked` kind (PEP 552): it holds no time, and nobody compares it with a source
        that never changes inside an image. It is for the Python that runs this: the same Debian release's.
        """
        self.file(name, source)
        code = compile(source, "/" + name, "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
        self.file(importlib.util.cache_from_source(name), header + marshal.dumps(code))

    def copy(self, tarball: str, keep: Callable[[str], bool] = lambda name: True, *, compiled: bool = False
             ) -> None:
        """The members of another tarball whose names (without ./) are to be kept; `compiled`: see module()."""
        with tarfile.open(tarball) as source:
            for member in source:
                name = os.path.normpath(member.name)
                if not keep(name):
                    continue
                data = source.extractfile(member) if member.isreg() else None
                if compiled and data and name.endswith(".py"):
                    self.module(name, data.read())
                else:
                    member.mtime = EPOCH
                    self._tar.addfile(member, data)

    def close(self) -> None:
        """Ends the tarball and gives it its name."""
        self._tar.close()
        os.rename(self._temporary, self._path)
