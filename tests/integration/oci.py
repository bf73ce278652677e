"""minicontainer-oci for the integration tests: a bundle, a root and a cgroup of a test's own, and a look at what is left."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.clients.daemon import cgroups_named, remove_cgroup
from tests.integration.engine import PATIENCE, Done

PROGRAM = f"{os.path.dirname(sys.executable)}/minicontainer-oci"

CONFIG: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "hostname": "oci",
    "process": {
        "args": ["true"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {
            s: [f"CAP_{name}" for name in "CHOWN DAC_OVERRIDE FOWNER KILL MKNOD SETGID SETUID SETPCAP SYS_CHROOT".split()]
            for s in ("bounding", "effective", "permitted")
        },
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts", "cgroup")],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
    },
}
"""A config.json that is safe, small and complete: what engines write, without seccomp."""

# Mounts elsewhere come and go with the folders of other programs.
_FENCE = r"""
system() { awk '$5 ~ "^/((proc|sys|dev|etc|usr|bin|lib|root)(/.*)?)?$"' /proc/self/mountinfo; }
before=$(system); "$@"; code=$?
[ "$before" = "$(system)" ] || echo the mounts of the host are changed >&2
exit $code
"""


class Oci:
    """The command on a folder of its own. config: what write() makes config.json from."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.root = folder / "state"
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.rootfs = rootfs.rename(self.bundle / "rootfs")
        self.cgroup = f"mc-oci-{os.getpid()}-{folder.name[-12:]}"
        self.config = copy.deepcopy(CONFIG)
        self.config["linux"]["cgroupsPath"] = f"/{self.cgroup}/one"
        self.mounts = self._mounts()

    def write(self, *args: str, **process: object) -> None:
        """config.json, for a command if one is given, with members of process changed."""
        if args:
            self.config["process"]["args"] = list(args)
        self.config["process"].update(process)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def mount(self, destination: str, source: str | Path = "tmpfs", *options: str, first: bool = False) -> None:
        """One more mount: a bind of a path, or a tmpfs."""
        bind = os.path.isabs(source)
        mount = {
            "destination": destination,
            "type": "bind" if bind else "tmpfs",
            "source": str(source),
            "options": [*(["rbind"] if bind else []), *options],
        }
        self.config["mounts"].insert(0 if first else len(self.config["mounts"]), mount)

    def command(self, *words: str) -> list[str]:
        """The command line."""
        return [PROGRAM, "--root", str(self.root), *words]

    def fenced(self, *words: str) -> Done:
        """do() in a copy of the host's mounts, so that what goes wrong harms nobody; if it changes those of the system, it says so."""
        return self.do(*words, prefix=("unshare", "--mount", "sh", "-c", _FENCE, "sh"))

    def do(self, *words: str, prefix: Sequence[str] = (), **settings: Any) -> Done:
        """One command line to its end; what a container keeps open does not hold it up, since the streams are files."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = subprocess.run(
                [*prefix, *self.command(*words)],
                cwd=self.bundle,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=PATIENCE,
                check=False,
                **settings,
            ).returncode
            out.seek(0)
            err.seek(0)
            return Done(code, out.read().decode(errors="surrogateescape"), err.read().decode(errors="surrogateescape"))

    def ok(self, *words: str, **settings: Any) -> str:
        """What a command printed that must succeed."""
        done = self.do(*words, **settings)
        assert done.code == 0, (words, done)
        return done.out

    def run(self, *args: str, **process: object) -> Done:
        """config.json for a command, and `run` of it."""
        self.write(*args, **process)
        return self.do("run", "one")

    def sh(self, script: str, **process: object) -> str:
        """What a shell script prints in a container that must end with 0."""
        done = self.run("sh", "-c", script, **process)
        assert done.code == 0, (script, done)
        return done.out

    def running(self, *args: str, **process: object) -> int:
        """A container that runs: the pid of its first process."""
        self.write(*(args or ("sleep", "600")), **process)
        self.ok("create", "one")
        self.ok("start", "one")
        return int(json.loads(self.ok("state", "one"))["pid"])

    def left(self) -> dict[str, list[str]]:
        """What there is of containers: folders of the state root, cgroups, mounts of the host, processes. Empty is clean."""
        found = {
            "state": [name for name in (os.listdir(self.root) if self.root.exists() else ()) if not name.startswith("@")],
            "cgroups": [
                f"{at}/{name}" for at in cgroups_named(self.cgroup) for name in os.listdir(at) if os.path.isdir(f"{at}/{name}")
            ],
            "mounts": sorted(set(self._mounts()) - set(self.mounts)),
            "processes": list(self._processes()),
        }
        return {kind: names for kind, names in found.items() if names}

    def clear(self) -> None:
        """Deletes every container, and the cgroup that they had theirs in."""
        for name in os.listdir(self.root) if self.root.exists() else ():
            if not name.startswith("@"):
                self.do("delete", "--force", name)

    def stop(self) -> None:
        """clear(), and the parent of the cgroups goes too."""
        self.clear()
        for path in cgroups_named(self.cgroup):
            remove_cgroup(path)

    def _mounts(self) -> list[str]:
        with open("/proc/self/mountinfo") as f:
            return [fields[4] for line in f if str(self.folder) in line for fields in [line.split()]]

    def _processes(self) -> list[str]:
        """Processes in one of its cgroups, or with its folder on their command line."""
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cgroup") as f, open(f"/proc/{pid}/cmdline", "rb") as g, open(f"/proc/{pid}/stat") as h:
                    line, gone = g.read(), h.read().rpartition(") ")[2][0] in "ZX"  # init's to wait for
                    if not gone and (self.cgroup in f.read() or os.fsencode(self.root) in line):
                        found.append(f"{pid}: {line.replace(bytes(1), b' ').decode(errors='replace')}")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
        return found
