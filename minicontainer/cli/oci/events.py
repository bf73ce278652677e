"""events: a container's statistics and its OOM kills, one JSON object a line."""

from __future__ import annotations

import gc
import os

from minicontainer import fastjson
from minicontainer.cli.oci import Call, Verb, explain, failed
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.errors import Conflict, MinicontainerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.state import OciContainer

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
        _say(container, "stats", events.stats(container))
        return 0
    from threading import Thread

    gc.enable()
    Thread(target=_every, args=(call, container, interval), daemon=True).start()
    for _ in events.oom_events(container):  # until it ends
        _say(container, "oom")
    return 0


def _every(call: Call, container: OciContainer, seconds: float) -> None:
    from time import sleep

    from minicontainer.runtime.events import stats

    while True:
        sleep(seconds)
        try:
            data = stats(container)
        except (MinicontainerError, OSError) as e:  # it is ending: the other thread tells
            call.log.error(explain(e))
            continue
        try:
            _say(container, "stats", data)
        except OSError as e:  # whoever read it has gone, or the disk is full: the other thread would wait for an OOM for ever
            os._exit(failed(e, call))


def _say(container: OciContainer, kind: str, data: dict | None = None) -> None:
    """One line in one write: two threads say something."""
    event = {"type": kind, "id": container.ident, **({"data": data} if data is not None else {})}
    os.write(1, f"{fastjson.dumps(event)}\n".encode())


VERBS = {"events": Verb(events_, _FLAGS)}
