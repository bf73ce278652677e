"""Everything that containers could leave behind on a host, as sets of names; two pictures can be compared."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable

from tests.clients.daemon import cgroups_named
from tests.integration.engine import Engine, processes_of

Picture = dict[str, set[str]]

# Of the data root: what is not a container's.
_KEPT = ("oci", "layers", "seccomp")


def here(engine: Engine) -> Picture:
    """Files (addresses are files too), cgroups, mounts and processes of one engine: what can be seen without a program."""
    return {
        "files": set(_files(engine)),
        "cgroups": set(_cgroups(engine)),
        "mounts": set(_mounts(engine)),
        "processes": set(_processes(engine)),
    }


def picture(engine: Engine) -> Picture:
    """here(), and the links and firewall elements of its network namespace."""
    return {**here(engine), "links": set(_links(engine)), "firewall": set(_firewall(engine))}


def left(before: Picture, after: Picture) -> dict[str, set[str]]:
    """What is there now and was not before, by kind; empty is what is wanted."""
    return {kind: more for kind in after if (more := after[kind] - before[kind])}


def _files(engine: Engine) -> Iterable[str]:
    """Paths below the engine's folder, but for images; what is a phase's timing is kept on purpose."""
    for top, folders, files in os.walk(engine.directory):
        relative = os.path.relpath(top, engine.directory)
        if relative == "root":
            folders[:] = [f for f in folders if f not in _KEPT]
        for name in (*folders, *files):
            path = os.path.normpath(os.path.join(relative, name))
            if not path.startswith("state/phases"):
                yield path


def _cgroups(engine: Engine) -> Iterable[str]:
    for parent in cgroups_named(engine.cgroup):
        for top, folders, _ in os.walk(parent):
            yield from (os.path.join(top, name) for name in folders)


def _mounts(engine: Engine) -> Iterable[str]:
    """Mount points of the host; those of others come and go, so only ours count."""
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4] for line in f if engine.directory in line or engine.cgroup in line]


def _processes(engine: Engine) -> Iterable[str]:
    for pid in processes_of(engine):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                yield f"{pid}: {f.read().replace(bytes(1), b' ').decode(errors='replace')}"
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended


def _inside(engine: Engine, *argv: str) -> str:
    """A tool's output in the engine's network namespace."""
    return subprocess.run([*engine.enter()[:2], *argv], capture_output=True, text=True, check=True).stdout


def _links(engine: Engine) -> Iterable[str]:
    """Links with their master; addresses and state of the bridge itself do not count."""
    for link in json.loads(_inside(engine, "ip", "-json", "link", "show")):
        yield f"{link['ifname']} master {link.get('master')}"


def _firewall(engine: Engine) -> Iterable[str]:
    """Elements of our own nft sets and maps. What makes up the table itself stays once it is there."""
    for item in json.loads(_inside(engine, "nft", "--json", "list", "ruleset"))["nftables"]:
        for kind in ("set", "map"):
            for element in item.get(kind, {}).get("elem", ()):
                yield f"{item[kind]['name']}: {json.dumps(element, sort_keys=True)}"
