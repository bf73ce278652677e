"""Where images are on disk, and the rules by which anything there changes.

    ROOT/                        0700
      lock                       flock: held while names or blobs are looked up for long, or changed
      oci/                       an OCI image layout (image-spec 1.1); `skopeo inspect oci:ROOT/oci:NAME:TAG` reads it
        oci-layout
        index.json               one descriptor for each name, or for an image without one; replaced whole by rename
        blobs/sha256/HEX         layers as they came, configs, manifests
      layers/HEX/fs/             a layer unpacked; HEX is its diff_id, the sha256 of its plain tar
      tmp/RANDOM/                work in progress, flocked by the process that does it; without that lock it is rubbish

What is in blobs, layers or the index is whole: it was made in tmp, brought to disk by one syncfs(2), and then renamed,
data first and the index last. So a process killed at any moment, or a power cut, leaves either the image or rubbish in
tmp that the next command removes. A layer or blob that no name leads to is removed by the next removal of an image.
"""

from __future__ import annotations

import errno
import fcntl
import os

from minicontainer import fastjson
from minicontainer.errors import ImageError, MinicontainerError
from minicontainer.image import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NAME_KEY = "org.opencontainers.image.ref.name"
ID_KEY = "io.minicontainer.image.id"  # the config's digest, so that ids are found in the index alone
_HEX = frozenset("0123456789abcdef")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def hex_of(digest: str) -> str:
    """The hex part of "sha256:HEX"; ImageError if it is not exactly that, as it is going to be a file name."""
    algorithm, _, digits = digest.partition(":")
    if algorithm != "sha256" or len(digits) != 64 or not _HEX.issuperset(digits):
        raise ImageError(f"'{digest[:80]}' is not a sha256 digest")
    return digits


class Layout:
    """The paths below root, and reading and replacing what is there. Nothing is made before prepare()."""

    __slots__ = ("blobs", "index", "layers", "oci", "root", "tmp")

    def __init__(self, root: str) -> None:
        self.root = root
        self.oci = f"{root}/oci"
        self.index = f"{root}/oci/index.json"
        self.blobs = f"{root}/oci/blobs/sha256"
        self.layers = f"{root}/layers"
        self.tmp = f"{root}/tmp"

    def prepare(self) -> None:
        """Make the directories and the layout's marker, if they are missing."""
        try:
            if not os.path.isdir(self.root):
                os.makedirs(self.root, 0o700)
            for directory in (self.oci, f"{self.oci}/blobs", self.blobs, self.layers, self.tmp):
                if not os.path.isdir(directory):
                    os.makedirs(directory, 0o700, exist_ok=True)
            marker = f"{self.oci}/oci-layout"
            if not os.path.exists(marker):
                write_whole(marker, b'{"imageLayoutVersion":"1.0.0"}')
        except OSError as e:
            raise _cannot("be made ready", self.root, e) from None

    def blob(self, digest: str) -> str:
        """The path of a blob."""
        return f"{self.blobs}/{hex_of(digest)}"

    def layer(self, diff_id: str) -> str:
        """The path of an unpacked layer's directory; its files are in fs/ below."""
        return f"{self.layers}/{hex_of(diff_id)}"

    def read_index(self) -> list[dict]:
        """The descriptors of index.json; none if there is no store yet."""
        try:
            data = read_file(self.index)
        except FileNotFoundError:
            return []
        except OSError as e:
            raise _cannot("be read", self.index, e) from None
        return _object(data, self.index).get("manifests") or []

    def read_blob(self, digest: str) -> dict:
        """The JSON object that a blob is."""
        path = self.blob(digest)
        try:
            return _object(read_file(path), path)
        except OSError as e:
            raise _cannot("be read", path, e) from None

    def write_index(self, manifests: list[dict]) -> None:
        """Replace index.json. The caller holds the lock, and has brought to disk what it names."""
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
        try:
            for directory in (self.blobs, self.layers):
                _sync_directory(directory)
            write_whole(self.index, fastjson.dumps(document).encode())
        except OSError as e:
            raise _cannot("be written", self.index, e) from None

    def lock(self, exclusive: bool) -> Lock:
        """`with layout.lock(True):` waits until nobody else holds it (or, shared, until nobody changes things)."""
        return Lock(f"{self.root}/lock", fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


class Lock:
    """A flock(2) on a file that is made if it is missing."""

    __slots__ = ("_fd", "_kind", "_path")

    def __init__(self, path: str, kind: int) -> None:
        self._path = path
        self._kind = kind
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, self._kind)
        except OSError as e:
            raise _cannot("be locked", self._path, e) from None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)


class Work:
    """`with Work(layout) as work:` is a directory of its own below tmp; it is gone afterwards, or at the next Work
    if this process is killed. work.path, work.fd (its descriptor, which holds the lock), work.trash (a descriptor)."""

    __slots__ = ("_layout", "_name", "fd", "path", "trash")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._name = os.urandom(12).hex()
        self.path = f"{layout.tmp}/{self._name}"
        self.fd = self.trash = -1

    def __enter__(self) -> Work:
        try:
            with self._layout.lock(True):  # nobody takes a directory for rubbish between mkdir and flock
                rubbish = _unlocked(self._layout.tmp)
                os.mkdir(self.path, 0o700)
                self.fd = os.open(self.path, _OPEN_DIRECTORY)
                fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.mkdir("trash", 0o700, dir_fd=self.fd)
            self.trash = os.open("trash", _OPEN_DIRECTORY, dir_fd=self.fd)
            for name, fd in rubbish:
                _remove_work(self._layout.tmp, name, fd)
        except OSError as e:
            raise _cannot("be used", self._layout.tmp, e) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self.trash)
        try:
            _remove_work(self._layout.tmp, self._name, self.fd)
        except OSError as e:
            raise _cannot("be cleaned", self.path, e) from None

    def create(self, name: str) -> int:
        """A new file in it, open for writing."""
        return os.open(name, _CREATE, 0o600, dir_fd=self.fd)


def _unlocked(tmp: str) -> list[tuple[str, int]]:
    """The directories in tmp whose process is gone, each with a descriptor that locks it now."""
    found = []
    for name in os.listdir(tmp):
        try:
            fd = os.open(f"{tmp}/{name}", _OPEN_DIRECTORY)
        except FileNotFoundError:  # its process has just finished
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append((name, fd))
        except BlockingIOError:
            os.close(fd)
    return found


def _remove_work(tmp: str, name: str, fd: int) -> None:
    try:
        trash.empty(fd)
        os.rmdir(f"{tmp}/{name}")
    finally:
        os.close(fd)


def read_file(path: str) -> bytes:
    """The whole of a file of the store."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size)
        if len(data) != size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data
    finally:
        os.close(fd)


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that it is either the old one or all of the new one, on disk when this returns."""
    temporary = f"{path}.{os.urandom(6).hex()}"
    fd = os.open(temporary, _CREATE, 0o600)
    try:
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    _sync_directory(os.path.dirname(path))


def _sync_directory(path: str) -> None:
    fd = os.open(path, _OPEN_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _object(data: bytes, path: str) -> dict:
    try:
        value = fastjson.loads(data)
    except ValueError as e:
        raise ImageError(f"{path} is damaged: {e}", "Import the image again.") from None
    if not isinstance(value, dict):
        raise ImageError(f"{path} is damaged: it is not a JSON object", "Import the image again.")
    return value


def _cannot(what: str, path: str, error: OSError) -> MinicontainerError:
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Run it as root, or name another place with --root."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space, or keep images elsewhere with --root."
    return ImageError(f"the image store can't {what}: {path}: {os.strerror(error.errno or 0)}", hint)
