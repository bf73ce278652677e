"""Limits by flags: what the kernel says of them, on cgroup v1, v2 and hybrid alike."""

from __future__ import annotations

import os

import pytest

from tests.integration.engine import IMAGE, Engine, until

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def value(engine: Engine, name: str, v1: str, v2: str) -> str:
    """A file of a running container's cgroup: "controller/file" on v1, a file name on v2."""
    with open(f"/proc/{engine.pid(name)}/cgroup") as f:
        groups = {
            controller: path
            for _, controllers, path in (line.strip().split(":", 2) for line in f)
            for controller in controllers.split(",")
        }
    if V2:
        path = f"/sys/fs/cgroup{groups['']}/{v2}"
    else:
        controller, _, file = v1.partition("/")
        path = f"/sys/fs/cgroup/{controller}{groups[controller]}/{file}"
    with open(path) as f:
        return f.read().strip()


def needs(controller: str) -> None:
    with open("/sys/fs/cgroup/cgroup.controllers" if V2 else "/proc/cgroups") as f:
        if controller not in f.read().split():
            pytest.skip(f"this host has no {controller} controller")


LIMITS: dict[str, tuple[tuple[str, ...], str, str, str, str]] = {
    # what: flags, file on v1, its content, file on v2, its content
    "memory": (("-m", "64m"), "memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    "reservation": (
        ("-m", "64m", "--memory-reservation", "32m"),
        "memory/memory.soft_limit_in_bytes",
        "33554432",
        "memory.low",
        "33554432",
    ),
    "cpus": (("--cpus", "0.5"), "cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
    "quota": (("--cpu-quota", "20000", "--cpu-period", "50000"), "cpu/cpu.cfs_period_us", "50000", "cpu.max", "20000 50000"),
    "shares": (("--cpu-shares", "512"), "cpu/cpu.shares", "512", "cpu.weight", ""),
    "pids": (("--pids-limit", "50"), "pids/pids.max", "50", "pids.max", "50"),
    "cpuset": (("--cpuset-cpus", "0"), "cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
    "mems": (("--cpuset-mems", "0"), "cpuset/cpuset.mems", "0", "cpuset.mems", "0"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_limit_is_the_kernels(engine: Engine, what: str) -> None:
    """The flag's value is what the kernel has, in docker's units."""
    flags, v1, text1, v2, text2 = LIMITS[what]
    needs("cpuset" if "cpuset" in v1 else v1.partition("/")[0])
    name = engine.detached(*flags, IMAGE, "sleep", "600")
    found = value(engine, name, v1, v2)
    if what == "shares" and V2:
        assert 1 < int(found) < 100  # a weight below the default; which one depends on the conversion of the day
    else:
        assert found == (text2 if V2 else text1)


def test_swap_is_memory_and_swap_together(engine: Engine) -> None:
    """--memory-swap counts both, as docker's does, also where the kernel counts swap alone."""
    needs("memory")
    name = engine.detached("-m", "64m", "--memory-swap", "96m", IMAGE, "sleep", "600")
    try:
        found = value(engine, name, "memory/memory.memsw.limit_in_bytes", "memory.swap.max")
    except FileNotFoundError:
        pytest.skip("this kernel does not account swap")
    assert int(found) == (32 << 20 if V2 else 96 << 20)


def test_seen_from_inside(engine: Engine) -> None:
    """A program in the container reads its own limit at the usual place."""
    needs("memory")
    path = "/sys/fs/cgroup/memory.max" if V2 else "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert engine.sh(f"cat {path}", "-m", "64m") == "67108864\n"


def test_memory_limit_holds(engine: Engine) -> None:
    """What takes more is killed, and nothing else."""
    needs("memory")
    done = engine.box("-m", "16m", "--memory-swap", "16m", IMAGE, "sh", "-c", "tail /dev/zero; echo after $?")
    assert "after 137" in done.out or done.code == 137


def test_pids_limit_holds(engine: Engine) -> None:
    """The process that is one too many can't be made."""
    needs("pids")
    done = engine.box("--pids-limit", "5", IMAGE, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait")
    assert "can't fork: Resource temporarily unavailable" in done.err


def test_cpu_limit_holds(engine: Engine) -> None:
    """Half a CPU is half of the time."""
    needs("cpu")
    used = engine.sh("timeout 2 sh -c 'while :; do :; done'; cat /proc/self/stat >/dev/null; times | tail -1", "--cpus", "0.5")
    minutes, seconds = used.split()[0].rstrip("s").split("m")
    assert 60 * float(minutes) + float(seconds) < 1.6


def test_limits_count_for_exec(engine: Engine) -> None:
    """What exec starts is under the same limits."""
    needs("memory")
    name = engine.detached("-m", "16m", "--memory-swap", "16m", IMAGE, "sleep", "600")
    assert engine.do("exec", name, "sh", "-c", "tail /dev/zero").code == 137


@pytest.mark.parametrize("words", [("stats", "--no-stream"), ("ps",), ("inspect",)])
def test_limited_containers_can_be_looked_at(engine: Engine, words: tuple[str, ...]) -> None:
    """stats shows the limit and the use; the other verbs go on working."""
    needs("memory")
    name = engine.detached("--name", "limited", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", IMAGE, "sleep", "600")
    out = engine.ok(*words, *(("limited",) if words[0] != "ps" else ()))
    assert name[:12] in out
    if words[0] == "stats":
        assert "64MiB" in out


def test_block_device_limit(engine: Engine) -> None:
    """--device-write-bps names the disk by its number."""
    needs("io" if V2 else "blkio")
    path = next((f"/dev/{d}" for d in ("vda", "sda", "nvme0n1") if os.path.exists(f"/dev/{d}")), None)
    if path is None:
        pytest.skip("this host has no disk by a usual name")
    name = engine.detached("--device-write-bps", f"{path}:1mb", IMAGE, "sleep", "600")
    number = os.stat(path).st_rdev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    found = value(engine, name, "blkio/blkio.throttle.write_bps_device", "io.max")
    assert found.startswith(wanted)
    assert "1048576" in found


def test_freed_after_the_end(engine: Engine) -> None:
    """When it has ended its groups are gone, in every hierarchy, though its record stays."""
    name = engine.detached("-m", "64m", IMAGE, "true")
    engine.ok("wait", name)

    def groups() -> list[str]:
        return [top for top, folders, _ in os.walk("/sys/fs/cgroup") if name in folders]

    until(lambda: not groups(), "the groups are removed")
