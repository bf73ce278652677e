"""The user's terminal, lent to a container."""

from __future__ import annotations

import os


class Terminal:
    """The user's terminal: raw while a container has it, and as it was afterwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd if os.isatty(fd) else -1
        self._before: list | None = None

    def size(self) -> tuple[int, int] | None:
        """(rows, columns), None if there is no terminal."""
        if self.fd < 0:
            return None
        columns, rows = os.get_terminal_size(self.fd)
        return rows, columns

    def raw(self) -> None:
        """Every key goes to the container."""
        if self.fd >= 0:
            import termios
            import tty

            self._before = termios.tcgetattr(self.fd)
            tty.setraw(self.fd)

    def restore(self) -> None:
        """As it was."""
        if self._before:
            import termios

            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)
            self._before = None
