"""ps, logs, inspect, port: what is there."""

from __future__ import annotations

import json
import os
import sys
from time import time

from minicontainer.cli.common import age, at_least, helped, table
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine import attach_network
from minicontainer.engine.config import Config
from minicontainer.engine.container import SHORT, Container, every, find
from minicontainer.engine.end import reclaim
from minicontainer.engine.options import RunOptions
from minicontainer.engine.spec import command
from minicontainer.errors import NotFound, UsageError

PS_FLAGS = (
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    Flag("filter", "f", "list", "Filter output: id, name, status, label, ancestor, exited"),
    Flag("format", help="Format output using a template ({{.Names}}), or json"),
    Flag("last", "n", "int", "Show n last created containers (includes all states)", -1),
    Flag("latest", "l", "bool", "Show the latest created container (includes all states)"),
    Flag("no-trunc", kind="bool", help="Don't truncate output"),
    Flag("quiet", "q", "bool", "Only display container IDs"),
)


def ps_(config: Config, argv: list[str]) -> int:
    """ps [OPTIONS]"""
    values, _ = parse(PS_FLAGS, argv, command="minicontainer ps")
    if helped(values, "minicontainer ps [OPTIONS]", "List containers", PS_FLAGS):
        return 0
    if os.geteuid() == 0:
        reclaim(config)
    filters = [f.partition("=")[::2] for f in values["filter"]]
    last = 1 if values["latest"] else values["last"]
    everything = values["all"] or last >= 0 or any(k in ("status", "exited") for k, _ in filters)
    found = [c for c in every(config) if (everything or c.live()) and all(_matches(c, k, v) for k, v in filters)]
    rows = [_row(c, full=values["no-trunc"]) for c in (found[:last] if last >= 0 else found)]
    if values["quiet"]:
        print("".join(f"{r['ID']}\n" for r in rows), end="")
    elif values["format"] == "json":
        print("".join(json.dumps(r) + "\n" for r in rows), end="")
    elif values["format"] and values["format"] != "table":
        from minicontainer.cli.template import render

        print("".join(render(values["format"].removeprefix("table "), r) + "\n" for r in rows), end="")
    else:
        head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
        print(
            table([head, *([r[k] for k in ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")] for r in rows)]),
            end="",
        )
    return 0


def _row(container: Container, *, full: bool) -> dict[str, str]:
    record = container.record
    argv = " ".join(command(RunOptions(**record["options"]), record["image_config"]))
    shown = argv if full or len(argv) <= 20 else argv[:19] + "…"
    image = record["options"].get("labels") or {}
    return {
        "ID": container.ident if full else container.ident[:SHORT],
        "Image": record["image"],
        "Command": _quoted(shown),
        "RunningFor": age(time() - record["created_ns"] / 1e9) + " ago",
        "Status": _status(container),
        "State": container.status(),
        "Ports": attach_network.ports_text(container),
        "Names": container.name,
        "Labels": ",".join(f"{k}={v}" for k, v in image.items()),
    }


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _quoted(text: str) -> str:
    """As Go's strconv.Quote: what a command line holds must not steer the terminal of who lists it."""
    shown = (_ESCAPES.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}" if c < "\x80" else f"\\u{ord(c):04x}") for c in text)
    return f'"{"".join(shown)}"'


def _status(container: Container) -> str:
    live = container.live()
    if live:
        up = f"Up {age(time() - live.get('started_ns', 0) / 1e9)}"
        return up + " (Paused)" if container.status() == "paused" else up
    ended = container.exit()
    return f"Exited ({ended['exit_code']}) {age(time() - ended['finished_ns'] / 1e9)} ago" if ended else "Created"


def _matches(container: Container, key: str, value: str) -> bool:
    record = container.record
    if key == "id":
        return container.ident.startswith(value)
    if key == "name":
        return value in container.name
    if key == "status":
        return container.status() == value
    if key == "exited":
        return container.status() == "exited" and str((container.exit() or {}).get("exit_code")) == value
    if key == "ancestor":
        return value in (record["image"], record["image_id"]) or record["image"] == f"{value}:latest"
    if key == "label":
        name, equals, wanted = value.partition("=")
        labels = {**(record["image_config"].get("Labels") or {}), **record["options"].get("labels", {})}
        return name in labels and (not equals or labels[name] == wanted)
    raise UsageError(f"invalid filter '{key}'", "filters are id, name, status, exited, ancestor, label")


LOGS_FLAGS = (
    Flag("follow", "f", "bool", "Follow log output"),
    Flag("since", help="Show logs since timestamp or relative (42m)"),
    Flag("tail", "n", help="Number of lines to show from the end of the logs", default="all"),
    Flag("timestamps", "t", "bool", "Show timestamps"),
    Flag("until", help="Show logs before timestamp or relative (42m)"),
)


def logs_(config: Config, argv: list[str]) -> int:
    """logs [OPTIONS] CONTAINER"""
    values, args = parse(LOGS_FLAGS, argv, command="minicontainer logs")
    if helped(values, "minicontainer logs [OPTIONS] CONTAINER", "Fetch the logs of a container", LOGS_FLAGS):
        return 0
    at_least(args, 1, "logs")
    from minicontainer.engine import logs

    container = find(config, args[0])
    if container.record["options"].get("log_driver") == "none":
        raise UsageError(f"container {container.name} keeps no logs: it was made with --log-driver none")
    tail = None if values["tail"] == "all" else _count(values["tail"])
    for entry in logs.read(
        container.log,
        follow=values["follow"],
        tail=tail,
        since=logs.parse_time(values["since"]),
        until=logs.parse_time(values["until"]),
        alive=lambda: container.exit() is None and container.live() is not None,
    ):
        out = sys.stdout.buffer if entry.stream == "stdout" else sys.stderr.buffer
        out.write((entry.time.encode() + b" " if values["timestamps"] else b"") + entry.log)
        out.flush()
    return 0


def _count(text: str) -> int | None:
    if not text.lstrip("-").isdecimal():
        raise UsageError(f'invalid argument "{text}" for "-n, --tail" flag: not a number', "give a number of lines, or all")
    return None if int(text) < 0 else int(text)


INSPECT_FLAGS = (
    Flag("format", "f", help="Format output using a template ({{.State.Pid}}), or json"),
    Flag("type", help="Only inspect: container or image"),
)


def inspect_(config: Config, argv: list[str]) -> int:
    """inspect [OPTIONS] NAME|ID [NAME|ID...]"""
    values, names = parse(INSPECT_FLAGS, argv, command="minicontainer inspect")
    if helped(
        values,
        "minicontainer inspect [OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on containers and images",
        INSPECT_FLAGS,
    ):
        return 0
    at_least(names, 1, "inspect")
    if values["type"] not in ("", "container", "image"):
        raise UsageError(f'"{values["type"]}" is not a valid value for --type', "container or image")
    found, code = [], 0
    for name in names:
        try:
            found.append(_inspect(config, name, values["type"]))
        except NotFound as e:
            print(f"Error: {e.message}", file=sys.stderr)
            code = 1
    show(found, values["format"])
    return code


def show(found: list[dict], form: str) -> None:
    """Objects as JSON, or through a template, a line each."""
    if form and form != "json":
        from minicontainer.cli.template import render

        for value in found:
            print(render(form, value))
    else:
        print(json.dumps(found, indent=4))


def _inspect(config: Config, name: str, kind: str) -> dict:
    from minicontainer.engine.inspect import inspect
    from minicontainer.image.store import Store

    if kind != "image":
        try:
            return inspect(find(config, name))
        except NotFound:
            if kind:
                raise
    try:
        return Store(config.root).inspect(name)
    except (NotFound, UsageError):
        raise NotFound(f"No such {kind or 'object'}: {name}") from None


def port_(config: Config, argv: list[str]) -> int:
    """port CONTAINER [PRIVATE_PORT[/PROTO]]"""
    values, args = parse((), argv, command="minicontainer port")
    if helped(values, "minicontainer port CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings of a container", ()):
        return 0
    at_least(args, 1, "port")
    container = find(config, args[0])
    wanted = args[1] if len(args) > 1 else ""
    lines = attach_network.port_lines(container, wanted if not wanted or "/" in wanted else f"{wanted}/tcp")
    if wanted and not lines:
        raise NotFound(f"No public port '{wanted}' published for {container.name}")
    print("".join(f"{line}\n" for line in lines), end="")
    return 0
