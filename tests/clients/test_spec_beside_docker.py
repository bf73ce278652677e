"""The spec for docker's flags is the one that a real dockerd writes, but for differences that are named here.

dockerd runs on directories of its own, with a runtime that keeps config.json and then refuses: nothing is started.
The daemon here may be old (Debian 12: 20.10), so the list says where docker itself has changed since.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from stat import S_IFCHR

import pytest

from minicontainer.cli import flags, run_flags
from minicontainer.engine import options, options_check, spec_mounts, spec_security
from minicontainer.engine.host import Host
from minicontainer.engine.spec import SpecContainer, make_spec

IMAGE = "minicontainer-spec-test"
IMAGE_CONFIG = {
    "Env": ["PATH=/image/bin:/bin", "COLOUR=red", "SHAPE=round"],
    "Entrypoint": ["/entry", "point"],
    "Cmd": ["default", "args"],
    "WorkingDir": "/srv",
    "Volumes": {"/data": {}},
}
# Kept by the fake runtime instead of a start.
CAPTURE = """#!/bin/sh
[ "$1" = --version ] && echo "capture version 1" && exit
for word; do
    [ "$previous" = --bundle ] && cp "$word/config.json" "{kept}"
    previous=$word
done
exit 1
"""


def _image_tar() -> bytes:
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        "etc/group": "root:x:0:\nalice:x:1000:\naudio:x:29:alice\n",
    }
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope="module")
def dockers_spec() -> Iterator[Callable[..., dict]]:
    """A function: the config.json that docker writes for the arguments of `docker run`."""
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    if not shutil.which("dockerd") or not shutil.which("docker"):
        pytest.skip("docker is not installed")
    home = tempfile.mkdtemp(prefix="mc-spec-", dir="/var/tmp")  # a socket's path is short; /tmp may be a tmpfs
    socket, kept, runtime = f"{home}/d.sock", f"{home}/config.json", f"{home}/capture"
    with open(runtime, "w") as file:
        file.write(CAPTURE.format(kept=kept))
    os.chmod(runtime, 0o755)
    with open(f"{home}/daemon.json", "w") as file:
        json.dump({"runtimes": {"capture": {"path": runtime}}}, file)
    log = open(f"{home}/log", "wb")
    daemon = subprocess.Popen(
        [
            *("dockerd", "--config-file", f"{home}/daemon.json", "--data-root", f"{home}/data"),
            *("--exec-root", f"{home}/exec", "-H", f"unix://{socket}", "-p", f"{home}/pid"),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
        ],
        stdout=log,
        stderr=log,
    )

    def docker(*args: str, **keywords: object) -> subprocess.CompletedProcess:
        command = ["docker", "-H", f"unix://{socket}", *args]
        return subprocess.run(command, capture_output=True, timeout=60, **keywords)  # type: ignore[call-overload]

    def spec_of(*args: str) -> dict:
        if os.path.exists(kept):
            os.unlink(kept)
        ran = docker("run", "-d", "--runtime", "capture", *args)
        assert os.path.exists(kept), ran.stderr.decode()
        with open(kept) as file:
            return json.load(file)

    try:
        deadline = time.monotonic() + 60
        while docker("version").returncode:
            assert daemon.poll() is None and time.monotonic() < deadline, "dockerd did not come up"
            time.sleep(0.2)
        changes = (
            *("-c", "ENV PATH=/image/bin:/bin COLOUR=red SHAPE=round", "-c", 'ENTRYPOINT ["/entry", "point"]'),
            *("-c", 'CMD ["default", "args"]', "-c", "WORKDIR /srv", "-c", "VOLUME /data"),
        )
        docker("import", *changes, "-", IMAGE, input=_image_tar(), check=True)
        yield spec_of
    finally:
        daemon.terminate()
        daemon.wait(30)
        log.close()
        for mount in _mounts_below(home):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(home)


def _mounts_below(path: str) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file]
    return sorted((point for point in points if point.startswith(path)), reverse=True)


def our_spec(docker: dict, *args: str) -> dict:
    """make_spec for the same arguments, with docker's id, directories and user."""
    values, rest = flags.parse(run_flags.RUN_FLAGS, args, False, "minicontainer run")
    asked = options.from_flags(values, rest)
    options_check.check(asked)
    asked.seccomp = "unconfined"  # the profile is compared by tests of its own
    host = Host()
    files = {mount["destination"]: mount["source"] for mount in docker["mounts"]}
    hosts = files["/etc/hosts"]
    user = docker["process"]["user"]
    container = SpecContainer(
        docker["linux"]["cgroupsPath"].rpartition("/")[2],
        rootfs=docker["root"]["path"],
        network_files=os.path.dirname(hosts),
        cgroups_path=docker["linux"]["cgroupsPath"],
        hostname=asked.hostname,
        uid=user["uid"],
        gid=user["gid"],
        groups=user["additionalGids"],
        home="/home-of-the-user",
    )
    points = spec_mounts.resolve_mounts(asked, IMAGE_CONFIG, "/volumes", host)
    return make_spec(asked, IMAGE_CONFIG, container, points, host)


def as_today(docker: dict) -> dict:
    """docker's spec without what is no part of the comparison, and with what docker has changed since 20.10."""
    linux, process = docker["linux"], docker["process"]
    docker["ociVersion"] = "1.2.0"
    # Go leaves out what is false or empty.
    process.setdefault("terminal", False)
    process.setdefault("noNewPrivileges", False)
    docker["root"].setdefault("readonly", False)
    linux.setdefault("devices", [])
    linux.setdefault("sysctl", {})
    linux.setdefault("maskedPaths", [])
    linux.setdefault("readonlyPaths", [])
    # Zeros that mean "not asked for": docker 28 leaves them out, and so do we.
    for controller, key in (("memory", "disableOOMKiller"), ("cpu", "shares"), ("blockIO", "weight")):
        limits = linux["resources"].get(controller, {})
        if not limits.get(key, True):
            del limits[key]
        if not limits:
            linux["resources"].pop(controller, None)
    # Since 23 the sets of a user other than root are in the spec too (the kernel clears them at execve), and we
    # name the two sets that stay empty.
    bounding = process["capabilities"]["bounding"]
    process["capabilities"] = spec_security.capability_sets(bounding)
    # Masked since 25 to 28: interrupts, powercap, thermal_throttle.
    if linux["maskedPaths"]:
        newer = {"/proc/interrupts", "/sys/devices/virtual/powercap", *Host().thermal_throttle_paths()}
        linux["maskedPaths"] = sorted({*linux["maskedPaths"], *newer})
    # Since 24 a domain name is a field of the spec.
    if domain := linux["sysctl"].pop("kernel.domainname", ""):
        docker["domainname"] = domain
    # Since 25 a read-only bind is read-only with all that is mounted below it, where the kernel can do it.
    for mount in docker["mounts"]:
        ours = mount["destination"].startswith("/etc/") or mount["options"][0] == "bind"
        if mount["type"] == "bind" and "ro" in mount["options"] and not ours and Host().recursive_read_only():
            mount["options"] = ["rro" if word == "ro" else word for word in mount["options"]]
    return docker


def but_for_our_ways(docker: dict) -> dict:
    """docker's spec as ours is to be: the differences that we want."""
    linux, process = docker["linux"], docker["process"]
    docker.pop("hooks", None)  # docker moves its network into the namespace by a hook
    linux.pop("seccomp", None)
    # runc would add HOME; we have the user's home at hand.
    if not any(entry.startswith("HOME=") for entry in process["env"]):
        process["env"].append("HOME=/home-of-the-user")
    # A rule that denies what the first rule has denied already.
    rules = linux["resources"]["devices"]
    rules[:] = [rule for rule in rules if rule.get("minor") != 229 or rule["allow"]]
    # The init lies on /dev, not in the image, and is not docker's.
    if process["args"][0] == "/sbin/docker-init":
        process["args"][0] = spec_mounts.INIT_PATH
    for mount in docker["mounts"]:
        if mount["destination"] == "/sbin/docker-init":
            mount.update(destination=spec_mounts.INIT_PATH, source=Host().init_path())
        if "/volumes/" in mount["source"]:
            mount["source"] = "a volume"
    return docker


def comparable(spec: dict) -> dict:
    """Without an order where none has a meaning."""
    for mount in spec["mounts"]:
        if mount["source"].startswith("/volumes/"):
            mount["source"] = "a volume"
    # Parents come before children; among the others docker's order follows Go's maps.
    spec["mounts"].sort(key=lambda mount: (mount["destination"].count("/"), mount["destination"]))
    spec["process"]["env"].sort()  # docker's client keeps -e in a Go map, so their order changes from run to run
    for name in ("maskedPaths", "readonlyPaths"):
        spec["linux"][name].sort()
    spec["linux"]["devices"].sort(key=lambda device: device["path"])
    for sets in spec["process"]["capabilities"].values():
        sets.sort()
    return spec


CASES = {
    "nothing": [],
    "terminal": ["-it"],
    "user and groups": ["-u", "alice", "--group-add", "99"],
    "environment": ["-e", "COLOUR=blue", "-e", "NEW=1", "-e", "SHAPE", "-e", "HOME=/x"],
    "workdir and names": ["-w", "/tmp", "-h", "box", "--domainname", "example.org"],
    "limits": ["-m", "64m", "--memory-reservation", "32m", "--cpus", "0.5", "--pids-limit", "10", "-c", "512"],
    "more limits": [
        *("-m", "64m", "--memory-swap", "96m", "--memory-swappiness", "10", "--cpu-quota", "20000"),
        *("--cpu-period", "50000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--oom-score-adj", "500"),
    ],
    "swap without end": ["-m", "64m", "--memory-swap", "-1"],
    "ulimits and sysctls": ["--ulimit", "nofile=100:200", "--ulimit", "core=-1", "--sysctl", "net.ipv4.ip_forward=1"],
    "capabilities": ["--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME", "--cap-drop", "CHOWN"],
    "only one capability": ["--cap-drop", "all", "--cap-add", "NET_BIND_SERVICE"],
    "read-only": ["--read-only", "--tmpfs", "/tmp:size=1m,mode=1777,exec", "--shm-size", "1m"],
    "mounts": [
        *("-v", "/usr:/mnt:ro", "-v", "/etc:/deep/er/etc", "-v", "named:/v", "-v", "/anonymous"),
        *("--mount", "type=tmpfs,dst=/q,tmpfs-size=1000000,tmpfs-mode=0700"),
        *("--mount", "type=bind,src=/usr/lib,dst=/lib2,readonly,bind-recursive=disabled"),
        *("--mount", "type=volume,src=other,dst=/data,readonly"),
    ],
    "own mounts over docker's": ["-v", "/dev:/dev", "-v", "/etc/hosts:/etc/hosts2", "--tmpfs", "/run"],
    "shared namespaces": ["--pid", "host", "--ipc", "host", "--uts", "host"],
    "no shared memory": ["--ipc", "none", "--cgroupns", "private"],
    "init": ["--init"],
    "no new privileges": ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
    "open system paths": ["--security-opt", "systempaths=unconfined"],
    "device": ["--device", "/dev/null:/dev/void:rw", "--device-cgroup-rule", "c 42:* rmw"],
    "entrypoint": ["--entrypoint", "/other"],
    "privileged": ["--privileged"],
}


@pytest.mark.parametrize("case", CASES)
def test_spec_is_dockers(dockers_spec: Callable[..., dict], case: str) -> None:
    """make_spec gives what docker writes for the same flags, but for the differences named above."""
    args = ["--network", "none", *CASES[case], IMAGE, "program", "-x"]
    docker = dockers_spec(*args)
    ours = our_spec(docker, *args)
    expected = but_for_our_ways(as_today(docker))
    if case == "privileged":
        # docker 20.10 asks for every capability the kernel knows, today's for those that it can give.
        expected["process"]["capabilities"] = spec_security.capability_sets(Host().capabilities())
    assert comparable(ours) == comparable(expected)


@pytest.mark.parametrize("args", [["--entrypoint", "/e"], ["--entrypoint", ""], []], ids=["set", "reset", "image"])
def test_command_is_dockers(dockers_spec: Callable[..., dict], args: list[str]) -> None:
    """The image's Cmd is used with the image's entrypoint alone."""
    rest = ["program"] if args and not args[1] else []
    docker = dockers_spec("--network", "none", *args, IMAGE, *rest)
    ours = our_spec(docker, "--network", "none", *args, IMAGE, *rest)
    assert ours["process"]["args"] == docker["process"]["args"]


def test_directory_of_devices_is_dockers(dockers_spec: Callable[..., dict], tmp_path: Path) -> None:
    """--device with a directory gives every device node below it."""
    (tmp_path / "below").mkdir()
    os.mknod(tmp_path / "null", 0o600 | S_IFCHR, os.makedev(1, 3))
    os.mknod(tmp_path / "below" / "zero", 0o644 | S_IFCHR, os.makedev(1, 5))
    (tmp_path / "file").write_text("no device")
    args = ["--network", "none", "--device", f"{tmp_path}:/dev/many:r", IMAGE]
    docker = dockers_spec(*args)
    ours = our_spec(docker, *args)
    assert {device["path"] for device in ours["linux"]["devices"]} == {"/dev/many/null", "/dev/many/below/zero"}
    assert comparable(ours) == comparable(but_for_our_ways(as_today(docker)))
