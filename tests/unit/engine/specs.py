"""Specs made of command lines."""

from __future__ import annotations

from typing import Any

from minicontainer.cli.flags import parse
from minicontainer.cli.run_flags import RUN_FLAGS
from minicontainer.engine import options_check, spec_mounts
from minicontainer.engine.host import Host
from minicontainer.engine.options import from_flags
from minicontainer.engine.spec import SpecContainer, make_spec

ID = "0123456789abcdef" * 4


def container(**more: Any) -> SpecContainer:
    return SpecContainer(ID, rootfs="/root", network_files="/files", cgroups_path=f"/minicontainer/{ID}", **more)


def spec_of(host: Host, *argv: str, config: dict | None = None, **more: Any) -> dict[str, Any]:
    options = from_flags(*parse(RUN_FLAGS, [*argv, "image", *([] if config else ["true"])], False))
    options_check.check(options)
    points = spec_mounts.resolve_mounts(options, config or {}, "/volumes", host, lambda: "made-up")
    return make_spec(options, config or {}, container(**more), points, host)


def mounts_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in spec["mounts"]}
