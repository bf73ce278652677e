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

import errno
import hashlib
import os
import queue
import stat
import threading

from minicontainer.errors import ImageError
from minicontainer.image import codec
from minicontainer.image.blob import BlobWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minicontainer.image.limits import Limits

_CHUNK = 1 << 20  # bytes; hashing and writing in larger ones is no faster
_AHEAD = 16  # chunks that may wait for the other thread
_STOP_SECONDS = 2
_MEDIA = {"": "application/vnd.oci.image.layer.v1.tar", "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
          "zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}


class _Stopped(Exception):
    """Nobody wants the rest."""


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
        self._ending = threading.Event()
        self.media = self.digest = self.diff_id = ""
        self.size = self._plain = 0

    def chunks(self) -> Iterator[bytes]:
        """The plain tar, as it becomes ready. Raises what went wrong in the thread."""
        info = os.fstat(self._source)
        total = info.st_size if stat.S_ISREG(info.st_mode) else None
        # Its own copies: the thread may outlive whoever opened them, and their numbers are soon used again.
        self._source, self._blob = os.dup(self._source), os.dup(self._blob)
        self.start()
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            chunk, done = item
            if self._progress:
                self._progress(done, total)
            yield chunk

    def stop(self) -> None:
        """End the thread, finished or not; one that waits for a silent pipe is left to end with the process."""
        self._ending.set()
        while not self._queue.empty():
            self._queue.get()
        if self.is_alive():
            self.join(_STOP_SECONDS)

    def run(self) -> None:
        """The thread."""
        try:
            self._read_all()
            self._put(None)
        except _Stopped:
            return
        except OSError as e:
            self._queue.put(_explained(e))
        except Exception as e:  # noqa: BLE001  (chunks() raises it in the other thread)
            self._queue.put(e)
        finally:
            os.close(self._source)
            os.close(self._blob)

    def _put(self, item: tuple[bytes, int] | None) -> None:
        self._queue.put(item)
        if self._ending.is_set():
            raise _Stopped

    def _read_all(self) -> None:
        head = b""
        while len(head) < codec.MAGIC_LENGTH and (more := os.read(self._source, _CHUNK)):
            head += more
        kind = codec.detect(head)
        self.media = _MEDIA.get(kind, _MEDIA[""])
        decoder = codec.Decoder(kind) if kind else None
        blob = BlobWriter(self._blob)
        plain_hash = hashlib.sha256()
        stored_hash = hashlib.sha256() if kind in _MEDIA and kind else plain_hash
        raw, done = head, 0
        while raw:
            done += len(raw)
            for chunk in decoder.feed(raw) if decoder else (raw,):
                if chunk:
                    plain_hash.update(chunk)
                    self._check_size(len(chunk), done, kind)
                    self._put((chunk, done))
                    if stored_hash is plain_hash:
                        blob.write(chunk)
            if stored_hash is not plain_hash:
                stored_hash.update(raw)
                blob.write(raw)
            raw = os.read(self._source, _CHUNK)
        if decoder:
            decoder.close()
        blob.finish()
        self.size = blob.size
        self.diff_id = "sha256:" + plain_hash.hexdigest()
        self.digest = "sha256:" + stored_hash.hexdigest()

    def _check_size(self, count: int, done: int, kind: str) -> None:
        self._plain += count
        if self._plain > self._limits.unpacked_bytes:
            raise ImageError(f"bad tarball: it is longer than {self._limits.unpacked_bytes} bytes")
        if kind and self._plain > self._limits.ratio_after and self._plain > self._limits.ratio * done:
            raise ImageError(f"bad tarball: a decompression bomb: {done} bytes of {kind} became {self._plain} so far",
                             "If it is meant to be so, decompress it first and import the plain tar.")


def _explained(error: OSError) -> ImageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ImageError("no space left on the disk: the tarball can't be stored",
                          "Nothing was kept. Free some space, or keep images elsewhere with --root.")
    return ImageError(f"the tarball can't be read and stored: {os.strerror(error.errno or 0)}")
