"""Watching a container: streams, log, signals, and how it ended. The loop itself is stub/monitor.c."""

from __future__ import annotations

import os

from minicontainer.engine.start import Started
from minicontainer.kernel.monitor import run_monitor
from minicontainer.runtime.cgroups import oom_file
from minicontainer.stub import program

MONITOR = os.path.join(os.path.dirname(program.__file__), "monitor")


def _settings(started: Started) -> dict[str, str | int]:
    """What both kinds of monitor are told, by the names of struct monitor (monitor.h)."""
    container, config = started.container, started.container.config
    options = container.record["options"]
    settings: dict[str, str | int] = {
        "pid": started.launch.pid,
        "pidfd": started.launch.pidfd,
        "out": started.streams.out,
        "err": started.streams.err,
        "in": started.streams.stdin,
        "tty": started.launch.console,
        "exit_file": f"{container.dir}/exit.json",
        "oom_file": oom_file(started.cgroup),
    }
    if options.get("log_driver", "") != "none":
        given = options.get("log_options", {})
        settings["log"] = container.log
        settings["log_max_size"] = int(given.get("max-size", config.settings["log.max_size_bytes"]))
        settings["log_max_files"] = int(given.get("max-file", config.settings["log.max_files"]))
    return settings


def watch(started: Started, *, stdin: int, stdout: int, stderr: int, sig_proxy: bool) -> int:
    """Relays until the container has ended: its wait status.

    stdin is -1 where the user's input is not wanted.
    """
    return run_monitor(_settings(started), user_in=stdin, user_out=stdout, user_err=stderr, forward=sig_proxy)


def monitor_argv(started: Started, launcher: list[str]) -> tuple[list[str], list[int]]:
    """The argv of the static monitor, and the descriptors that it needs across the execve."""
    settings = _settings(started)
    words = [f"{name.replace('_', '-')}={value}" for name, value in settings.items() if value not in (-1, "")]
    keep = [int(settings[name]) for name in ("pidfd", "out", "err", "in", "tty") if settings[name] != -1]
    return [MONITOR, *words, "--", *launcher], keep


def exit_code(status: int) -> int:
    """docker's exit code for a wait status: the program's own, or 128 + signal."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
