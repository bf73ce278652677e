"""checkpoint and restore: refused, with what is missing."""

from __future__ import annotations

from minicontainer.cli.oci import Call, Verb
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.errors import Conflict, Unsupported

_IMAGES = (
    Flag("image-path", help="path to the criu image files"),
    Flag("work-path", help="path for saving work files and logs"),
    Flag("tcp-established", kind="bool", help="allow open tcp connections"),
    Flag("ext-unix-sk", kind="bool", help="allow external unix sockets"),
    Flag("shell-job", kind="bool", help="allow shell jobs"),
    Flag("file-locks", kind="bool", help="handle file locks, for safety"),
    Flag("manage-cgroups-mode", help="cgroups mode: 'soft' (default), 'full' and 'strict'"),
    Flag("empty-ns", kind="list", help="create a namespace, but don't restore its properties"),
    Flag("auto-dedup", kind="bool", help="enable auto deduplication of memory images"),
    Flag("lazy-pages", kind="bool", help="use userfaultfd to lazily restore memory pages"),
)
_CHECKPOINT = (
    *_IMAGES,
    Flag("parent-path", help="path for previous criu image files in pre-dump"),
    Flag("leave-running", kind="bool", help="leave the process running after checkpointing"),
    Flag("status-fd", kind="int", help="criu writes \\0 to this FD once lazy-pages is ready", default=-1),
    Flag("page-server", help="ADDRESS:PORT of the page server"),
    Flag("pre-dump", kind="bool", help="dump container's memory information only, leave the container running after this"),
)
_RESTORE = (
    *_IMAGES,
    Flag("console-socket", help="path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal"),
    Flag("bundle", "b", help="path to the root of the bundle directory"),
    Flag("detach", "d", "bool", "detach from the container's process"),
    Flag("pid-file", help="specify the file to write the process id to"),
    Flag("no-subreaper", kind="bool", help="disable the use of the subreaper used to reap reparented processes"),
    Flag("no-pivot", kind="bool", help="do not use pivot root to jail process inside rootfs"),
    Flag("lsm-profile", help="Specify an LSM profile to be used during restore in the form of TYPE:NAME."),
    Flag("lsm-mount-context", help="Specify an LSM mount context to be used during restore."),
)


def checkpoint_(call: Call) -> int:
    """checkpoint [OPTIONS] CONTAINER"""
    if container_of(call).status() not in ("created", "running"):
        raise Conflict("container not running")
    return _refuse(call)


def restore_(call: Call) -> int:
    """restore [OPTIONS] CONTAINER"""
    return _refuse(call)


def _refuse(call: Call) -> int:
    from shutil import which

    from minicontainer.cli.oci.log import quoted

    criu = call.options["criu"]
    if not which(criu):
        raise Unsupported(f"CRIU version check failed: exec: {quoted(criu)}: executable file not found in $PATH")
    raise Unsupported(f"{call.verb} is not there yet", "this runtime does not drive CRIU: features says so")


VERBS = {"checkpoint": Verb(checkpoint_, _CHECKPOINT), "restore": Verb(restore_, _RESTORE)}
