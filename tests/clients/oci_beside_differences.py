"""Where minicontainer-oci differs from runc 1.1.5 on purpose: by subject and step (oci_beside_cases.py), the reason, and what ours
gives for the part of the answer that differs."""

from __future__ import annotations

DIFFERENCES: dict[tuple[str, str], tuple[str, dict[str, object]]] = {}
