"""stats: what containers use, as docker's table."""

from __future__ import annotations

import json
import os

from minicontainer.cli.common import binary_size, helped, size, table
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine.config import Config
from minicontainer.engine.container import SHORT, every, find
from minicontainer.engine.usage import Usage, measure, memory_total_bytes

FLAGS = (
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    Flag("format", help="Format output using a template ({{.CPUPerc}}), or json"),
    Flag("no-stream", kind="bool", help="Disable streaming stats and only pull the first result"),
    Flag("no-trunc", kind="bool", help="Do not truncate output"),
)


def stats_(config: Config, argv: list[str]) -> int:
    """stats [OPTIONS] [CONTAINER...]"""
    values, names = parse(FLAGS, argv, command="minicontainer stats")
    if helped(
        values,
        "minicontainer stats [OPTIONS] [CONTAINER...]",
        "Display a live stream of container resource usage statistics",
        FLAGS,
    ):
        return 0
    while True:
        containers = [find(config, n) for n in names] or every(config)
        rows = [_row(u, full=values["no-trunc"]) for u in measure(containers)]
        measured = {r["Container"] for r in rows}
        if values["all"] or names:
            rows += [_still(c.ident, c.name, full=values["no-trunc"]) for c in containers if c.ident not in measured]
        text = _text(rows, values["format"])
        if values["no-stream"] or not os.isatty(1):
            print(text, end="", flush=True)
        else:
            print(f"\033[2J\033[H{text}", end="", flush=True)
        if values["no-stream"]:
            return 0


def _text(rows: list[dict[str, str]], form: str) -> str:
    if form == "json":
        return "".join(json.dumps(r) + "\n" for r in rows)
    if form and form != "table":
        from minicontainer.cli.template import render

        return "".join(render(form.removeprefix("table "), r) + "\n" for r in rows)
    head = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    return table(
        [head, *([r[k] for k in ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")] for r in rows)]
    )


def _row(usage: Usage, *, full: bool) -> dict[str, str]:
    numbers = usage.numbers
    used = numbers.get("memory_working_set_bytes", 0)
    limit = min(numbers.get("memory_limit_bytes", memory_total_bytes()), memory_total_bytes())
    ident = usage.container.ident
    io = f"{size(numbers['io_read_bytes'])} / {size(numbers['io_write_bytes'])}" if "io_read_bytes" in numbers else "--"
    return {
        "Container": ident,
        "ID": ident if full else ident[:SHORT],
        "Name": usage.container.name,
        "CPUPerc": f"{usage.cpu_percent:.2f}%",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}",
        "MemPerc": f"{100 * used / limit:.2f}%",
        "NetIO": f"{size(usage.network[0])} / {size(usage.network[1])}" if usage.network else "--",
        "BlockIO": io,
        "PIDs": str(int(numbers.get("pids", 0))),
    }


def _still(ident: str, name: str, *, full: bool) -> dict[str, str]:
    return {
        "Container": ident,
        "ID": ident if full else ident[:SHORT],
        "Name": name,
        "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "MemPerc": "0.00%",
        "NetIO": "0B / 0B",
        "BlockIO": "0B / 0B",
        "PIDs": "0",
    }
