"""Import of a rootfs tarball of 10,000 files and 100 MB: `minicontainer import` beside `docker import`.

    .venv/bin/python tests/bench/bench_import.py [RUNS]

Both are timed as a user runs them, in turn, on the same plain tarball, with a data root of their own on disk. Before
each run what the one before has written is brought to disk: minicontainer's import ends with syncfs(2), docker's does
not, and neither must pay for the other. The tarball changes a little from round to round, or the second import would
find its layer there already. No image is removed in between: on an ext4 without journal the kernel looks long for
inodes that were not deleted lately. Prints one JSON line with the medians.
"""

from __future__ import annotations

import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from tests.clients.dockerd import Dockerd, missing
from tests.clients.ours import PROGRAM

FILES = 10_000
TOTAL_BYTES = 100 << 20
FILES_IN_DIRECTORY = 40
RUNS = 7


def rootfs_tarball(path: str) -> None:
    """Files of log-normal sizes, a third of them text, in directories of 40; the same on every machine."""
    chance = random.Random(7)
    shares = [chance.lognormvariate(0, 1.3) for _ in range(FILES)]
    sizes = [int(share * TOTAL_BYTES / sum(shares)) for share in shares]
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(4000)]
    text = b" ".join(chance.choices(words, k=400_000))
    noise = chance.randbytes(4 << 20)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number, size in enumerate(sizes):
            if number % FILES_IN_DIRECTORY == 0:
                directory = tarfile.TarInfo(f"./usr/share/{number // 1000:02}/{number // FILES_IN_DIRECTORY:03}")
                directory.type = tarfile.DIRTYPE
                directory.mode = 0o755
                archive.addfile(directory)
            source = noise if number % 3 else text
            content = b""
            while len(content) < size:
                at = chance.randrange(len(source) - 1000)
                content += source[at : at + size - len(content)]
            member = tarfile.TarInfo(f"{directory.name}/file-{number}.dat")
            member.size = size
            member.mtime = 1_700_000_000 + number
            archive.addfile(member, io.BytesIO(content))


def make_different(tarball: str, number: int) -> None:
    """Overwrite a few bytes of the first file's content."""
    with tarfile.open(tarball) as archive:
        first = next(member for member in archive if member.size > 100)
    with open(tarball, "r+b") as file:
        file.seek(first.offset_data)
        file.write(f"{number:08}".encode())


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of a command that must succeed."""
    os.sync()
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(runs: int) -> dict[str, object]:
    """The medians of `runs` imports each, taken in turn."""
    with tempfile.TemporaryDirectory(prefix="minicontainer-bench-import.", dir="/var/tmp") as scratch:
        tarball = f"{scratch}/rootfs.tar"
        rootfs_tarball(tarball)
        os.mkdir(f"{scratch}/docker")
        docker = Dockerd(f"{scratch}/docker", arguments=("--bridge=none", "--iptables=false", "--ip6tables=false"))
        ours = [PROGRAM, "--root", f"{scratch}/ours", "--state", f"{scratch}/state"]
        docker.start()
        try:
            contestants = {"ours": (ours, dict(os.environ)), "docker": (docker.command(), docker.environment())}
            seconds: dict[str, list[float]] = {name: [] for name in contestants}
            for number in range(runs):
                make_different(tarball, number)
                for name, (command, environment) in contestants.items():
                    seconds[name].append(timed([*command, "import", tarball, f"bench{number}"], environment))
        finally:
            docker.stop()
    ours_seconds, docker_seconds = (statistics.median(seconds[name]) for name in ("ours", "docker"))
    return {
        "name": f"import of {FILES} files, {TOTAL_BYTES >> 20} MiB",
        "ours_seconds": round(ours_seconds, 3),
        "docker_seconds": round(docker_seconds, 3),
        "ratio": round(ours_seconds / docker_seconds, 3),
        "runs": runs,
    }


if __name__ == "__main__":
    if missing() or not os.path.exists(PROGRAM):
        sys.exit(missing() or f"{PROGRAM} is not there: make ext")
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)))
