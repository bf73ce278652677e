"""Bundles: a folder with a config.json (bundle.md)."""

from __future__ import annotations

from minicontainer import fastjson
from minicontainer.errors import NotFound, UsageError


def load_spec(bundle: str) -> tuple[dict, bytes]:
    """config.json of a bundle, checked, and its text. NotFound if there is none, UsageError for what is wrong in it."""
    path = f"{bundle}/config.json"
    try:
        with open(path, "rb") as f:
            text = f.read()
    except FileNotFoundError:
        raise NotFound("JSON specification file config.json not found", f"is {bundle} a bundle?") from None
    try:
        spec = fastjson.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is not JSON: {e}") from None
    if not isinstance(spec, dict) or not isinstance(spec.get("root"), dict) or not isinstance(spec.get("process"), dict):
        raise UsageError(f"{path} lacks root or process", "see the OCI runtime spec, config.md")
    if not str(spec.get("ociVersion", "")).startswith("1."):
        raise UsageError(f"{path}: ociVersion {spec.get('ociVersion')!r} is not 1.x")
    if any((spec.get("hooks") or {}).values()):
        raise UsageError("hooks are not run yet", "take them out of config.json")
    return spec, text
