"""events: a container's statistics and its OOM kills, one JSON object a line."""

from __future__ import annotations

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.errors import Conflict, UsageError

_FLAGS = (
    Flag("interval", kind="duration", help="set the stats collection interval", default=5.0),
    Flag("stats", kind="bool", help="display the container's stats then exit"),
)


def events_(call: Call) -> int:
    """events [OPTIONS] CONTAINER"""
    from minicontainer.runtime import events

    container, interval = container_of(call), call.values["interval"]
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0")
    if container.status() == "stopped":
        raise Conflict(f"container with id {container.ident} is not running")
    if call.values["stats"]:
        _say({"type": "stats", "id": container.ident, "data": events.stats(container)})
        return 0
    return 0


def _say(event: dict) -> None:
    print(fastjson.dumps(event), flush=True)


VERBS = {"events": Verb(events_, _FLAGS)}
