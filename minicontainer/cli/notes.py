"""What a start tells without being asked: what it had to change on the host."""

from __future__ import annotations

import sys

from minicontainer.engine.start import Observer


class Notes(Observer):
    """Prints it on stderr."""

    def changed(self, sentences: list[str]) -> None:
        for sentence in sentences:
            print(f"minicontainer: on this host: {sentence}", file=sys.stderr, flush=True)
