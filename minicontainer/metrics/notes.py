"""What a scrape could not read, and why: counted by collector and reason, so that a gap in a graph has an explanation."""

from __future__ import annotations

from errno import errorcode


class Notes:
    """unavailable: figures left out in this scrape; errors: failures since the exporter began."""

    def __init__(self) -> None:
        self.unavailable: dict[tuple[str, str], int] = {}
        self.errors: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """A new scrape."""
        self.unavailable.clear()

    def left_out(self, what: str, reason: str) -> None:
        """One container's figure that is not exported. what: the family, or a pattern of families."""
        self.unavailable[what, reason] = self.unavailable.get((what, reason), 0) + 1

    def failed(self, collector: str, error: OSError) -> None:
        """A read that failed for a reason that is no gap of this host's."""
        reason = errorcode.get(error.errno or 0, type(error).__name__)
        self.errors[collector, reason] = self.errors.get((collector, reason), 0) + 1
