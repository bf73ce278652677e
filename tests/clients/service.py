"""The example service as an image of a minicontainer of ours."""

from __future__ import annotations

import os

from tests.clients.ours import REPOSITORY, Ours

IMAGE = "example-service"
TARBALL = f"{REPOSITORY}/images/example-service.tar"
CHANGES = f"{REPOSITORY}/images/example-service/changes"


def missing() -> str:
    """Why there can be no example service here, or an empty string."""
    if os.geteuid() != 0:
        return "containers need root"
    return "" if os.path.exists(TARBALL) else "the service's root file system is not built: make images"


def import_service(side: Ours) -> None:
    """Import it as IMAGE, as images/import.sh does."""
    with open(CHANGES) as file:
        side.import_rootfs(TARBALL, IMAGE, *file.read().splitlines())
