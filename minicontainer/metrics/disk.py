"""Disk used by writable layers. The kernel keeps no count, so folders are walked: a little in each scrape, one after the other.

A scrape spends at most BUDGET_SECONDS here and goes on where the last one stopped, so its cost does not depend on how much
containers have written; a figure may be some minutes old.
"""

from __future__ import annotations

import os
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET_SECONDS = 0.0003
_BLOCK_BYTES = 512  # st_blocks counts in these, whatever the file system (stat(2))


class LayerSizes:
    """Bytes used by each of some folders, as far as they have been walked."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._folders: list[str] = []
        self._walk: Iterator[None] | None = None

    def advance(self, folders: list[str], budget_seconds: float = BUDGET_SECONDS) -> None:
        """Walks on. folders: those there are now."""
        self._folders = folders
        wanted = set(folders)
        self._sizes = {folder: size for folder, size in self._sizes.items() if folder in wanted}
        if not folders:
            self._walk = None
            return
        end = perf_counter() + budget_seconds
        if self._walk is None:
            self._walk = self._round()
        for _ in self._walk:
            if perf_counter() >= end:
                return
        self._walk = None

    def get(self, folder: str) -> int | None:
        """Bytes, None if it has not been walked yet."""
        return self._sizes.get(folder)

    def _round(self) -> Iterator[None]:
        """One walk through all folders, those never walked first; yields after each folder that it read."""
        for top in sorted(self._folders, key=lambda folder: folder in self._sizes):
            total, left, whole = 0, [top], True
            seen: set[int] = set()
            while left:
                try:
                    with os.scandir(left.pop()) as entries:
                        for entry in entries:
                            info = entry.stat(follow_symlinks=False)
                            if entry.is_dir(follow_symlinks=False):
                                left.append(entry.path)
                            elif info.st_nlink > 1 and info.st_ino in seen:
                                continue
                            elif info.st_nlink > 1:
                                seen.add(info.st_ino)
                            total += info.st_blocks * _BLOCK_BYTES
                except (FileNotFoundError, NotADirectoryError):
                    pass  # removed since it was listed: it uses nothing
                except OSError:
                    whole = False  # nested deeper than a path goes, as the container may: no figure is better than a wrong one
                if left:
                    yield
            if whole:
                self._sizes[top] = total
            else:
                self._sizes.pop(top, None)
            yield


def inodes(folder: str) -> dict[str, int]:
    """Free and all inodes of the file system of a folder; {} if it is gone, or the file system has no such limit."""
    try:
        info = os.statvfs(folder)
    except FileNotFoundError:
        return {}
    return {"fs_inodes_free": info.f_favail, "fs_inodes_total": info.f_files} if info.f_files else {}
