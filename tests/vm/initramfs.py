"""The initramfs that the guest boots from: busybox, the kernel modules and init.sh as one cpio archive."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from stock_kernel import unsigned
from trouble import program

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stock_kernel import Kernel

DIRECTORY, PROGRAM, PLAIN = 0o040755, 0o100755, 0o100644

REACH_THE_ROOT = (
    "virtio_pci",
    "9p",
    "9pnet_virtio",
    "virtio_console",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "overlay",
)

CONTAINERS = (
    *("veth", "bridge", "br_netfilter"),
    *(
        "nf_tables",
        "nft_chain_nat",
        "nft_nat",
        "nft_masq",
        "nft_redir",
        "nft_ct",
        "nft_fib_inet",
        "nft_reject_inet",
    ),
)
"""What container tests use. The guest would load them through the host's modprobe: insmod is faster."""

HERE = os.path.dirname(os.path.realpath(__file__))


def newc(members: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive in the form that the kernel unpacks.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    members: (name, mode with its file type, content), a directory before what is in it.
    """
    archive = bytearray()
    for inode, (name, mode, content) in enumerate([*members, ("TRAILER!!!", 0, b"")]):
        encoded = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def shell_settings(settings: dict[str, str]) -> bytes:
    """Assignments that a shell can source, one a line."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()).encode()


def initramfs(kernel: Kernel, settings: dict[str, str]) -> bytes:
    """The archive. settings: the variables that init.sh documents, MODULES excepted. Raises Trouble."""
    files = kernel.module_files((*REACH_THE_ROOT, *CONTAINERS))
    names = [f"modules/{os.path.basename(path)}" for path in files]
    members = [
        ("busybox", PROGRAM, read(program("busybox", "busybox-static"))),
        ("init", PROGRAM, read(f"{HERE}/init.sh")),
        ("first.sh", PLAIN, read(f"{HERE}/first.sh")),
        ("settings", PLAIN, shell_settings({**settings, "MODULES": " ".join(f"/{name}" for name in names)})),
        ("modules", DIRECTORY, b""),
    ]
    members += [(name, PLAIN, unsigned(read(path))) for name, path in zip(names, files, strict=True)]
    return newc(members)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
