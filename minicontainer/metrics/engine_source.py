"""The engine's containers as records, from its files; each is parsed again only when it has been replaced."""

from __future__ import annotations

import os

from minicontainer.engine import container as box
from minicontainer.engine.config import Config
from minicontainer.metrics.source import Record

_STATES = {"running": "running", "paused": "paused"}


class EngineSource:
    """Reads the folders that engine/container.py draws."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.phases = f"{config.state}/phases"
        self._known: dict[str, Known] = {}

    def records(self) -> list[Record]:
        """All containers on disk."""
        before, self._known = self._known, {}
        for ident in sorted(box.all_ids(self._config)):
            known = before.get(ident)
            if known is None:
                container = box.load(self._config, ident)
                if container is None:
                    continue  # being made, or being removed
                known = Known(container)
            self._known[ident] = known
        return [known.record() for known in self._known.values()]


class Known:
    """A container and its record, made anew when state.json or exit.json is another file than before."""

    __slots__ = ("_container", "_exit_path", "_marks", "_record", "_state_path")

    def __init__(self, container: box.Container) -> None:
        self._container = container
        self._state_path = f"{container.config.state}/containers/{container.ident}/state.json"
        self._exit_path = f"{container.dir}/exit.json"
        self._marks: object = None
        self._record: Record | None = None

    def record(self) -> Record:
        """The record as it is now."""
        state = _mark(self._state_path)
        marks = (state, None if state else _mark(self._exit_path))  # a start removes the exit.json of the run before
        if self._record is None or marks != self._marks:
            self._marks = marks
            self._record = self._make()
        return self._record

    def _make(self) -> Record:
        container = self._container
        made, options = container.record, container.record["options"]
        live, ended = _json(self._state_path), _json(self._exit_path)
        state = _STATES.get(live.get("status", ""), "created") if live else "exited" if ended else "created"
        if state == "running" and live.get("paused"):
            state = "paused"
        return Record(
            container.ident,
            name=container.name,
            image=made["image"],
            cgroup=container.cgroup_path,
            pid=live.get("pid", 0),
            state=state,
            exit_code=ended.get("exit_code"),
            oom_kills=ended.get("oom"),
            restarts=live.get("restarts", 0),
            started=(live.get("started_ns") or ended.get("started_ns") or 0) / 1e9,
            finished=ended.get("finished_ns", 0) / 1e9,
            network=options.get("network") or "bridge",
            upper="" if made["rootfs"] else f"{container.dir}/upper",
            labels={**(made["image_config"].get("Labels") or {}), **options.get("labels", {})},
        )


def _mark(path: str) -> tuple[int, int] | None:
    """What changes when a file is replaced by rename; None if there is none."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_ino, info.st_mtime_ns


def _json(path: str) -> dict:
    """A JSON file's object, {} if it is not there or a crash left it broken."""
    try:
        return box.read_json(path) or {}
    except ValueError:
        return {}
