"""The first half of an import: one thread that reads a tarball, hashes it, keeps it as a blob and hands on plain tar.

    source ──read──▶ blob file ──┐
               │                 ├─ sha256 of what was stored  = digest of the blob
               └─decompress──────┴─ sha256 of the plain tar    = diff_id ──queue──▶ whoever unpacks, in its own thread

What is stored is what came, if the OCI image spec has a media type for it (plain, gzip, zstd): nothing is compressed
anew, which would be the slowest step of all, and a plain tar needs one hash instead of two. xz and bzip2 have no
media type and are stored plain. read, write, sha256 and decompression run without the interpreter's lock, so this
thread fills the second core while the other one makes files.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading

from minicontainer.errors import ImageError, MinicontainerError
from minicontainer.image import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.image.limits import Limits

_CHUNK = 1 << 20  # bytes; hashing and writing in larger ones is no faster
_AHEAD = 16  # chunks that may wait for the other thread
_MEDIA = {"": "application/vnd.oci.image.layer.v1.tar", "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
          "zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}


class Feed(threading.Thread):
    """Reads the descriptor source to its end. After chunks() has ended: media, digest, size (of the blob), diff_id.

    blob: a descriptor to write to. progress(done, total) gets bytes of the source; total is None where it is unknown.
    """

    def __init__(self, source: int, blob: int, limits: Limits,
                 progress: Callable[[int, int | None], None] | None = None) -> None:
        super().__init__(name="feed", daemon=True)  # daemon: a read from a silent pipe must not keep a failed import
        self._source = source
        self._blob = blob
        self._limits = limits
        self._progress = progress
        self._queue: queue.Queue[tuple[bytes, int] | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self.media = self.digest = self.diff_id = ""
        self.size = self._plain = 0

    def chunks(self) -> Iterator[bytes]:
        """The plain tar, as it becomes ready. Raises what went wrong in the thread."""
        info = os.fstat(self._source)
        total = info.st_size if info.st_mode & 0o170000 == 0o100000 else None
        self.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                chunk, done = item
                if self._progress:
                    self._progress(done, total)
                yield chunk
        finally:
            self._stop.set()

    def run(self) -> None:
        """The thread."""
        try:
            self._read_all()
            self._put(None)
        except (OSError, MinicontainerError, MemoryError) as e:
            self._put(e)

    def _put(self, item: tuple[bytes, int] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=1)
                return
            except queue.Full:
                continue  # slow disk, or nobody reads any more: _stop tells

    def _read_all(self) -> None:
        head = b""
        while len(head) < codec.MAGIC_LENGTH and (more := os.read(self._source, _CHUNK)):
            head += more
        kind = codec.detect(head)
        self.media = _MEDIA.get(kind, _MEDIA[""])
        decoder = codec.Decoder(kind) if kind else None
        plain_hash = hashlib.sha256()
        stored_hash = hashlib.sha256() if kind in _MEDIA and kind else plain_hash
        raw, done = head, 0
        while raw and not self._stop.is_set():
            done += len(raw)
            for chunk in decoder.feed(raw) if decoder else (raw,):
                if chunk:
                    plain_hash.update(chunk)
                    self._check_size(len(chunk), done, kind)
                    self._put((chunk, done))
                    if stored_hash is plain_hash:
                        self._store(chunk)
            if stored_hash is not plain_hash:
                stored_hash.update(raw)
                self._store(raw)
            raw = os.read(self._source, _CHUNK)
        if decoder:
            decoder.close()
        self.diff_id = "sha256:" + plain_hash.hexdigest()
        self.digest = "sha256:" + stored_hash.hexdigest()

    def _store(self, data: bytes) -> None:
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._blob, view):]

    def _check_size(self, count: int, done: int, kind: str) -> None:
        self._plain += count
        if self._plain > self._limits.unpacked_bytes:
            raise ImageError(f"bad tarball: it is longer than {self._limits.unpacked_bytes} bytes")
        if kind and self._plain > self._limits.ratio_after and self._plain > self._limits.ratio * done:
            raise ImageError(f"bad tarball: a decompression bomb: {done} bytes of {kind} became {self._plain} so far",
                             "If it is meant to be so, decompress it first and import the plain tar.")
