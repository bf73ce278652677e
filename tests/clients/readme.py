"""The configuration that the README shows for other engines, for tests that use it as it stands there."""

from __future__ import annotations

import re

from tests.clients.ours import REPOSITORY

SECTION = "## Under docker, podman, containerd and Kubernetes\n"
INSTALLED = "/usr/local/bin/minicontainer-oci"


def block(language: str, containing: str, runtime: str) -> str:
    """The one fenced block of the section in this language that contains this text, with `runtime` as the runtime's path."""
    with open(f"{REPOSITORY}/README.md") as file:
        readme = file.read()
    section = readme.split(SECTION)[1].split("\n## ")[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)
    (found,) = [text for text in blocks if containing in text]
    return found.replace(INSTALLED, runtime)
