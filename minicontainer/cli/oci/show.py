"""list and ps."""

from __future__ import annotations

import os

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb, reason
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.errors import NotFound, UsageError
from minicontainer.runtime import state

_FORMAT = Flag("format", "f", help="select one of: table or json", default="table")
_QUIET = Flag("quiet", "q", "bool", "display only container IDs")
_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def list_(call: Call) -> int:
    """list [OPTIONS]"""
    kind = call.values["format"]
    found = _containers(call)
    if call.values["quiet"]:
        print("".join(f"{c['id']}\n" for c in found), end="")
    elif kind == "json":
        print(fastjson.dumps(found or None))
    elif kind == "table":
        print(_table([[name.upper() for name in _COLUMNS], *([str(c[name]) for name in _COLUMNS] for c in found)]), end="")
    else:
        raise UsageError("invalid format option")
    return 0


def _containers(call: Call) -> list[dict]:
    try:
        os.listdir(call.root)
    except OSError as e:
        if call.options["root"] or not isinstance(e, FileNotFoundError):
            raise NotFound(f"open {call.root}: {reason(e)}") from None
        return []  # nothing was ever created in the default folder
    found = []
    for container in state.every(call.root, call.log.warn):
        try:
            found.append(container.describe() | {"owner": _owner(os.stat(container.dir).st_uid)})
        except FileNotFoundError:
            continue  # deleted just now
    return found


def _owner(uid: int) -> str:
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _table(rows: list[list[str]]) -> str:
    """Columns as Go's tabwriter sets them with runc's settings: at least 12 wide, 3 of it space."""
    widths = [max(12, *(len(row[i]) + 3 for row in rows)) for i in range(len(rows[0]) - 1)]
    return "".join("".join(cell.ljust(w) for cell, w in zip(row, widths)) + row[-1] + "\n" for row in rows)


def ps_(call: Call) -> int:
    """ps [OPTIONS] CONTAINER [PS OPTIONS]"""
    pids = container_of(call).cgroup().pids()
    kind = call.values["format"]
    if kind == "json":
        print(fastjson.dumps(sorted(pids) or None))
    elif kind == "table":
        print(_ps_table(set(pids), call.args[1:] or ["-ef"]), end="")
    else:
        raise UsageError("invalid format option")
    return 0


def _ps_table(pids: set[int], options: list[str]) -> str:
    """What ps says, without the lines of other processes. The column PID has to be in it."""
    import subprocess

    try:
        done = subprocess.run(
            ["ps", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        raise UsageError('exec: "ps": executable file not found in $PATH') from None
    if done.returncode:
        raise UsageError(f"exit status {done.returncode}: {done.stdout}")
    title, *lines = done.stdout.splitlines()
    titles = title.split()
    if "PID" not in titles:
        raise UsageError("couldn't find PID field in ps output")
    column = titles.index("PID")
    return "".join(f"{line}\n" for line in (title, *(line for line in lines if line and _pid(line, column) in pids)))


def _pid(line: str, column: int) -> int:
    """The pid in a line of ps; UsageError where a column before it has blanks, or nothing."""
    word = "".join(line.split()[column : column + 1])
    if not word.isdecimal():
        raise UsageError(
            f"unable to parse pid: {word!r} in the column PID of ps", "put pid before columns with blanks: -eo pid,args"
        )
    return int(word)


VERBS = {
    "list": Verb(list_, (_FORMAT, _QUIET), least=0, most=0),
    "ps": Verb(ps_, (_FORMAT,), most=None, interspersed=False),
}
