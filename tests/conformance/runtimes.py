"""The runtimes that are compared, each as a script that the suites call: with a root of its own, so that the host's own
containers are neither seen nor touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

UNIFIED = "/sys/fs/cgroup/unified"

# crun's suite passes two flags of crun's own, with what is the default anyway
_WITHOUT_CRUNS_FLAGS = """\
left=$#
while [ $left -gt 0 ]; do
    word=$1; shift; left=$((left - 1))
    case $word in
    --cgroup-manager | --config) shift; left=$((left - 1)) ;;
    *) set -- "$@" "$word" ;;
    esac
done
"""


@dataclass(frozen=True)
class Runtime:
    """name: in the table; command: its path; script: the path of the script that calls it with its own root."""

    name: str
    command: str
    script: str

    @classmethod
    def make(cls, name: str, scratch: str) -> Runtime:
        """The runtime called runc, crun or ours, or the one at a path, with its script in scratch."""
        command = f"{os.path.dirname(sys.executable)}/minicontainer-oci" if name == "ours" else shutil.which(name)
        if not command or not os.path.exists(command):
            raise FileNotFoundError(f"{name}: no such runtime")
        name = os.path.basename(name)
        os.makedirs(f"{scratch}/state/{name}", exist_ok=True)
        script = f"{scratch}/{name}"
        with open(script, "w") as f:
            f.write("#!/bin/sh\n")
            if name == "runc":
                f.write(_WITHOUT_CRUNS_FLAGS)
            f.write(f'exec {command} --root {scratch}/state/{name} "$@"\n')
        os.chmod(script, 0o755)
        return cls(name, command, script)

    def prefix(self) -> list[str]:
        """What a program is started by: mounts it leaves behind go with it. crun takes no hybrid host: it sees pure v1."""
        take_away = f"umount {UNIFIED}; " if self.name == "crun" and os.path.ismount(UNIFIED) else ""
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{take_away}exec "$@"', "sh"]

    def delete_all(self) -> list[str]:
        """Deletes the containers that a program left in the script's root; their ids."""
        listed = subprocess.run([self.script, "list", "-q"], capture_output=True, text=True, timeout=60)
        for ident in listed.stdout.split():
            subprocess.run([self.script, "delete", "--force", ident], capture_output=True, timeout=60)
        return listed.stdout.split()
