"""docker with one OCI runtime, on a dockerd of the tests' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.clients.engine import Engine
from tests.clients.peer_first import until

if TYPE_CHECKING:
    from tests.clients.dockerd import Dockerd


class Docker(Engine):
    """docker's client. runtime: a name that the daemon knows."""

    def __init__(self, daemon: Dockerd, runtime: str) -> None:
        self.daemon = daemon
        self.runtime = runtime

    def command(self, *words: str) -> list[str]:
        return self.daemon.command(*words)

    def environment(self) -> dict[str, str]:
        return self.daemon.environment()

    def run_words(self, *flags: str) -> list[str]:
        return ["run", "--runtime", self.runtime, *flags]

    def check_health(self, name: str, wanted: str) -> None:
        """Wait until the daemon's own checks have this result."""
        until(lambda: self.state(name)["Health"]["Status"] == wanted, wanted)

    def clean(self) -> None:
        if containers := self.out("ps", "--all", "--quiet").split():
            self.cli("rm", "--force", "--volumes", *containers)
