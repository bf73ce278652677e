"""Bundles: a folder with a config.json (bundle.md)."""

from __future__ import annotations

import os

from minicontainer import fastjson
from minicontainer.errors import NotFound, UsageError
from minicontainer.runtime import validate


def load_spec(bundle: str, config: str = "") -> tuple[dict, bytes]:
    """config.json of a bundle, checked, and as text to keep: without fields that are null, which are as good as absent.

    config: another file in its place. NotFound if there is none, UsageError for what is wrong in it.
    """
    path = config or f"{bundle}/config.json"
    try:
        spec = read_json(path)
    except FileNotFoundError:
        raise NotFound(f"JSON specification file {config or 'config.json'} not found", f"is {bundle} a bundle?") from None
    validate.check(spec)
    assert isinstance(spec, dict)
    validate.check_root(os.path.join(bundle, spec["root"]["path"]))
    try:
        return spec, fastjson.dumps(spec).encode()
    except ValueError as e:  # 1e999, in a field that we don't know
        raise UsageError(f"{path} can't be kept: {e}") from None


def read_json(path: str) -> object:
    """A file of JSON that a caller hands over. UsageError for what is none, or too big; OSError."""
    # Without waiting: a FIFO that nobody writes into is empty.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
        os.set_blocking(f.fileno(), True)  # one that somebody has open to write into comes to an end
        text = f.read(validate.MOST_BYTES + 1)
    if len(text) > validate.MOST_BYTES:
        raise UsageError(f"{path} is bigger than {validate.MOST_BYTES >> 20} MiB", "is it the right file?")
    try:
        return fastjson.loads(text)
    except ValueError as e:
        raise UsageError(f"{path} is not JSON: {e}") from None
