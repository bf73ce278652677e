"""The OCI face beside runc and crun on one bundle, and under docker beside docker's own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench_start import wall_row
from measure import interleaved
from peers import IMAGE, INSTALLED_OCI, Bundle, Docker
from table import Row, milliseconds

if TYPE_CHECKING:
    from measure import Contestant
    from run import Bench

NAMES = ("minicontainer-oci", "runc", "crun")
AT_ONCE = 50
FEW_RUNS = 5  # of what takes seconds


def oci(bench: Bench) -> list[Row]:
    """By steps and in one command, with the pause (wall and CPU) and back to back (CPU); many at once."""
    bundle = Bundle(bench.directory("bundle"), bench.tarball)
    rows = []
    for what, contestants in (
        ("create + start + delete", [bundle.by_steps(name) for name in NAMES]),
        ("run of a bundle", [bundle.running(name) for name in NAMES]),
    ):
        us, runc, crun = contestants
        interleaved(contestants, bench.runs, bench.pause_seconds)
        below_crun = us.wall_seconds < crun.wall_seconds
        rows.append(wall_row(f"OCI: {what} / runc", us, runc, must=1.0, aim=1.0, beside=crun, also=below_crun))
        rows.append(cpu_row("the same: CPU", us, runc, crun))
        for contestant in contestants:
            contestant.samples.clear()
        interleaved(contestants, bench.runs, 0)
        rows.append(cpu_row("the same back to back: CPU", us, runc, crun))
    us, runc, crun = many = [bundle.at_once(name, AT_ONCE) for name in NAMES]
    interleaved(many, min(bench.runs, FEW_RUNS), bench.pause_seconds)
    rows.append(wall_row(f"OCI: {AT_ONCE} at once / runc", us, runc, must=1.2, aim=1.0, beside=crun))
    bundle.close()
    return rows


def cpu_row(what: str, us: Contestant, runc: Contestant, crun: Contestant) -> Row:
    return Row(
        what,
        ours=milliseconds(us.cpu_seconds),
        peer=f"{milliseconds(runc.cpu_seconds)} (crun {milliseconds(crun.cpu_seconds)})",
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
