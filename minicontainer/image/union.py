"""Read a file of an image as its container would see it, without mounting anything and without being led astray.

Two ways, with one last step that only ever opens regular files:
- one directory (one layer, or /proc/PID/root): openat2(RESOLVE_IN_ROOT), the kernel confines symlinks;
- a stack of layers: component by component, as overlayfs merges them: the topmost layer that has a name decides,
  whiteouts (character device 0:0) and opaque directories (trusted.overlay.opaque) hide what is below, and symlinks are
  resolved in the union.

Every step is relative to a descriptor and never follows a symlink, so what changes meanwhile (the upper layer of a
running container) can't lead outside. overlayfs' redirect_dir and metacopy are not followed: mount uppers without them.
Source: Documentation/filesystems/overlayfs.rst; CVE-2024-9676 (a fifo or symlink for /etc/passwd) for the last step.
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import ImageError, KernelError
from minicontainer.kernel.calls import openat2
from minicontainer.kernel.flags import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SYMLINKS_MAX = 40  # MAXSYMLINKS of Linux
_RACES_MAX = 64
_GONE = (errno.ENOENT, errno.ENOTDIR)


def open_in_layers(layers: Sequence[str], path: str, size_max: int = 4 << 20) -> int:
    """A read-only descriptor of the regular file path in the union of layers (directories, top first).

    FileNotFoundError if there is none; ImageError if it is no regular file, longer than size_max bytes, or behind a
    loop of symlinks.
    """
    if len(layers) == 1:
        root = _open_layer(layers[0])
        try:
            return open_in_root(root, path, size_max)
        finally:
            os.close(root)
    walk = _Walk()
    try:
        return _reopen(walk.find(layers, path), path, size_max)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _cannot(path, e.errno or 0) from None
    finally:
        walk.close()


def open_in_root(root: int, path: str, size_max: int = 4 << 20) -> int:
    """As open_in_layers, of one directory tree; root is its descriptor."""
    for _ in range(_RACES_MAX):
        try:
            fd = openat2(root, path, os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        except KernelError as e:
            if e.errno == errno.EAGAIN:  # a rename somewhere while it went through `..`
                continue
            if e.errno in _GONE:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
            raise _cannot(path, e.errno) from None
        try:
            return _reopen(fd, path, size_max)
        finally:
            os.close(fd)
    raise ImageError(f"{path} in the image can't be opened: its directories never stop changing")


def read_in_layers(layers: Sequence[str], path: str, size_max: int = 4 << 20) -> bytes:
    """The content of open_in_layers; b"" if the file is missing.

    Read up to the length that it had when opened: files of procfs, whose reading may wait for ever, have none.
    """
    try:
        fd = open_in_layers(layers, path, size_max)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(fd).st_size
        data = b""
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
    except OSError as e:
        raise _cannot(path, e.errno or 0) from None
    finally:
        os.close(fd)
    return data


def _open_layer(layer: str) -> int:
    try:
        return os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise ImageError(f"{layer} can't be opened: {os.strerror(e.errno or 0)}") from None


def _cannot(path: str, number: int) -> ImageError:
    return ImageError(f"{path} in the image can't be opened: {os.strerror(number)}")


def _reopen(fd: int, path: str, size_max: int) -> int:
    """A descriptor to read from of the file that fd (O_PATH) stands for; fifos, devices and sockets stay closed."""
    info = os.fstat(fd)
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{path} in the image is not a regular file")
    if info.st_size > size_max:
        raise ImageError(f"{path} in the image is {info.st_size} bytes long; {size_max} are allowed")
    try:
        return os.open(f"/proc/self/fd/{fd}", _READ)
    except OSError as e:
        raise _cannot(path, e.errno or 0) from None


class _Walk:
    """One lookup. A merged directory is a list of descriptors, topmost first; all are kept until close()."""

    __slots__ = ("_fds",)

    def __init__(self) -> None:
        self._fds: list[int] = []

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def find(self, layers: Sequence[str], path: str) -> int:
        """An O_PATH descriptor of what path leads to in the union of layers, symlinks followed to the end."""
        root = [self._keep(_open_layer(layer)) for layer in layers]
        stack = [root]  # the merged directories from the root down to where we are
        todo = _components(path)
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            found = self._lookup(stack[-1], name)
            mode = os.fstat(found[0]).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _SYMLINKS_MAX:
                    raise ImageError(f"{path} in the image leads through more than {_SYMLINKS_MAX} symlinks")
                target = os.readlink("", dir_fd=found[0])
                if target.startswith("/"):
                    stack = [root]
                todo += _components(target)
            elif stat.S_ISDIR(mode):
                stack.append(found)
            elif todo:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            else:
                return found[0]
        return stack[-1][0]

    def _lookup(self, directory: list[int], name: str) -> list[int]:
        """The descriptors of one name in a merged directory: of one file, or of all directories that merge."""
        found: list[int] = []
        for above in directory:
            try:
                fd = self._keep(os.open(name, _PATH, dir_fd=above))
            except FileNotFoundError:
                continue
            info = os.fstat(fd)
            if not stat.S_ISDIR(info.st_mode):
                if not found and not (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0):
                    found.append(fd)
                break  # it hides, or ends, what is below
            found.append(fd)
            if _is_opaque(fd):
                break
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return found


def _components(path: str) -> list[str]:
    """The names in path that lead anywhere, last first."""
    return [part for part in reversed(path.split("/")) if part and part != "."]


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{directory}", "trusted.overlay.opaque") == b"y"
    except OSError as e:
        if e.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            raise
        return False
