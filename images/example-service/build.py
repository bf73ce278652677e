"""build.py PYTHON_TAR OUT: the python rootfs, the example service and the prometheus_client that it uses.

All of it is here already (the rootfs of images/python, the library in the venv): quick, and no network.
"""

from __future__ import annotations

import os
import sys

import prometheus_client

from images.rootfs_tar import RootfsTar

SERVICE = os.path.join("examples", "service", "service.py")
LIBRARY = os.path.dirname(prometheus_client.__file__)
LIBRARY_IN_IMAGE = "usr/lib/python3/dist-packages/prometheus_client"  # where Debian's python3 looks


def modules(folder: str) -> list[str]:
    """The Python files below a folder, relative to it, in a fixed order."""
    found = [os.path.relpath(os.path.join(path, f), folder)
             for path, _, files in os.walk(folder) for f in files if f.endswith(".py")]
    return sorted(found)


def build(base: str, out: str) -> None:
    """Writes the tarball: everything of `base`, and the service as /service.py."""
    tar = RootfsTar(out)
    tar.copy(base)
    with open(SERVICE, "rb") as f:
        tar.file("service.py", f.read(), 0o755)
    names = modules(LIBRARY)
    folders = {os.path.dirname(os.path.join(LIBRARY_IN_IMAGE, n)) for n in names}
    for name in sorted({"usr/lib/python3", "usr/lib/python3/dist-packages"} | folders):
        tar.directory(name)
    for name in names:
        with open(os.path.join(LIBRARY, name), "rb") as f:
            tar.module(os.path.join(LIBRARY_IN_IMAGE, name), f.read())
    tar.close()


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2])
