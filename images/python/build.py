"""build.py OUT: a rootfs with Debian's python3 and what that needs, no shell and no package manager.

It is of the Debian release that the machine runs, and comes from the machine's own package sources.
mmdebstrap only extracts the packages: no maintainer script runs, and the same versions give the same bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile

from images.rootfs_tar import EPOCH, RootfsTar

PACKAGES = "python3-minimal,libpython3-stdlib"
SOURCE_LINE = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"

# Of what the packages bring: the interpreter, the libraries, and the links of a merged /usr.
KEPT = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32|tmp|usr|usr/(s?bin|lib.*)|usr/bin/python3[.\d]*)")
# Of that, not: character set tables, Berkeley DB, plugins of Kerberos and OpenSSL; Python's documentation,
# tests and tools.
DROPPED = re.compile(
    r"usr/(libexec|lib/(binfmt\.d|mime|systemd|[^/]+-linux-gnu/(gconv|krb5|engines-3|ossl-modules|libdb-|libmvec))"
    r"|lib/python3[^/]*/(pydoc_data|lib2to3|test|unittest/test|distutils|ensurepip|idlelib|tkinter|turtle)).*"
    r"|.*/__pycache__.*"
)


def debian_sources() -> str:
    """The machine's package sources that are Debian's own, as lines of a sources.list."""
    command = ["apt-get", "indextargets", "--format", SOURCE_LINE, "Created-By: Packages", "Origin: Debian"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if not lines:
        raise SystemExit("images/python: apt knows no Debian packages; run: sudo apt-get update")
    return lines


def release() -> str:
    """The code name of the Debian release that runs here, from os-release(5)."""
    with open("/etc/os-release", encoding="utf-8") as f:
        return dict(line.rstrip().split("=", 1) for line in f if "=" in line)["VERSION_CODENAME"]


def bootstrap(out: str) -> None:
    """Has mmdebstrap write the packages' files to the tarball `out`."""
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGES}",
               "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", release(), out, "-"]
    print("→ building the python rootfs with mmdebstrap (about half a minute)", flush=True)
    done = subprocess.run(command, input=debian_sources(), text=True, capture_output=True,
                          env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-3000:]}\nimages/python: mmdebstrap failed (its last lines are above)")


def is_kept(name: str) -> bool:
    """Does this path of the packages belong into the image?"""
    return bool(KEPT.fullmatch(name)) and not DROPPED.fullmatch(name)


def build(out: str) -> None:
    """Writes the tarball."""
    with tempfile.TemporaryDirectory() as folder:
        packages = os.path.join(folder, "packages.tar")
        bootstrap(packages)
        tar = RootfsTar(out)
        tar.copy(packages, is_kept, compiled=True)
    for name in ("dev", "etc", "proc", "sys", "var", "var/tmp"):
        tar.directory(name)
    tar.directory("root", 0o700)
    tar.file("etc/passwd", "root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    tar.file("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    tar.close()


if __name__ == "__main__":
    build(sys.argv[1])
