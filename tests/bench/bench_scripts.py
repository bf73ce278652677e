"""The figures that scripts of their own take: bench_scrape.py and bench_import.py, each printing one JSON line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from measure import BenchError
from table import Row, milliseconds

if TYPE_CHECKING:
    from run import Bench

HERE = os.path.dirname(os.path.realpath(__file__))
SCRIPT_SECONDS = 900


def scrape(bench: Bench) -> list[Row]:
    """CPU of one scrape of 100 idle containers."""
    figures = figures_of("bench_scrape.py")
    cpu_seconds = figures["cpu_seconds"]
    return [
        Row(
            "scrape of 100 idle containers: CPU",
            ours=milliseconds(cpu_seconds),
            peer="cAdvisor 54 ms (not measured here)",
            value=cpu_seconds * 1000,
            must=20,
            aim=6,
            unit="ms",
        )
    ]


def import_speed(bench: Bench) -> list[Row]:
    """Import of a rootfs of 10,000 files and 100 MB against docker import (wall)."""
    figures = figures_of("bench_import.py")
    ours, docker = figures["ours_seconds"], figures["docker_seconds"]
    return [
        Row(
            "import of 10,000 files, 100 MB / docker import",
            ours=milliseconds(ours),
            peer=milliseconds(docker),
            value=ours / docker,
            must=1.2,
            aim=0.8,
        )
    ]


def figures_of(script: str) -> dict[str, float]:
    """The JSON object on the last line that a script prints. Raises BenchError with its complaint."""
    done = subprocess.run([sys.executable, f"{HERE}/{script}"], capture_output=True, text=True, timeout=SCRIPT_SECONDS)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise BenchError(f"{script}: exit status {done.returncode}\n{done.stderr.strip()[-1000:]}")
    return json.loads(lines[-1])
