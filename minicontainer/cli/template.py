"""The part of Go's templates that people write after --format: {{.A.B}}, {{json .A}}, text around them, "table" before."""

from __future__ import annotations

import json
import re

from minicontainer.errors import UsageError

_FIELD = re.compile(r"\{\{-?\s*(?:(json|len|upper|lower)\s+)?\.([\w.]*)\s*-?\}\}")


def render(template: str, value: dict) -> str:
    """The template with a value's fields put in. UsageError for what is not understood, or for a field that is not there."""

    def put(match: re.Match[str]) -> str:
        function, path = match[1], match[2]
        found: object = value
        for part in path.split(".") if path else ():
            if not isinstance(found, dict) or part not in found:
                raise UsageError(
                    f'--format: there is no field ".{path}"', "`--format json` or inspect without --format shows the fields"
                )
            found = found[part]
        if function == "json":
            return json.dumps(found)
        if function == "len":
            return str(len(found))  # type: ignore[arg-type]  # Go fails on a number too
        text = _go(found)
        return text.upper() if function == "upper" else text.lower() if function == "lower" else text

    rest = _FIELD.sub("", template)
    if "{{" in rest or "}}" in rest:
        raise UsageError(
            f'--format: "{template}" is more than {{{{.Field}}}}, {{{{json .Field}}}}, {{{{len .Field}}}}',
            "use --format json and jq",
        )
    return _FIELD.sub(put, template.replace("\\t", "\t").replace("\\n", "\n"))


def _go(value: object) -> str:
    """As Go's fmt prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return "[" + " ".join(_go(v) for v in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{_go(v)}" for k, v in sorted(value.items())) + "]"
    return str(value)
