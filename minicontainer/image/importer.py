"""`import`: a root filesystem in a tarball becomes an image, in one pass over the data.

feed.py reads, hashes and stores the blob in one thread; unpack.py writes the layer in this one. Both write into a
directory below tmp, and only store.publish() gives it all names, once it is whole and on disk.
"""

from __future__ import annotations

import os
import time

from minicontainer import fastjson
from minicontainer.errors import ImageError, NotFound
from minicontainer.image import reference
from minicontainer.image.changes import apply_changes
from minicontainer.image.feed import Feed
from minicontainer.image.layout import CONFIG_TYPE, MANIFEST_TYPE, Work
from minicontainer.image.limits import Limits
from minicontainer.image.store import SIZE_KEY, Store
from minicontainer.image.tar import Reader
from minicontainer.image.unpack import Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le",
                  "s390x": "s390x", "riscv64": "riscv64"}  # uname -m → GOARCH, as OCI configs have it


def import_rootfs(store: Store, source: str | BinaryIO, ref: str = "", changes: Iterable[str] = (), message: str = "",
                  progress: Callable[[int, int | None], None] | None = None,
                  warn: Callable[[str], None] | None = None, limits: Limits | None = None) -> str:
    """Import a tarball (plain, gzip, xz, zstd or bzip2) as an image; returns its id "sha256:HEX".

    source: a path, "-" for standard input, or an open binary file. ref: its name, "" for none. changes: lines as
    `docker import --change` takes them. message: shown as the image's comment. progress(done, total): bytes of the
    source read, and how many there are (None if that is unknown). warn(text): what could not be kept, in a sentence.
    Raises UsageError (ref, changes), NotFound (source), ImageError (the tarball, or no space); then nothing is left.
    """
    name = reference.parse(ref) if ref else ""
    settings = apply_changes(changes)
    limits = limits or Limits()
    fd, shown = _open(source)
    try:
        store.layout.prepare()
        with Work(store.layout) as work:
            feed, unpacker = _unpack(work, fd, limits, progress)
            if warn and unpacker.dropped_xattrs:
                dropped = ", ".join(f"{key} ({count})" for key, count in unpacker.dropped_xattrs.items())
                warn(f"extended attributes not kept: {dropped}")
            config, manifest = _describe(feed, unpacker.data_bytes, settings, message or f"Imported from {shown}")
            return store.publish(work, name, config, manifest, {feed.digest: "blob"}, {feed.diff_id: "layer"})
    finally:
        if isinstance(source, str) and source != "-":
            os.close(fd)


def _open(source: str | BinaryIO) -> tuple[int, str]:
    """(descriptor, what to call it)."""
    if source == "-":
        return 0, "-"
    if not isinstance(source, str):
        return source.fileno(), "-"
    try:
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC), os.path.basename(source)
    except FileNotFoundError:
        raise NotFound(f"no such file: {source}") from None
    except OSError as e:
        raise ImageError(f"{source} can't be read: {os.strerror(e.errno or 0)}") from None


def _unpack(work: Work, source: int, limits: Limits, progress: Callable[[int, int | None], None] | None
            ) -> tuple[Feed, Unpacker]:
    """Work then holds blob and layer/fs."""
    os.mkdir("layer", 0o700, dir_fd=work.fd)
    os.mkdir("layer/fs", 0o755, dir_fd=work.fd)
    root = os.open("layer/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
    blob = work.create("blob")
    feed = Feed(source, blob, limits, progress)
    try:
        os.chmod(root, 0o755)  # whatever the umask; the archive's own entry for `.` has the last word
        unpacker = Unpacker(root, work.trash, limits)
        unpacker.run(Reader(feed.chunks()))
        _refuse_image_archive(root)
        return feed, unpacker
    finally:
        feed.stop()
        os.close(blob)
        os.close(root)


def _refuse_image_archive(root: int) -> None:
    """What `docker save` writes is a tarball too, of layers and JSON: a common slip, and nothing would start."""
    names = set(os.listdir(root))
    if names & {"manifest.json", "oci-layout"} and not names & {"bin", "etc", "usr", "sbin", "lib"}:
        raise ImageError("this is an image archive as `docker save` writes it, not a root filesystem",
                         "Make one with `docker export CONTAINER`, and import that.")


def _describe(feed: Feed, size: int, settings: dict, comment: str) -> tuple[bytes, bytes]:
    """(config, manifest) of the image, as JSON."""
    import hashlib

    now = time.time_ns()
    created = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now // 10**9))}.{now % 10**9:09d}Z"
    machine = os.uname().machine
    config = {"created": created, "architecture": _ARCHITECTURES.get(machine, machine), "os": "linux",
              "config": settings, "rootfs": {"type": "layers", "diff_ids": [feed.diff_id]},
              "history": [{"created": created, "created_by": "minicontainer import", "comment": comment}]}
    raw = fastjson.dumps(config).encode()
    layer = {"mediaType": feed.media, "digest": feed.digest, "size": feed.size, "annotations": {SIZE_KEY: str(size)}}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, "digest": "sha256:" + hashlib.sha256(raw).hexdigest(),
                           "size": len(raw)},
                "layers": [layer]}
    return raw, fastjson.dumps(manifest).encode()
