"""checkpoint: the processes of a container, as files of criu's, from which restore.py makes them again."""

from __future__ import annotations

import os
import subprocess

from minicontainer import fastjson
from minicontainer.errors import Conflict, UsageError
from minicontainer.runtime.criu import Images, check_terminal, external, joined
from minicontainer.runtime.ending import destroy
from minicontainer.runtime.rootfs import clean
from minicontainer.runtime.state import OciContainer, silently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroup.group import Cgroup

STREAMS = "descriptors.json"  # runc's name: the first process's standard streams, as criu calls them


def checkpoint(
    container: OciContainer,
    images: Images,
    *,
    parent: str = "",
    pre_dump: bool = False,
    leave_running: bool = False,
    status_fd: int = -1,
    warn: Callable[[str], None] = silently,
) -> None:
    """Saves a container. It is gone then, unless it is left running or this is a dump before the real one.

    parent: the images of the dump before, relative to ours; pre_dump: memory only; status_fd: where criu writes \\0 when the server
    of lazy pages is ready. Conflict for one that has no processes to save; Unsupported; MinicontainerError with criu's reason.
    """
    status = container.status()
    if status not in ("running", "paused"):
        raise Conflict(f"Container cannot be checkpointed in {status} state")
    spec = container.spec()
    check_terminal(spec)
    pid = container.state["pid"]
    os.makedirs(images.images, 0o700, exist_ok=True)
    os.makedirs(images.work, 0o700, exist_ok=True)
    words = ["--tree", str(pid), "--root", container.state["rootfs"], *_parent(images, parent)]
    if freezers := container.state["freezers"]:
        words += ["--freeze-cgroup", os.path.dirname(freezers[-1])]
    words += _namespaces(spec)
    if pre_dump:
        verb = "pre-dump"
        words.append("--track-mem")
    else:
        verb = "dump"
        words += _mounts(spec, pid, container.cgroup())
        if leave_running:
            words.append("--leave-running")
        streams = _streams(pid)
        for key in streams:
            if key.startswith("file["):
                words += ["--external", key]
        with open(f"{images.images}/{STREAMS}", "w") as f:
            f.write(fastjson.dumps(streams))
    passed = ()
    if status_fd >= 0:
        words += ["--status-fd", str(status_fd)]
        passed = (status_fd,)  # type: ignore[assignment]
    # On a hybrid host both trees hold a paused container back, and criu lets go of one; it stays held by that (v1).
    twice = container.state["freezers"][:-1] if status == "paused" else []
    _write(twice, "0")
    try:
        done = subprocess.run(
            images.command(verb, spec, *words), stdin=subprocess.DEVNULL, stdout=2, check=False, pass_fds=passed
        ).returncode
    finally:
        _write([path for path in twice if os.path.exists(path)], "1")
    if done:
        raise images.failure(verb, done << 8 if done > 0 else -done)
    if not (leave_running or pre_dump):
        destroy(container, warn)


def _write(paths: list[str], text: str) -> None:
    for path in paths:
        with open(path, "w") as f:
            f.write(text)


def _streams(pid: int) -> list[str]:
    """Its standard streams: pipe:[inode], file[mount:inode] for one of the host's, else its name in the container."""
    with open(f"/proc/{pid}/mountinfo") as f:
        own = {int(line.split()[0]) for line in f}
    out = []
    for fd in range(3):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:  # it has closed it
            out.append("")
            continue
        with open(f"/proc/{pid}/fdinfo/{fd}") as f:
            mount = next(int(line[7:]) for line in f if line.startswith("mnt_id:"))
        host = name.startswith("/") and mount not in own
        out.append(f"file[{mount:x}:{os.stat(f'/proc/{pid}/fd/{fd}').st_ino:x}]" if host else name)
    return out


def _parent(images: Images, parent: str) -> list[str]:
    if not parent:
        return []
    if os.path.isabs(parent):
        raise UsageError("--parent-path must be relative", "to --image-path")
    if not os.path.isdir(f"{images.images}/{parent}"):
        raise UsageError(f"invalid --parent-path: {images.images}/{parent} is no folder")
    return ["--prev-images-dir", parent, "--track-mem"]


def _namespaces(spec: dict) -> list[str]:
    """criu leaves alone what exists outside: the network and pid namespaces that the container shares."""
    words = []
    for kind, path in joined(spec).items():
        if key := external(kind):
            words += ["--external", f"{'net' if kind == 'network' else kind}[{os.stat(path).st_ino}]:{key}"]
    return words


def _mounts(spec: dict, pid: int, cgroup: Cgroup) -> list[str]:
    """What comes from outside by its place, and the files that hide others; restore says what they are then."""
    words = []
    for place in outside(spec, "", cgroup):
        words += ["--external", f"mnt[{place}]:{place}"]
    for path in (spec.get("linux") or {}).get("maskedPaths") or ():
        if os.path.exists(f"/proc/{pid}/root{path}") and not os.path.isdir(f"/proc/{pid}/root{path}"):
            words += ["--external", f"mnt[{path}]:/dev/null"]
    return words


def outside(spec: dict, bundle: str, cgroup: Cgroup) -> dict[str, str]:
    """The mounts whose files are the host's, by place, and where those are: binds, and cgroups without a namespace of their own."""
    private = any(n["type"] == "cgroup" for n in (spec.get("linux") or {}).get("namespaces") or ())
    out = {}
    for m in spec.get("mounts") or ():
        place = f"/{clean(m['destination'])}"
        if m.get("type") == "bind" or {"bind", "rbind"} & set(m.get("options") or ()):
            out[place] = os.path.join(bundle, m["source"])
        elif m.get("type") in ("cgroup", "cgroup2") and not private:
            out.update({f"{place}/{tree.name}".rstrip("/"): tree.path for tree in cgroup.mounts()})
    return out
