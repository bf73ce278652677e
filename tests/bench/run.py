"""The speed table: minicontainer beside runc, crun, docker and conmon on this machine.

    .venv/bin/python tests/bench/run.py [--only NAME] [--runs N] [--pause SECONDS] [--json FILE]

Exit status 0 when every "must" is met, 1 when one is not, 2 when something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, REPOSITORY)

from bench_memory import memory  # noqa: E402 (found through the line above, as the next ones are)
from bench_oci import oci, oci_v2, under_docker  # noqa: E402
from bench_scripts import import_speed, scrape  # noqa: E402
from bench_start import bridge, files, start  # noqa: E402
from measure import BenchError  # noqa: E402
from peers import INSTALLED, UNIFIED, Docker, Minicontainer, busybox_tarball  # noqa: E402
from table import machine, markdown  # noqa: E402

from tests.clients.daemon import CommandFailed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from table import Row

Peer = TypeVar("Peer", Docker, Minicontainer)

GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "start": start,
    "bridge": bridge,
    "files": files,
    "oci": oci,
    "oci-v2": oci_v2,
    "docker": under_docker,
    "memory": memory,
    "scrape": scrape,
    "import": import_speed,
}


class Bench:
    """What the groups share: a scratch directory, the busybox tarball, and how often to measure."""

    def __init__(self, scratch: str, runs: int, pause_seconds: float) -> None:
        self.scratch = scratch
        self.runs = runs
        self.pause_seconds = pause_seconds
        self.tarball = busybox_tarball(scratch)

    def directory(self, name: str) -> str:
        """A new directory; `name` is the beginning of its name."""
        return tempfile.mkdtemp(prefix=f"{name}.", dir=self.scratch)

    @contextmanager
    def using(self, kind: type[Peer]) -> Iterator[Peer]:
        """A peer that is started now and stopped at the end of the block, with its files removed."""
        peer = kind(self.directory(kind.__name__.lower()))
        peer.start()
        try:
            yield peer
        finally:
            peer.stop()
            shutil.rmtree(peer.directory)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="tests/bench/run.py", description="minicontainer's speed beside its peers'")
    result.add_argument("--only", action="append", choices=list(GROUPS), help="measure this alone (repeatable)")
    result.add_argument("--runs", type=int, default=15, help="runs of each contestant (default 15)")
    result.add_argument("--pause", type=float, default=0.25, metavar="SECONDS", help="before each run (default 0.25)")
    result.add_argument("--json", metavar="FILE", help="write the figures there as well")
    return result


def main() -> int:
    options = parser().parse_args()
    if os.geteuid() != 0:
        raise BenchError("containers are started as root here: sudo")
    if not os.path.exists(INSTALLED):
        raise BenchError(f"{INSTALLED} is not there: make bench")
    rows, failures = [], []
    where = machine()
    # /var/tmp, because /tmp may be a tmpfs: data roots lie on a disk.
    with tempfile.TemporaryDirectory(prefix="minicontainer-bench.", dir="/var/tmp") as scratch:
        bench = Bench(scratch, options.runs, options.pause)
        for name in options.only or (name for name in GROUPS if name != "oci-v2" or os.path.exists(UNIFIED)):
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                rows += GROUPS[name](bench)
            except (BenchError, CommandFailed) as error:
                failures.append(name)
                print(f"{name} could not be measured: {error}", file=sys.stderr)
    print(f"{where}\nmedians of {options.runs} runs in turn, {options.pause} s pause before each\n")
    print(markdown(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": where, "runs": options.runs, "rows": [row.as_json() for row in rows]}, file, indent=1)
    if failures:
        return 2
    return int(any(row.met == "NO" for row in rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
