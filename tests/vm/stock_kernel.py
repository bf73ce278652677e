"""Debian's stock kernel: found on the host or unpacked below build/, and made ready for QEMU.

The stock kernel (linux-image-amd64) is what users of Debian run, and it has 9p, by which the guest sees the
host's files; the -cloud- kernel has not. An installed one is used as it is. Else its package is fetched and
unpacked, never installed: a test has no business in the host's /boot.
"""

from __future__ import annotations

import glob
import lzma
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

from trouble import Trouble, program

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE = "linux-image-amd64"
NEEDED_MODULE = "fs/9p"
SIGNATURE_MAGIC = b"~Module signature appended~\n"
SIGNATURE_INFO_BYTES = 12  # struct module_signature (linux/module_signature.h); sig_len is its last word

# Offsets in a bzImage: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
SETUP_SECTS, PAYLOAD_OFFSET = 0x1F1, 0x248
SECTOR_BYTES = 512


class Kernel:
    """One kernel: its release ("6.1.0-56-amd64") and the directory that holds its boot/ and lib/modules/."""

    def __init__(self, base: str, release: str) -> None:
        self.base = base
        self.release = release
        self.modules = f"{base}/lib/modules/{release}"

    def image(self, cache: str) -> str:
        """The path of the uncompressed kernel, made once in the directory `cache`.

        QEMU boots an ELF kernel by PVH, and the guest needn't unpack xz: 3 s less under emulation.
        """
        path = f"{cache}/vmlinux-{self.release}"
        if not os.path.exists(path):
            os.makedirs(cache, exist_ok=True)
            with open(f"{self.base}/boot/vmlinuz-{self.release}", "rb") as file:
                vmlinux = payload(file.read())
            with open(f"{path}.{os.getpid()}", "wb") as file:
                file.write(vmlinux)
            os.rename(file.name, path)
        return path

    def module_files(self, names: Iterable[str]) -> list[str]:
        """Paths of the named modules and of what they need, in the order to load them.

        names: as modprobe takes them ("br_netfilter"). Built-in ones are left out.
        Raises Trouble for unknown ones.
        """
        if not os.path.exists(f"{self.modules}/modules.dep"):
            subprocess.run([program("depmod", "kmod"), "-b", self.base or "/", self.release], check=True)
        with open(f"{self.modules}/modules.dep") as file:
            needs = {path: rest.split() for path, rest in (line.rstrip("\n").split(":", 1) for line in file)}
        with open(f"{self.modules}/modules.builtin") as file:
            builtin = {module_name(line.strip()) for line in file}
        paths = {module_name(path): path for path in needs}
        order: dict[str, None] = {}
        for name in names:
            if name in builtin:
                continue
            if name not in paths:
                raise Trouble(f"kernel {self.release} has no module {name!r} (looked in {self.modules})")
            order.update(dict.fromkeys([*reversed(needs[paths[name]]), paths[name]]))
        return [f"{self.modules}/{path}" for path in order]


def module_name(path: str) -> str:
    """The name that the kernel gives the module of a file: "kernel/net/bridge/br-nf.ko.xz" is br_nf."""
    return os.path.basename(path).split(".")[0].replace("-", "_")


def unsigned(module: bytes) -> bytes:
    """A module without its signature, which Debian's kernel doesn't insist on.

    Checking it costs 30 ms a module under emulation.
    """
    if not module.endswith(SIGNATURE_MAGIC):
        return module
    body = module[: -len(SIGNATURE_MAGIC)]
    (signature_bytes,) = struct.unpack(">I", body[-4:])
    return body[: -SIGNATURE_INFO_BYTES - signature_bytes]


def payload(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage (the boot protocol's payload, xz as Debian packs it)."""
    setup_bytes = (bzimage[SETUP_SECTS] + 1) * SECTOR_BYTES
    (offset,) = struct.unpack_from("<I", bzimage, PAYLOAD_OFFSET)
    try:
        return lzma.LZMADecompressor().decompress(bzimage[setup_bytes + offset :])
    except lzma.LZMAError as error:
        raise Trouble(f"the kernel image is no xz bzImage as Debian makes them ({error})") from error


def find(bases: Iterable[str]) -> Kernel | None:
    """The newest kernel with 9p below the first of `bases` (with boot/ and lib/modules/) that has one."""
    for base in bases:
        found = glob.glob(f"{base}/lib/modules/*/kernel/{NEEDED_MODULE}")
        releases = [path[len(f"{base}/lib/modules/") :].split("/")[0] for path in found]
        bootable = [release for release in releases if os.path.exists(f"{base}/boot/vmlinuz-{release}")]
        if bootable:
            return Kernel(base, max(bootable, key=version_key))
    return None


def version_key(release: str) -> list[int]:
    """Sorts 6.1.0-9 before 6.1.0-56."""
    return [int(number) for number in "".join(c if c.isdigit() else " " for c in release).split()]


def download(directory: str) -> None:
    """Unpack the kernel package that PACKAGE depends on into `directory`; nothing is installed.

    Raises Trouble when apt can't, with apt's own words.
    """
    apt, dpkg = program("apt-get", "apt"), program("dpkg-deb", "dpkg")
    apt_cache = program("apt-cache", "apt")
    sys.stderr.write(f"vm: no kernel with 9p on this machine: fetching {PACKAGE} (about 70 MB, once) …\n")
    depends = subprocess.run([apt_cache, "depends", "--important", PACKAGE], capture_output=True, text=True)
    names = [line.split()[-1] for line in depends.stdout.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise Trouble(
            f"apt knows no {PACKAGE}: apt-get update, or apt-get install {PACKAGE}\n{depends.stderr.strip()}"
        )
    os.makedirs(directory, exist_ok=True)
    # As root apt drops to the user _apt for downloads, who may not write into the repository.
    fetched = subprocess.run(
        [apt, "-q", "-o", "APT::Sandbox::User=root", "download", names[0]], cwd=directory, stdout=2
    )
    packages = glob.glob(f"{directory}/linux-image-*.deb")
    if fetched.returncode or not packages:
        raise Trouble(f"apt-get download {names[0]} failed: apt-get update, or apt-get install {PACKAGE}")
    subprocess.run([dpkg, "-x", packages[0], directory], check=True)
    os.unlink(packages[0])


def kernel(cache: str) -> Kernel:
    """A kernel to boot: the host's own, else the one unpacked below `cache`, fetched when it isn't there.

    Raises Trouble.
    """
    unpacked = f"{cache}/kernel"
    found = find(["", unpacked])
    if found is None:
        download(unpacked)
        found = find([unpacked])
    if found is None:
        raise Trouble(
            f"the unpacked {PACKAGE} in {unpacked} has no {NEEDED_MODULE}: apt-get install {PACKAGE}"
        )
    return found
