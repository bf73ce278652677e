"""What a detached container needs beside its own processes: PSS of our monitor, of containerd-shim and of conmon.

PSS shares out what processes share, so several containers are started and the sum is divided by their number: the
figure is what one more container costs on a machine that has some.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from measure import BenchError
from peers import IMAGE, Bundle, Docker, Minicontainer, program
from table import Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from run import Bench

CONTAINERS = 4
SETTLE_SECONDS = 1.0
KIB_PER_MIB = 1024
SLEEP = ("sleep", "1000")


def memory(bench: Bench) -> list[Row]:
    ours, shim, conmon = of_minicontainer(bench), of_containerd_shim(bench), of_conmon(bench)
    return [
        Row(
            "memory of a detached container",
            ours=f"{ours:.2f} MiB",
            peer=f"containerd-shim {shim:.2f} MiB, conmon {conmon:.2f} MiB",
            value=ours,
            must=2.8,
            aim=0.8,
            unit="MiB",
        )
    ]


def of_minicontainer(bench: Bench) -> float:
    """Of every process that `run -d` left on the host's side. The unit is MiB."""
    with bench.using(Minicontainer) as ours:
        ours.import_rootfs(bench.tarball, IMAGE)
        before = set(all_processes())
        for _ in range(CONTAINERS):
            ours.run("run", "-d", "--network", "none", IMAGE, *SLEEP)
        return pss_mib_each(started_since(before, ours.directory))


def of_containerd_shim(bench: Bench) -> float:
    with bench.using(Docker) as docker:
        docker.import_rootfs(bench.tarball, IMAGE)
        for _ in range(CONTAINERS):
            docker.docker("run", "-d", "--network", "none", IMAGE, *SLEEP)
        return pss_mib_each(processes_of("containerd-shim", docker.directory))


def of_conmon(bench: Bench) -> float:
    """conmon as podman starts it, on a bundle of runc."""
    conmon, runc = program("conmon", "conmon"), program("runc", "runc")
    directory = bench.directory("conmon")
    bundle = Bundle(directory, bench.tarball)
    bundle.set_command(*SLEEP)
    ids = [f"bench-conmon-{os.getpid()}-{number}" for number in range(CONTAINERS)]
    try:
        for name in ids:
            start = [
                conmon,
                "--cid",
                name,
                "--cuuid",
                name,
                "--runtime",
                runc,
                "--runtime-arg",
                f"--root={directory}/state",
            ]
            start += ["--bundle", directory, "--pidfile", f"{directory}/{name}.pid", "--exit-dir", directory]
            start += [
                "--persist-dir",
                directory,
                "--socket-dir-path",
                directory,
                "--log-path",
                f"k8s-file:{directory}/{name}.log",
            ]
            subprocess.run(start, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(f"{directory}/{name}.pid" for name in ids)
        return pss_mib_each(processes_of("conmon", directory))
    finally:
        for name in ids:
            subprocess.run([runc, "--root", f"{directory}/state", "delete", "--force", name], check=False)


def pss_mib_each(pids: set[int]) -> float:
    """The PSS of these processes of CONTAINERS containers, for each of those; the median of three looks."""
    if len(pids) < CONTAINERS:
        raise BenchError(f"{CONTAINERS} detached containers, but {len(pids)} processes of their runtime are found")
    looks = []
    for _ in range(3):
        time.sleep(SETTLE_SECONDS)
        looks.append(sum(pss_kib(pid) for pid in pids) / KIB_PER_MIB / CONTAINERS)
    return statistics.median(looks)


def pss_kib(pid: int) -> int:
    """Pss of /proc/PID/smaps_rollup, in KiB (proc(5))."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def started_since(before: set[int], directory: str) -> set[int]:
    """Processes of the host's side that came after `before` and whose arguments or files lead to `directory`: other
    work on this machine starts processes too. What runs in a container is in another pid namespace."""
    own = os.readlink("/proc/self/ns/pid")
    return {
        pid
        for pid in set(all_processes()) - before
        if link(f"/proc/{pid}/ns/pid") == own
        and (directory in command_line(pid) or any(directory in path for path in open_files(pid)))
    }


def processes_of(name: str, directory: str) -> set[int]:
    """Processes of this program that have `directory` in their arguments."""
    return {
        pid
        for pid in all_processes()
        if os.path.basename(command_line(pid).split("\0")[0]).startswith(name) and directory in command_line(pid)
    }


def all_processes() -> Iterable[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def command_line(pid: int) -> str:
    """Its arguments with NULs between; empty when it has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def open_files(pid: int) -> list[str]:
    """What its descriptors and its working directory lead to."""
    try:
        links = [f"/proc/{pid}/cwd", *(f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd"))]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [link(path) for path in links]


def link(path: str) -> str:
    """Where a link of /proc leads; empty when the process has ended meanwhile, or is a kernel thread."""
    try:
        return os.readlink(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_for(paths: Iterable[str]) -> None:
    deadline = time.monotonic() + 10
    for path in paths:
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise BenchError(f"{path} does not appear")
            time.sleep(0.05)
