"""The OCI face beside runc and crun on one bundle, and under docker beside docker's own runtime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench_start import wall_row
from measure import BenchError, interleaved
from peers import IMAGE, INSTALLED_OCI, UNIFIED, Bundle, Docker
from table import Row, milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measure import Contestant
    from run import Bench

NAMES = ("minicontainer-oci", "runc", "crun")
AT_ONCE = 50
FEW_RUNS = 5  # of what takes seconds


def oci(bench: Bench) -> list[Row]:
    """By steps and in one command, with the pause (wall and CPU) and back to back (CPU); many at once."""
    return _oci(bench, Bundle(bench.directory("bundle"), bench.tarball), NAMES, "OCI")


def oci_v2(bench: Bench) -> list[Row]:
    """The same on cgroup v2, where the host is hybrid: on its unified hierarchy. crun is left out there: to attach its device
    filter it raises RLIMIT_MEMLOCK, which not every host allows."""
    if not os.path.exists(UNIFIED):
        raise BenchError("this host is not hybrid: the rows of `oci` are those of its cgroups")
    return _oci(bench, Bundle(bench.directory("bundle"), bench.tarball, unified=True), NAMES[:2], "OCI on v2")


def _oci(bench: Bench, bundle: Bundle, names: Sequence[str], title: str) -> list[Row]:
    rows = []
    for what, contestants in (
        ("create + start + delete", [bundle.by_steps(name) for name in names]),
        ("run of a bundle", [bundle.running(name) for name in names]),
    ):
        us, runc = contestants[:2]
        crun = contestants[2] if len(contestants) > 2 else None
        interleaved(contestants, bench.runs, bench.pause_seconds)
        below_crun = crun is None or us.wall_seconds < crun.wall_seconds
        rows.append(wall_row(f"{title}: {what} / runc", us, runc, must=1.0, aim=1.0, beside=crun, also=below_crun))
        rows.append(cpu_row("the same: CPU", *contestants))
        for contestant in contestants:
            contestant.samples.clear()
        interleaved(contestants, bench.runs, 0)
        rows.append(cpu_row("the same back to back: CPU", *contestants))
    many = [bundle.at_once(name, AT_ONCE) for name in names]
    interleaved(many, min(bench.runs, FEW_RUNS), bench.pause_seconds)
    crun = many[2] if len(many) > 2 else None
    rows.append(wall_row(f"{title}: {AT_ONCE} at once / runc", many[0], many[1], must=1.2, aim=1.0, beside=crun))
    bundle.close()
    return rows


def cpu_row(what: str, us: Contestant, runc: Contestant, crun: Contestant | None = None) -> Row:
    return Row(
        what,
        ours=milliseconds(us.cpu_seconds),
        peer=milliseconds(runc.cpu_seconds) + (f" (crun {milliseconds(crun.cpu_seconds)})" if crun else ""),
        value=us.cpu_seconds / runc.cpu_seconds,
        must=1.2,
        aim=1.0,
    )


def under_docker(bench: Bench) -> list[Row]:
    """docker run --runtime minicontainer beside docker run with runc, by one daemon."""
    docker = Docker(bench.directory("docker"), arguments=("--add-runtime", f"minicontainer={INSTALLED_OCI}"))
    docker.start()
    try:
        docker.import_rootfs(bench.tarball, IMAGE)
        us = docker.contestant("--runtime", "minicontainer", "--network", "none", name="minicontainer")
        runc = docker.contestant("--network", "none", name="runc")
        interleaved([us, runc], bench.runs, bench.pause_seconds)
    finally:
        docker.stop()
    return [wall_row("docker run with our runtime / with runc", us, runc, must=1.0, aim=0.95)]
