"""version, info, gc."""

from __future__ import annotations

import os
import sys

from minicontainer import __version__
from minicontainer.cli.common import helped, root_needed
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine.config import Config
from minicontainer.engine.container import every
from minicontainer.engine.end import reclaim

_FORMAT = (Flag("format", "f", help="Format output using a template, or json"),)


def _print(facts: dict[str, object], form: str) -> None:
    if form:
        from minicontainer.cli.template import render

        print(render("{{json .}}" if form == "json" else form, facts))
        return
    for name, value in facts.items():
        print(f"{name + ':':18} {value}")


def version_(config: Config, argv: list[str]) -> int:
    """version [OPTIONS]"""
    values, _ = parse(_FORMAT, argv, command="minicontainer version")
    if helped(values, "minicontainer version [OPTIONS]", "Show the version information", _FORMAT):
        return 0
    kernel = os.uname()
    _print(
        {
            "Version": __version__,
            "Python": ".".join(map(str, sys.version_info[:3])),
            "Kernel": kernel.release,
            "Architecture": kernel.machine,
            "Spec": "1.2.0",
        },
        values["format"],
    )
    return 0


def info_(config: Config, argv: list[str]) -> int:
    """info [OPTIONS]"""
    values, _ = parse(_FORMAT, argv, command="minicontainer info")
    if helped(values, "minicontainer info [OPTIONS]", "Show what this host offers to containers", _FORMAT):
        return 0
    from minicontainer.image.store import Store
    from minicontainer.runtime.cgroups import hierarchy

    containers = every(config)
    running = sum(c.live() is not None for c in containers)
    found = hierarchy()
    with open("/proc/filesystems") as f:
        overlay = "overlay" in f.read()
    _print(
        {
            "Containers": len(containers),
            "Running": running,
            "Stopped": len(containers) - running,
            "Images": len({i.id for i in Store(config.root).list()}),
            "Data root": config.root,
            "State": config.state,
            "Cgroups": found.mode,
            "Controllers": " ".join(sorted(found.controllers)),
            "Overlay": "yes" if overlay else "no: load the module `overlay`",
            "Kernel": os.uname().release,
            "CPUs": os.cpu_count() or 0,
        },
        values["format"],
    )
    return 0


def gc_(config: Config, argv: list[str]) -> int:
    """gc"""
    values, _ = parse((), argv, command="minicontainer gc")
    if helped(values, "minicontainer gc", "Reclaim what containers left whose command or monitor was killed", ()):
        return 0
    root_needed()
    from minicontainer.engine import attach_network

    for ident in reclaim(config):
        print(f"reclaimed container {ident[:12]}")
    for line in attach_network.reclaim(config):
        print(line)
    return 0
