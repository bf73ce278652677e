"""How long a container takes to start and end, beside runc, crun and docker; and whether a big image costs more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measure import Contestant, interleaved
from peers import FILES_IMAGE, IMAGE, PORT, Bundle, Docker, Minicontainer, tarball_of_files
from table import Row, milliseconds

if TYPE_CHECKING:
    from run import Bench

NO_NETWORK = ("--network", "none")
FEW_FILES, MANY_FILES = 10, 10_000


def start(bench: Bench) -> list[Row]:
    """Without network: against runc (wall, CPU), with crun beside it, and against docker (wall)."""
    with bench.using(Minicontainer) as ours, bench.using(Docker) as docker:
        ours.import_rootfs(bench.tarball, IMAGE)
        docker.import_rootfs(bench.tarball, IMAGE)
        bundle = Bundle(bench.directory("bundle"), bench.tarball)
        us, runc, crun = ours.contestant(*NO_NETWORK), bundle.runc(), bundle.crun()
        dockers = docker.contestant(*NO_NETWORK)
        interleaved([us, runc, crun, dockers], bench.runs, bench.pause_seconds)
        bundle.close()
    below_crun = us.wall_seconds < crun.wall_seconds
    return [
        wall_row("run --network none / runc run", us, runc, must=1.1, aim=0.8, beside=crun, also=below_crun),
        Row(
            "the same: CPU",
            ours=milliseconds(us.cpu_seconds),
            peer=f"{milliseconds(runc.cpu_seconds)} (crun {milliseconds(crun.cpu_seconds)})",
            value=us.cpu_seconds / runc.cpu_seconds,
            must=1.3,
            aim=1.0,
        ),
        wall_row("run --network none / docker run", us, dockers, must=0.2, aim=0.12),
    ]


def bridge(bench: Bench) -> list[Row]:
    """On the bridge with one published port: against docker (wall)."""
    with bench.using(Minicontainer) as ours, bench.using(Docker) as docker:
        ours.import_rootfs(bench.tarball, IMAGE)
        docker.import_rootfs(bench.tarball, IMAGE)
        us, dockers = ours.contestant("-p", PORT), docker.contestant("-p", PORT)
        interleaved([us, dockers], bench.runs, bench.pause_seconds)
    return [wall_row("run on the bridge, one port / docker run", us, dockers, must=0.3, aim=0.12)]


def files(bench: Bench) -> list[Row]:
    """An image of 10,000 files against one of 10 (wall)."""
    with bench.using(Minicontainer) as ours:
        contestants = []
        for number in (MANY_FILES, FEW_FILES):
            tarball, image = f"{ours.directory}/{number}.tar", FILES_IMAGE.format(files=number)
            tarball_of_files(bench.tarball, number, tarball)
            ours.import_rootfs(tarball, image)
            contestants.append(ours.contestant(*NO_NETWORK, image=image, name=image))
        interleaved(contestants, bench.runs, bench.pause_seconds)
    many, few = contestants
    return [wall_row("image of 10,000 files / of 10", many, few, must=1.1, aim=1.0)]


def wall_row(
    what: str,
    us: Contestant,
    peer: Contestant,
    *,
    must: float,
    aim: float,
    beside: Contestant | None = None,
    also: bool = True,
) -> Row:
    """Wall times against a peer; `beside` is shown with it."""
    shown = milliseconds(peer.wall_seconds)
    if beside is not None:
        shown += f" ({beside.name} {milliseconds(beside.wall_seconds)})"
    return Row(
        what,
        ours=milliseconds(us.wall_seconds),
        peer=shown,
        value=us.wall_seconds / peer.wall_seconds,
        must=must,
        aim=aim,
        also=also,
    )
