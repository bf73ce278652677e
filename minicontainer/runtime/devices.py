"""Device nodes, the links beside them, and the terminal as ops (config-linux.md, "Devices", "Default Devices")."""

from __future__ import annotations

import os
from struct import pack

from minicontainer.errors import UsageError
from minicontainer.kernel.flags import DEVPTS_SUPER_MAGIC, RESOLVE_NO_SYMLINKS, S_IF, O
from minicontainer.runtime.builder import IN_ROOT
from minicontainer.runtime.rootfs import ENOENT, NOEXEC, NOSUID, Rootfs, clean
from minicontainer.stub.ops import Blob, Slot, check_filesystem, check_node, send_fd

EEXIST = 17
TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ = 0x40045431, 0x5441, 0x5414
# Path, major, minor; all mode 0666.
_DEFAULT = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
# struct termios of a new pty (tty_std_termios), without ONLCR
_TCSETS, _NO_ONLCR = (
    0x5402,
    pack("4Ix19s", 0x500, 0x1, 0xBF, 0x8A3B, b"\x03\x1c\x7f\x15\x04\0\1\0\x11\x13\x1a\0\x12\x0f\x17\x16\0\0\0"),
)
_KINDS = {"c": "S_IFCHR", "u": "S_IFCHR", "b": "S_IFBLK", "p": "S_IFIFO"}
_AT_SYMLINK_NOFOLLOW = 0x100


def nodes(root: Rootfs) -> None:
    """The default devices and links in /dev, and those of linux.devices; nothing if /dev is a bind of the host's."""
    if any(clean(m["destination"]) == "dev" and _is_bind(m) for m in root.spec.get("mounts", ())):
        return
    ops = root.ops
    asked = {clean(d["path"]): d for d in root.linux.get("devices") or ()}
    dev = root.dev or _own_dev(root)
    ops.call("umask", 0, why="modes are meant as they are written")
    for name, major, minor in _DEFAULT:
        if f"dev/{name}" not in asked:
            why = f"/dev/{name}: config-linux.md, Default Devices"
            _node(root, dev, name, f"dev/{name}", "S_IFCHR", 0o666, os.makedev(major, minor), why, exact=False)
    for name, target in _LINKS:
        if name == "core" and not os.path.exists(target):
            continue  # as runc: no link to what this kernel was built without
        if name == "ptmx" and not root.dev:
            ops.call("unlinkat", dev, name, 0, ok=(ENOENT,), why="a ptmx of the image is of no devpts here")
        ops.call("symlinkat", target, dev, name, ok=(EEXIST,), why=f"/dev/{name} -> {target}")
    for path, d in asked.items():
        _device(root, dev, path, d)


def _is_bind(m: dict) -> bool:
    return m.get("type") in ("bind", "rbind") or any(o in ("bind", "rbind") for o in m.get("options") or ())


def _own_dev(root: Rootfs) -> Slot:
    """/dev of the root itself, which must be no link: nodes would be made where it leads (CVE-2026-41579, CVE-2026-47766)."""
    why = "/dev of the root itself, which must be an ordinary directory, if it is there"
    return root.ops.make(root.root, "dev", resolve=RESOLVE_NO_SYMLINKS, why=why)


def _device(root: Rootfs, dev: Slot, path: str, d: dict) -> None:
    if path == "dev/ptmx":
        return  # the link to the container's own
    kind, mode = _KINDS[d["type"]], d.get("fileMode", 0o666) & 0o7777
    number = 0 if d["type"] == "p" else os.makedev(d.get("major", 0), d.get("minor", 0))
    folder, _, name = path.rpartition("/")
    where = dev if folder == "dev" else root.ops.make(root.root, folder or ".", why=f"where {name} goes")
    made = _node(root, where, name, path, kind, mode, number, f"/{path}: asked for", exact=True)
    if made and (d.get("uid") or d.get("gid")):
        why = f"/{path}: its owner"
        root.ops.call("fchownat", where, name, d.get("uid", 0), d.get("gid", 0), _AT_SYMLINK_NOFOLLOW, why=why)


def _node(root: Rootfs, where: Slot, name: str, path: str, kind: str, mode: int, number: int, why: str, *, exact: bool) -> bool:
    """Whether the node is one of its own: where none can be made, the host's is bound. exact: what is there must be it."""
    ops = root.ops
    if root.names.mapped and kind != "S_IFIFO":
        source = _of_host(path, kind, number)
        tree = root.outside.clone_tree(None, source, why=f"the host's {source}: no node can be made in a user namespace")
        root.outside.set_attributes(tree, on=NOSUID | NOEXEC, why="a device is no program")
        ops.attach(tree, ops.make(where, name, file=True, mode=0o666, why=f"where /{path} goes"), why=why)
        return False
    ops.call("mknodat", where, name, S_IF[kind] | mode, number, ok=(EEXIST,), why=why)
    if exact:
        ops.append(check_node(where, name, S_IF[kind], number, why=f"/{path} is that device, also if it was there before"))
    return True


def _of_host(path: str, kind: str, number: int) -> str:
    """The host's node of a device: at the same path, or another one in its /dev. UsageError if it has none."""
    for candidate in (f"/{path}", *(f"/dev/{name}" for name in os.listdir("/dev"))):
        try:
            found = os.lstat(candidate)
        except OSError:
            continue
        if found.st_rdev == number and found.st_mode & 0o170000 == S_IF[kind]:
            return candidate
    raise UsageError(
        f"device /{path}: no node can be made in a user namespace, and the host has no {os.major(number)}:{os.minor(number)}",
        "the runtime binds the host's node: make one",
    )


def console(root: Rootfs, socket: Slot, process: dict, *, plain: bool = False) -> Slot:
    """A terminal of the container's own devpts: its master goes to whoever asked, its peer becomes /dev/console.

    plain: what it writes is read by no terminal, but a file or pipe, which is to get lines without carriage returns, as from runc.
    """
    ops, uid, size = root.ops, process.get("user", {}).get("uid", 0), process.get("consoleSize")
    devpts = root.devpts or ops.path(root.root, "dev/pts", directory=True, why="terminals of the root itself")
    if not root.devpts:
        ops.append(check_filesystem(devpts, DEVPTS_SUPER_MAGIC, why="no file of the image poses as a terminal"))
    master = ops.open(
        devpts,
        "ptmx",
        O["O_RDWR"] | O["O_NOCTTY"],
        name="pty master",
        resolve=1 | 2 | 4 | 8,
        why="a new terminal pair; the number comes from the container's own devpts",
    )
    ops.call("ioctl", master, TIOCSPTLCK, Blob(bytes(4), "0"), why="unlock its other end")
    peer = Slot("pty peer")
    ops.call(
        "ioctl",
        master,
        TIOCGPTPEER,
        O["O_RDWR"] | O["O_NOCTTY"] | O["O_CLOEXEC"],
        out=peer,
        why="the other end by descriptor: no path, so nothing to swap (CVE-2025-52565)",
    )
    if size:
        ops.call(
            "ioctl",
            master,
            TIOCSWINSZ,
            Blob(pack("HHHH", size["height"], size["width"], 0, 0), f"{size['height']} rows, {size['width']} columns"),
            why="its size, before the program asks for it",
        )
    if plain:
        ops.call("ioctl", peer, _TCSETS, Blob(_NO_ONLCR, "-onlcr"), why="its output goes to no terminal: a newline is just that")
    if uid:
        ops.call("fchown", peer, uid, 0xFFFFFFFF, why="the terminal belongs to the container's user")
    if "root" in root.spec:
        why = "/dev/console must be no link: its target would be covered instead"
        ops.open(
            root.root, "dev/console", O["O_PATH"], name="dev/console", resolve=IN_ROOT | RESOLVE_NO_SYMLINKS, ok=(ENOENT,), why=why
        )
        tree = ops.clone_tree(peer, "", why="a bind of the terminal")
        ops.attach(tree, ops.make(root.root, "dev/console", file=True, why="/dev/console"), why="/dev/console is this terminal")
    ops.append(send_fd(socket, master, "/dev/ptmx", why="its master end goes to the caller, who shows it to a person"))
    return peer
