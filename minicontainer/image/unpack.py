"""Members of a tarball become files of one layer, and nothing else on this machine is ever touched.

How that is held:
- Every file is made by a call relative to its parent's descriptor, with a name of one component that is not `..`. Such
  a call can't leave that directory. O_EXCL, O_NOFOLLOW, mkdirat, mknodat, symlinkat and linkat never follow what is
  there already.
- Parents are opened with openat2(RESOLVE_IN_ROOT): a symlink of the archive, absolute or with any number of `..`, ends
  inside the layer (where docker's chroot would end it as well). Names with `..` are refused, as nobody needs them.
- What is in the way is moved to a trash directory outside the layer first and the cache of parents is dropped, so a
  directory that turns into a symlink never leaves a stale descriptor in use.
- Owners, modes, xattrs and times are set through the descriptor just made, or without following symlinks.

Whiteouts ("refuse" or "overlay"): a root filesystem has nothing below it that a `.wh.` file could delete, and its blob
would mean deletion to every other reader, so an import refuses them. A layer of an image gets them in overlayfs' form:
a character device 0:0, or trusted.overlay.opaque=y on a directory; `.wh.` hides lower layers only, never an entry of
its own layer. Neither form is taken from the archive as data: devices 0:0 are refused and overlay's xattrs dropped.
Source: OCI image spec, layer.md; the kernel's Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat

from minicontainer.errors import ImageError, KernelError
from minicontainer.image import tar, trash
from minicontainer.image.tar import bad, shown
from minicontainer.kernel.calls import openat2
from minicontainer.kernel.flags import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.image.limits import Limits
    from minicontainer.image.tar import Member, Reader

REFUSE, OVERLAY = "refuse", "overlay"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_PARENT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_PARENTS_MAX = 256  # descriptors kept open
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_IGNORED = b".wh..wh."  # aufs' own files
_KEPT_XATTRS = (b"user.", b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Unpacker:
    """Writes members below the directory root (a descriptor); trash_fd is an empty directory of the same file system.

    After run(): .members, .data_bytes (written), .dropped_xattrs {name: count} that were not restored.
    """

    def __init__(self, root: int, trash_fd: int, limits: Limits, whiteouts: str = REFUSE) -> None:
        self._root = root
        self._trash = trash_fd
        self._limits = limits
        self._whiteouts = whiteouts
        self._parents: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}  # of directories, set last: every entry made in one changes it
        self._hidden: set[bytes] = set()  # names whiteouts were made for
        self.members = 0
        self.data_bytes = 0
        self.dropped_xattrs: dict[str, int] = {}
        self._make = {tar.REGULAR: self._regular, tar.DIRECTORY: self._directory, tar.SYMLINK: self._symlink,
                      tar.HARDLINK: self._hardlink, tar.CHAR: self._node, tar.BLOCK_DEVICE: self._node,
                      tar.FIFO: self._node}

    def run(self, reader: Reader) -> None:
        """Unpack the archive. ImageError names the member and the defect; then the layer is of no use and must go."""
        member = None
        try:
            for member in tar.members(reader, self._limits):
                self.members += 1
                self._unpack(member, reader)
            reader.drain()
            self._set_directory_times()
        except OSError as e:
            raise _explained(member, e.errno or 0) from None
        except KernelError as e:
            raise _explained(member, e.errno) from None
        finally:
            self._drop_parents()

    def _unpack(self, member: Member, reader: Reader) -> None:
        parts = [part for part in member.name.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise bad(member.name, "'..' in its name would lead outside")
        if len(parts) > self._limits.depth:
            raise bad(member.name, f"more than {self._limits.depth} directories deep")
        if not parts:
            self._root_itself(member)
            return
        name = parts.pop()
        if name.startswith(_WHITEOUT) or any(part.startswith(_WHITEOUT) for part in parts):
            self._whiteout(member, parts, name)
            return
        path = b"/".join(parts)
        parent = self._parents.get(path)
        if parent is None:
            parent = self._open_parent(member, parts)
        self._make[member.kind](member, parent, path, name, reader)

    # --- parents

    def _open_parent(self, member: Member, parts: list[bytes]) -> int:
        """A kept descriptor of the directory; the archive may have left it out, then it is made (0755, root)."""
        path = b"/".join(parts)
        try:
            fd = self._open_in_root(path)
        except KernelError as e:
            if e.errno != errno.ENOENT:
                raise bad(member.name, f"its directory can't be entered: {os.strerror(e.errno)}") from None
            above = self._parents.get(b"/".join(parts[:-1]))
            if above is None:
                above = self._open_parent(member, parts[:-1])
            try:
                os.mkdir(parts[-1], 0o755, dir_fd=above)
            except FileExistsError:
                raise bad(member.name, f"its directory {shown(path)} is a symlink to nothing") from None
            fd = self._open_in_root(path)
            os.chmod(f"/proc/self/fd/{fd}", 0o755)  # whatever the umask
        self._keep(path, fd)
        return fd

    def _open_in_root(self, path: bytes) -> int:
        return openat2(self._root, path or b".", _OPEN_PARENT, 0, _RESOLVE)

    def _keep(self, path: bytes, fd: int) -> None:
        if len(self._parents) >= _PARENTS_MAX:
            self._drop_parents()
        self._parents[path] = fd

    def _drop_parents(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    # --- kinds of members; each leaves what it made with owner, mode, xattrs and times as recorded

    def _regular(self, member: Member, parent: int, path: bytes, name: bytes, reader: Reader) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            fd = os.open(name, _CREATE, 0o600, dir_fd=self._clear(member, parent, path, name))
        try:
            if member.holes is not None:
                _write_sparse(fd, member, reader)
            elif member.stored:
                for piece in reader.pieces(member.stored):
                    _write(fd, piece)
            self.data_bytes += member.stored
            self._finish(fd, member)
        finally:
            os.close(fd)

    def _directory(self, member: Member, parent: int, path: bytes, name: bytes, _reader: Reader) -> None:
        hides = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                hides = _is_whiteout(there)
                parent = self._clear(member, parent, path, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
        full = path + b"/" + name if path else name
        self._keep(full, fd)
        self._finish(fd, member)
        self._times[full] = member.mtime_ns
        if hides:
            _set_opaque(fd)

    def _symlink(self, member: Member, parent: int, path: bytes, name: bytes, _reader: Reader) -> None:
        if not member.link:
            raise bad(member.name, "a symlink to nothing")
        try:
            os.symlink(member.link, name, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(member, parent, path, name)
            os.symlink(member.link, name, dir_fd=parent)
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.xattrs:  # there is no setxattrat(2) before Linux 6.13; the magic link is our own descriptor
            self._set_xattrs(b"/proc/self/fd/%d/%s" % (parent, name), member, follow_symlinks=False)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _hardlink(self, member: Member, parent: int, path: bytes, name: bytes, _reader: Reader) -> None:
        parts = [part for part in member.link.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise bad(member.name, f"a hard link to {shown(member.link)}, and '..' would lead outside")
        source = parts.pop() if parts else b"."
        try:
            above = self._open_in_root(b"/".join(parts))
        except KernelError as e:
            raise bad(member.name, f"a hard link to {shown(member.link)}: {os.strerror(e.errno)}") from None
        try:
            target = os.stat(source, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(target.st_mode) or _is_whiteout(target):
                raise bad(member.name, f"a hard link to {shown(member.link)}, which is no file")
            try:
                os.link(source, name, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                there = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if (there.st_dev, there.st_ino) != (target.st_dev, target.st_ino):
                    parent = self._clear(member, parent, path, name)
                    os.link(source, name, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise bad(member.name, f"a hard link to {shown(member.link)}, which is not there") from None
        finally:
            os.close(above)

    def _node(self, member: Member, parent: int, path: bytes, name: bytes, _reader: Reader) -> None:
        kind = {tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[member.kind]
        device = os.makedev(member.major, member.minor)
        if kind == stat.S_IFCHR and device == 0:
            raise bad(member.name, "a character device 0:0, which overlayfs takes for a deletion")
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        except FileExistsError:
            parent = self._clear(member, parent, path, name)
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        fd = os.open(name, _OPEN_NODE, dir_fd=parent)  # O_PATH: to open a device or fifo itself has effects
        try:
            self._finish(f"/proc/self/fd/{fd}", member)
        finally:
            os.close(fd)

    def _root_itself(self, member: Member) -> None:
        if member.kind != tar.DIRECTORY:
            raise bad(member.name, "the root of the archive is not a directory")
        self._finish(self._root, member)
        self._times[b"."] = member.mtime_ns

    # --- whiteouts

    def _whiteout(self, member: Member, parts: list[bytes], name: bytes) -> None:
        if any(part.startswith(_IGNORED) and part != _OPAQUE for part in [*parts, name]):
            return
        if self._whiteouts == REFUSE:
            raise bad(member.name, "a name that begins with '.wh.' deletes a file of the layer below, "
                                   "and a root filesystem has none below")
        hidden = name.removeprefix(_WHITEOUT)
        if not name.startswith(_WHITEOUT) or hidden in (b"", b".", b".."):
            raise bad(member.name, "a whiteout that names nothing")
        if any(part.startswith(_WHITEOUT) for part in parts):
            raise bad(member.name, "a whiteout can't be a directory")
        parent = self._parents.get(b"/".join(parts))
        if parent is None:
            parent = self._open_parent(member, parts)
        if name == _OPAQUE:
            _set_opaque(parent)
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:  # this layer's own entry stays; a directory must not be merged with the one below
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                fd = os.open(hidden, _OPEN_DIRECTORY, dir_fd=parent)
                try:
                    _set_opaque(fd)
                finally:
                    os.close(fd)

    # --- parts of these

    def _clear(self, member: Member, parent: int, path: bytes, name: bytes) -> int:
        """Take away what has the name: the last entry of a name counts. Returns the parent, perhaps opened anew."""
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        trash.remove(parent, name, self._trash)
        if not (stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode)):
            return parent
        self._drop_parents()  # some may have led through it
        return self._open_parent(member, path.split(b"/") if path else [])

    def _finish(self, target: int | str, member: Member) -> None:
        """Owner, mode, xattrs, times: chown clears setuid bits and capabilities, so it comes first."""
        os.chown(target, member.uid, member.gid)
        os.chmod(target, member.mode)
        if member.xattrs:
            self._set_xattrs(target, member)
        os.utime(target, ns=(member.mtime_ns, member.mtime_ns))

    def _set_xattrs(self, target: int | str | bytes, member: Member, follow_symlinks: bool = True) -> None:
        for key, value in (member.xattrs or {}).items():
            if key.startswith(b"user.overlay.") or not key.startswith(_KEPT_XATTRS):
                self._note_dropped(key)
                continue
            try:
                os.setxattr(target, key, value, follow_symlinks=follow_symlinks)
            except OSError as e:
                if e.errno in _NO_SPACE:
                    raise bad(member.name, f"its extended attribute {shown(key)} does not fit here") from None
                if e.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                    raise
                self._note_dropped(key)

    def _note_dropped(self, key: bytes) -> None:
        name = shown(key)
        if name in self.dropped_xattrs or len(self.dropped_xattrs) < 20:
            self.dropped_xattrs[name] = self.dropped_xattrs.get(name, 0) + 1

    def _set_directory_times(self) -> None:
        for path, time in self._times.items():
            try:
                fd = openat2(self._root, path, _OPEN_DIRECTORY, 0, _RESOLVE)
            except KernelError as e:
                if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                continue  # a later member took its place
            try:
                os.utime(fd, ns=(time, time))
            finally:
                os.close(fd)


def _write(fd: int, data: memoryview) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _write_sparse(fd: int, member: Member, reader: Reader) -> None:
    os.truncate(fd, member.size)
    for offset, length in member.holes or ():
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in reader.pieces(length):
            _write(fd, piece)


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _set_opaque(directory: int) -> None:
    os.setxattr(f"/proc/self/fd/{directory}", b"trusted.overlay.opaque", b"y")


def _explained(member: Member | None, number: int) -> ImageError:
    name = member.name if member else None
    if number in _NO_SPACE:
        where = f" at member {shown(name)}" if name is not None else ""
        return ImageError(f"no space left on the disk: unpacking stopped{where}",
                          "Nothing was kept. Free some space, or keep images elsewhere with --root.")
    if number == errno.ENAMETOOLONG:
        return bad(name, "a part of its name is longer than this file system takes (255 bytes)")
    return bad(name, f"it can't be made here: {os.strerror(number)}")
