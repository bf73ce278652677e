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
        self._containers: dict[str, box.Container] = {}
        self._files: dict[str, tuple[tuple[int, int], dict]] = {}

    def records(self) -> list[Record]:
        """All containers on disk."""
        idents = set(box.all_ids(self._config))
        for gone in self._containers.keys() - idents:
            del self._containers[gone]
        out = []
        for ident in sorted(idents):
            container = self._containers.get(ident) or box.load(self._config, ident)
            if container:  # else: being made, or being removed
                self._containers[ident] = container
                out.append(self._record(container))
        live = {path for ident in idents for path in self._paths(ident)}
        self._files = {path: known for path, known in self._files.items() if path in live}
        return out

    def _paths(self, ident: str) -> tuple[str, str]:
        return f"{self._config.state}/containers/{ident}/state.json", f"{self._config.root}/containers/{ident}/exit.json"

    def _record(self, container: box.Container) -> Record:
        made, options = container.record, container.record["options"]
        state_path, exit_path = self._paths(container.ident)
        live, ended = self._json(state_path), self._json(exit_path)
        state = _STATES.get(live.get("status", ""), "created") if live else "exited" if ended else "created"
        if state == "running" and live.get("paused"):
            state = "paused"
        return Record(
            container.ident, name=container.name, image=made["image"], cgroup=container.cgroup_path, pid=live.get("pid", 0),
            state=state, exit_code=ended.get("exit_code"), oom_kills=ended.get("oom"), restarts=live.get("restarts", 0),
            started=(live.get("started_ns") or ended.get("started_ns") or 0) / 1e9, finished=ended.get("finished_ns", 0) / 1e9,
            network=options.get("network") or "bridge", upper="" if made["rootfs"] else f"{container.dir}/upper",
            labels={**(made["image_config"].get("Labels") or {}), **options.get("labels", {})})

    def _json(self, path: str) -> dict:
        """A JSON file's object, {} if it is not there or half-written by a crash. These files are replaced by rename."""
        try:
            info = os.stat(path)
        except FileNotFoundError:
            self._files.pop(path, None)
            return {}
        mark = (info.st_ino, info.st_mtime_ns)
        known = self._files.get(path)
        if known is None or known[0] != mark:
            try:
                content = box.read_json(path) or {}
            except ValueError:
                content = {}
            known = self._files[path] = (mark, content)
        return known[1]
