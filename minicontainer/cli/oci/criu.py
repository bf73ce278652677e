"""checkpoint and restore: a container saved to files, and made again from them, by criu(8)."""

from __future__ import annotations

from minicontainer.cli.oci import Call, Verb
from minicontainer.cli.oci.create import check_bundle, rootless
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.criu import Images

# Flags that criu has by the same name.
_SAME = ("tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup", "lazy-pages")
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
    Flag("no-pivot", kind="bool", help="refused: without pivot_root the host's root stays in reach"),
    Flag("lsm-profile", help="Specify an LSM profile to be used during restore in the form of TYPE:NAME."),
    Flag("lsm-mount-context", help="Specify an LSM mount context to be used during restore."),
)


def checkpoint_(call: Call) -> int:
    """checkpoint [OPTIONS] CONTAINER"""
    from minicontainer.runtime.checkpoint import checkpoint

    container = container_of(call)
    values = call.values
    if not values["pre-dump"] and values["leave-running"] and values["lazy-pages"]:
        raise UsageError("--leave-running and --lazy-pages exclude each other: the pages are taken from where they are")
    more = []
    if server := values["page-server"]:
        address, _, port = server.rpartition(":")
        if not address or not port.isdecimal():
            raise UsageError("Use --page-server ADDRESS:PORT to specify page server")
        more = ["--page-server", "--address", address.strip("[]"), "--port", port]
    checkpoint(
        container,
        _images(call, more),
        parent=values["parent-path"],
        pre_dump=values["pre-dump"],
        leave_running=values["leave-running"],
        status_fd=values["status-fd"],
        warn=call.log.warn,
    )
    return 0


def restore_(call: Call) -> int:
    """restore [OPTIONS] CONTAINER"""
    from minicontainer.cli.oci.foreground import become_subreaper, hold_signals, stand_by
    from minicontainer.runtime.ending import delete
    from minicontainer.runtime.restore import restore

    values = call.values
    check_bundle(call)
    if values["console-socket"]:
        raise UsageError("cannot use console socket: a container with a terminal can't be restored")
    more = [word for flag in ("lsm-profile", "lsm-mount-context") if values[flag] for word in (f"--{flag}", values[flag])]
    if not values["detach"] and not values["no-subreaper"]:
        become_subreaper()
    if not values["detach"]:
        hold_signals()
    container = restore(
        call.root,
        call.args[0],
        values["bundle"] or ".",
        _images(call, more),
        pid_file=values["pid-file"],
        systemd=call.options["systemd-cgroup"] or call.options["cgroup-manager"] == "systemd",
        rootless=rootless(call.options["rootless"]),
        warn=call.log.warn,
    )
    if values["detach"]:
        return 0
    assert container.launch
    code = stand_by(container.launch)
    delete(container, force=True, warn=call.log.warn)
    return code


def _images(call: Call, more: list[str]) -> Images:
    """Where the checkpoint is, and the options that mean the same to criu."""
    from minicontainer.runtime.criu import Images

    values = call.values
    for kind in values["empty-ns"]:
        if kind != "network":  # which always is so
            raise UsageError(f"namespace {kind} is not supported", "--empty-ns network")
    options = [f"--{flag}" for flag in _SAME if values[flag]]
    return Images(
        call.options["criu"],
        values["image-path"] or "checkpoint",
        work=values["work-path"],
        cgroups=values["manage-cgroups-mode"],
        options=options + more,
    )


VERBS = {"checkpoint": Verb(checkpoint_, _CHECKPOINT), "restore": Verb(restore_, _RESTORE)}
