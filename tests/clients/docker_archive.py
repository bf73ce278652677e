"""A rootfs tarball as an image that containerd can import: the docker-archive form, one layer, written by hand."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


def write(path: str, name: str, rootfs: str, *, entrypoint: tuple[str, ...] = ()) -> None:
    """Write the image `name` (with its tag), whose layer is the tarball `rootfs`, to path."""
    with open(rootfs, "rb") as file:
        layer = file.read()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": [PATH], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    described = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": described, "RepoTags": [name], "Layers": ["layer/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for member, data in ((described, config), ("layer/layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
