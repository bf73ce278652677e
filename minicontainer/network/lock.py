"""The lock of a network: held while the bridge, the tables or the port reservations change."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.network.config import NetworkConfig


class locked:
    """Holds flock(2) on <state>/network/<bridge>/lock; the kernel lets it go when the holder dies."""

    __slots__ = ("_fd", "_path")

    def __init__(self, config: NetworkConfig) -> None:
        self._path = f"{config.dir}/lock"
        self._fd = -1

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            self._fd = os.open(self._path, flags, 0o600)
        flock(self._fd, LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
