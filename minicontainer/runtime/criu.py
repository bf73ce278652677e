"""The program criu(8): whether it is there, running it, and what it says when it fails."""

from __future__ import annotations

import os
import subprocess
from shutil import which

from minicontainer.errors import MinicontainerError, Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OLDEST = (3, 11)  # external network namespaces
CGROUP_MODES = ("soft", "full", "strict", "ignore")
_CONFIG = "/etc/criu/runc.conf"
_EXTERNAL = {"network": "extRootNetNS", "pid": "extRootPidNS"}


class Images:
    """Where a checkpoint lies, and what of criu's options dump and restore share.

    images: the folder of the image files; work: that of the log (images by default); options: criu's own, by whoever calls;
    cgroups: one of CGROUP_MODES or ""; criu: the program.
    """

    def __init__(self, criu: str, images: str, *, work: str = "", cgroups: str = "", options: Iterable[str] = ()) -> None:
        if cgroups and cgroups not in CGROUP_MODES:
            raise UsageError("invalid manage-cgroups-mode value", f"one of {', '.join(CGROUP_MODES)}")
        self.criu = _program(criu)
        self.images = os.path.abspath(images)
        self.work = os.path.abspath(work) if work else self.images
        self.cgroups = cgroups or "soft"
        self.options = list(options)

    def command(self, verb: str, spec: dict, *words: str) -> list[str]:
        """A command line of criu's. The annotation org.criu.config names a file of more options, as with runc."""
        config = (spec.get("annotations") or {}).get("org.criu.config", _CONFIG)
        return [
            *(self.criu, verb, "--images-dir", self.images, "--work-dir", self.work, "--log-file", f"{verb}.log", "-v4"),
            *(("--config", config) if config and os.path.exists(config) else ()),
            # Its interfaces and addresses are not ours to manage: whoever made the network namespace does it.
            *(f"--manage-cgroups={self.cgroups}", "--empty-ns", "net"),
            *self.options,
            *words,
        ]

    def failure(self, verb: str, status: int) -> MinicontainerError:
        """The error for a criu that ended with this wait status, with the first of its log's reasons that it gave up for."""
        log = f"{self.work}/{verb}.log"
        try:
            with open(log, errors="replace") as f:
                lines = [line.partition("Error ")[2].strip() for line in f if "Error (" in line]
        except OSError as e:
            lines = [f"no log: {e.strerror}"]
        # criu goes on after this one: what a machine without CAP_SYS_RESOURCE always has.
        reasons = [line for line in lines if "RLIMIT_NOFILE for self" not in line]
        code = os.waitstatus_to_exitcode(status)
        return MinicontainerError(f"criu failed: {verb} status {code}: {'; '.join(reasons[:2]) or 'no reason'}", f"log file: {log}")


def _program(name: str) -> str:
    """The path of criu. Unsupported if it is not there, too old, or no criu."""
    path = which(name)
    if not path:
        raise Unsupported(f'CRIU version check failed: exec: "{name}": executable file not found in $PATH')
    said = subprocess.run([path, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout
    words = said.split()
    numbers = words[1].split(".") if len(words) > 1 and words[0] == "Version:" else []
    version = tuple(int(number) for number in numbers if number.isdecimal())
    if version < _OLDEST:
        found = words[1] if len(words) > 1 else "no version"
        raise Unsupported(f"CRIU version check failed: {path} says {found}", f"{'.'.join(map(str, _OLDEST))} or newer is needed")
    return path


def joined(spec: dict) -> dict[str, str]:
    """Paths of the namespaces that the container shares with others, by type."""
    return {n["type"]: n["path"] for n in (spec.get("linux") or {}).get("namespaces") or () if n.get("path")}


def external(kind: str) -> str:
    """What criu calls such a namespace that exists outside; "" for a type that it can only join."""
    return _EXTERNAL.get(kind, "")


def check_terminal(spec: dict) -> None:
    """Unsupported for a container with a terminal: criu's command line hands no master over (its RPC does)."""
    if (spec.get("process") or {}).get("terminal"):
        raise Unsupported("a container with a terminal can't be checkpointed or restored", "set process.terminal to false")
