"""build.py OUT: a rootfs of about 2 MB from the machine's own static busybox (Debian: busybox-static)."""

from __future__ import annotations

import subprocess
import sys

from images.rootfs_tar import RootfsTar

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
"""
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/www")


def applets(busybox: str) -> list[str]:
    """What this busybox can be called as, as paths relative to the root: bin/sh, sbin/ip, usr/bin/env …"""
    listed = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True).stdout
    return sorted(set(listed.split()) - {"bin/busybox"})


def build(busybox: str, out: str) -> None:
    """Writes the tarball: busybox, each of its applets a link to it, and the files that programs expect."""
    tar = RootfsTar(out)
    for name in DIRECTORIES:
        tar.directory(name)
    tar.directory("root", 0o700)
    tar.directory("sbin")
    tar.directory("tmp", 0o1777)
    tar.file("etc/group", GROUP)
    tar.file("etc/passwd", PASSWD)
    with open(busybox, "rb") as f:
        tar.file("bin/busybox", f.read(), 0o755)
    for name in applets(busybox):
        tar.symlink(name, "/bin/busybox")
    tar.close()


if __name__ == "__main__":
    build("/bin/busybox", sys.argv[1])
