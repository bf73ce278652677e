"""`update`: other limits for a container that runs.

What is named changes and all else stays, device rules above all: they are no part of an update (runc's rule; CVE class "default
deny surviving update"). Limits that mean something only together (memory and swap, quota and period) are set together, the
half that is not named as it was asked for last.

    lock ─▶ merge with what was asked for before ─▶ ops, one write each ─▶ read back ─▶ state.json
                                                      └─ one fails: those before it are taken back

A kill -9 in between leaves every limit either old or new, and the next update sets its own whole.
"""

from __future__ import annotations

import os
from errno import EBUSY
from fcntl import LOCK_EX, flock

from minicontainer.cgroup import tree
from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.memory import ignored
from minicontainer.errors import Conflict, LimitError, MinicontainerError
from minicontainer.kernel import spawn
from minicontainer.runtime.cgroups import without_old_zero
from minicontainer.runtime.launch import start_error
from minicontainer.runtime.state import OciContainer, load
from minicontainer.stub import program as prog
from minicontainer.stub.ops import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PAIRS = (("memory", "limit", "swap"), ("cpu", "quota", "period"))
# Entries of a list are told apart by these.
_KEYS = {"hugepageLimits": ("pageSize",), "priorities": ("name",)}
_DEVICE = ("major", "minor")


def update(container: OciContainer, resources: dict, rdt: dict | None = None) -> list[str]:
    """Sets linux.resources (config-linux.md; what is left out stays). What has no effect is returned in words, for the log.

    rdt: l3CacheSchema and memBwSchema of linux.intelRdt. UsageError names a field of the wrong type; Conflict if the container has
    ended; LimitError and Unsupported as at create, with nothing changed; LimitError in runc's words for a memory limit below what
    is used.
    """
    from minicontainer.runtime.validate import check_resources

    check_resources(resources)
    lock = os.open(container.dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(lock, LOCK_EX)
        container.state = load(os.path.dirname(container.dir), container.ident).state
        if container.status() == "stopped":
            raise Conflict("container not running")
        told = ignored(resources)
        if resources.get("devices"):
            told.append("device rules are not changed by an update")
        asked = without_old_zero(
            {key: value for key, value in resources.items() if key != "devices"}, container.state["ociVersion"]
        )
        linux = container.spec().get("linux") or {}
        before = merge(linux.get("resources") or {}, container.state.get("resources") or {})
        wanted = complete(asked, merge(before, asked))
        _with_schemata(container.ident, linux.get("intelRdt"), rdt, lambda: _apply(container.cgroup(), wanted))
        container.state["resources"] = merge(container.state.get("resources") or {}, wanted)
        container.save()
    finally:
        os.close(lock)
    return told


def _with_schemata(ident: str, has: dict | None, asked: dict | None, apply: Callable[[], None]) -> None:
    """Gives the container's class of resctrl what is asked, and applies the rest; if that fails, the class has what it had."""
    if not asked:
        apply()
        return
    from minicontainer.runtime import resctrl

    had = resctrl.change(has, ident, asked)
    try:
        apply()
    except MinicontainerError:
        resctrl.change(has, ident, had)
        raise


def merge(old: dict, new: dict) -> dict:
    """old with what new names: sections by key, entries of lists by their device, size or name; null names nothing."""
    out = dict(old)
    for key, value in new.items():
        if isinstance(value, dict):
            out[key] = merge(old.get(key) or {}, value)
        elif isinstance(value, list):
            names = _KEYS.get(key, _DEVICE)
            entries = {tuple(entry.get(name) for name in names): entry for entry in old.get(key) or ()}
            for entry in value:
                place = tuple(entry.get(name) for name in names)
                entries[place] = {**entries.get(place, {}), **entry}
            out[key] = list(entries.values())
        elif value is not None:
            out[key] = value
    return out


def complete(asked: dict, merged: dict) -> dict:
    """What to set: asked, and the other half of each pair. Shares and idle exclude each other: new shares end being idle, as in
    runc with systemd, and a group that stops being idle gets back those it had."""
    out = dict(asked)
    for section, one, other in _PAIRS:
        named = asked.get(section) or {}
        if named.get(one) or named.get(other):
            halves = {key: merged[section][key] for key in (one, other) if merged[section].get(key)}
            out[section] = {**named, **halves}
    memory, cpu = asked.get("memory") or {}, asked.get("cpu") or {}
    if memory.get("limit") == -1 and not memory.get("swap"):
        out["memory"] = {**out["memory"], "swap": 0}  # without a limit there is nothing that swap could be counted with
    if cpu.get("idle") == 0 and merged["cpu"].get("shares"):
        out["cpu"] = {**out["cpu"], "shares": merged["cpu"]["shares"]}
    elif cpu.get("shares") and cpu.get("idle") is None and merged["cpu"].get("idle"):
        out["cpu"] = {**out["cpu"], "idle": 0}
    return out


def _apply(cgroup: Cgroup, resources: dict) -> None:
    ops = cgroup.update_ops(resources)
    old = [tree.read(str(op.args[1])) if op.call == "write_file" else "" for op in ops]
    cgroup.announce(resources)
    program = prog.Program(ops, {})
    failed = spawn.run_here(program.code)
    if failed >= 0:
        error = _error(ops[failed], program.results()[failed].errno, old[failed])
        _take_back(ops[:failed], old)
        raise error
    cgroup.verify(resources)


def _take_back(ops: list[Op], old: list[str]) -> None:
    """Writes what was there before, the last first, for files of one value; a device's line stays as it was set."""
    for op, text in reversed(list(zip(ops, old))):
        if text.strip() and "\n" not in text.strip() and not str(op.args[1]).endswith("subtree_control"):
            try:
                tree.write(str(op.args[1]), text)
            except OSError:
                continue  # the kernel has reasons of its own by now; the error that is raised tells which limit failed


def _error(op: Op, errno: int, now: str) -> MinicontainerError:
    path, value = str(op.args[1]), op.args[2]
    if errno == EBUSY and path.endswith("/memory.limit_in_bytes") and isinstance(value, bytes):
        folder = os.path.dirname(path)
        usage, peak = (tree.read(f"{folder}/memory.{file}_in_bytes").strip() for file in ("usage", "max_usage"))
        return LimitError(
            f"unable to set memory limit to {value.decode()} (current usage: {usage}, peak usage: {peak})",
            f"free memory inside it first; the limit stays at {now.strip()}",
        )
    return start_error(op, errno)
