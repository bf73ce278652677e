"""Volumes: folders below <root>/volumes that outlive containers, filled from the image the first time."""

from __future__ import annotations

import os

from minicontainer.engine.end import remove_tree


def copy_up(volume: str, destination: str, layers: list[str]) -> None:
    """Copies the image's files at destination into an empty volume, as docker does; owners, modes and links kept.

    layers: topmost first. A folder that several layers have is copied from the lowest up, so that the topmost wins.
    """
    with os.scandir(volume) as entries:
        if next(entries, None):
            return
    from minicontainer.image.union import copy_directory

    temporary = f"{os.path.dirname(volume)}/.copy"
    remove_tree(temporary)
    if copy_directory(layers, destination, temporary):
        os.rmdir(volume)
        os.rename(temporary, volume)
