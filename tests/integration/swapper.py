"""A program that swaps two names again and again, as a hostile container does with a volume that it shares: until it is killed.

Usage: swapper.py ONE OTHER. They change places by renameat2(2) with RENAME_EXCHANGE: at no moment is either missing.
"""

from __future__ import annotations

import ctypes
import os
import sys

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def main() -> None:
    """Never returns."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    one, other = (word.encode() for word in sys.argv[1:])
    if rename(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE) < 0:
        sys.exit(f"renameat2: errno {ctypes.get_errno()}")
    os.write(1, b"swapping\n")
    while True:
        rename(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)


main()
