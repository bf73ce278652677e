"""CPU of one scrape of 100 idle containers: a real exporter over HTTP, real cgroups with a sleeper each, real files of the engine.

Prints one JSON line: "name", "containers", "scrapes", "cpu_seconds" (median), "worst_s", "first_s", "wall_s" (median), "series",
"bytes". A pause before each scrape lets caches go as cold as they do between Prometheus' scrapes.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from minicontainer.cgroup.group import Cgroup
from minicontainer.cgroup.hierarchy import Hierarchy, detect
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE
from minicontainer.runtime.processes import start_time
from minicontainer.stub.program import Program

CONTAINERS = int(os.environ.get("SCRAPE_CONTAINERS", "100"))
SCRAPES = 20
PAUSE_SECONDS = 0.25
PARENT = f"minicontainer-bench-{os.getpid()}"
LIMITS = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 100}}
EXPORTER = """
import sys
from minicontainer.engine.config import Config
from minicontainer.metrics.engine_source import EngineSource
from minicontainer.metrics.exporter import Exporter
from minicontainer.metrics.server import serve
config = Config(sys.argv[1], sys.argv[2])
serve("127.0.0.1:0", Exporter(EngineSource(config), data_root=config.root), ready=lambda url: print(url, flush=True))
"""


def sleeper(hierarchy: Hierarchy, group: Cgroup) -> int:
    """A process in the group, in a network namespace of its own; its pid."""
    assert spawn.run_here(Program(group.create_ops(LIMITS), {}).code) < 0
    entering = Program(group.enter_ops(), {}).code
    pid = os.fork()
    if not pid:
        spawn.run_here(entering)
        if group.unified_dir():
            with open(f"{group.unified_dir()}/cgroup.procs", "w", encoding="ascii") as f:
                f.write("0")
        calls.unshare(CLONE["CLONE_NEWNET"])
        os.execvp("sleep", ["sleep", "10000"])
    return pid


def container_files(root: str, state: str, ident: str, number: int, pid: int) -> None:
    """What the engine would have written of it."""
    folder, life = f"{root}/containers/{ident}", f"{state}/containers/{ident}"
    os.makedirs(f"{folder}/upper/etc")
    os.makedirs(life)
    record = {
        "id": ident,
        "name": f"idle-{number}",
        "created_ns": time.time_ns(),
        "image": "example-service:latest",
        "image_id": "",
        "options": {"cgroup_parent": PARENT, "network": "bridge", "labels": {}},
        "image_config": {},
        "rootfs": "",
        "layers": [],
        "argv": [],
    }
    running = {"status": "running", "pid": pid, "pid_start": start_time(pid), "started_ns": time.time_ns()}
    for path, content in ((f"{folder}/container.json", record), (f"{life}/state.json", running)):
        with open(path, "w", encoding="utf-8") as f:
            json.dump(content, f)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def measure(root: str, state: str) -> dict[str, object]:
    exporter = subprocess.Popen(
        [sys.executable, "-c", EXPORTER, root, state],
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))),
    )
    try:
        assert exporter.stdout is not None
        address = exporter.stdout.readline().split("/")[2]
        connection = http.client.HTTPConnection(address, timeout=30)
        cpu, wall, body = [], [], b""
        for _ in range(SCRAPES + 1):
            time.sleep(PAUSE_SECONDS)
            begin, used = time.monotonic(), cpu_seconds(exporter.pid)
            connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            body = connection.getresponse().read()
            wall.append(time.monotonic() - begin)
            cpu.append(cpu_seconds(exporter.pid) - used)
        connection.close()
        seen = body.count(b"container_cpu_usage_seconds_total{") - 1
        assert seen == CONTAINERS, f"the page has {seen} of {CONTAINERS} containers"
        return {
            "name": f"scrape of {CONTAINERS} idle containers, CPU",
            "containers": CONTAINERS,
            "scrapes": SCRAPES,
            "cpu_seconds": round(statistics.median(cpu[1:]), 6),
            "worst_s": round(max(cpu[1:]), 6),
            "first_s": round(cpu[0], 6),
            "wall_s": round(statistics.median(wall[1:]), 6),
            "series": sum(not line.startswith(b"#") for line in body.splitlines()),
            "bytes": len(body),
        }
    finally:
        exporter.send_signal(signal.SIGTERM)
        assert exporter.wait(timeout=10) == 0, "the exporter did not end well"
        exporter.stdout.close()  # type: ignore[union-attr]


def main() -> None:
    hierarchy = detect()
    whole = Cgroup(hierarchy, f"/{PARENT}")
    pids = []
    with tempfile.TemporaryDirectory(prefix="minicontainer-bench.") as scratch:
        try:
            for number in range(CONTAINERS):
                ident = f"{number:064x}"
                pids.append(sleeper(hierarchy, Cgroup(hierarchy, f"/{PARENT}/{ident}")))
                container_files(f"{scratch}/root", f"{scratch}/state", ident, number, pids[-1])
            print(json.dumps(measure(f"{scratch}/root", f"{scratch}/state")))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            whole.remove(timeout_seconds=10)


if __name__ == "__main__":
    main()
