"""metrics: the exporter, an ordinary process in the foreground."""

from __future__ import annotations

import sys

from minicontainer.cli.common import helped, root_needed
from minicontainer.cli.flags import Flag, parse
from minicontainer.engine.config import Config

FLAGS = (Flag("listen", help="Address and port to listen on", default="127.0.0.1:9323"),)


def metrics_(config: Config, argv: list[str]) -> int:
    """metrics [OPTIONS]"""
    values, _ = parse(FLAGS, argv, command="minicontainer metrics")
    summary = "Serve the accounting of all containers to Prometheus on /metrics, until SIGTERM or SIGINT"
    if helped(values, "minicontainer metrics [OPTIONS]", summary, FLAGS):
        return 0
    root_needed()
    from minicontainer.kernel.privileges import keep_only
    from minicontainer.metrics.engine_source import EngineSource
    from minicontainer.metrics.exporter import Exporter
    from minicontainer.metrics.server import serve

    # To listen, to read what containers of other users wrote and are: no more may be had by whoever breaks into a parser of HTTP.
    keep_only("net_bind_service", "dac_read_search", "sys_ptrace")
    serve(values["listen"], Exporter(EngineSource(config), data_root=config.root), ready=_ready)
    return 0


def _ready(url: str) -> None:
    print(f"Serving metrics on {url}", file=sys.stderr, flush=True)
