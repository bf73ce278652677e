"""exec: one more process in a running container, from a process.json or from flags over the container's own process."""

from __future__ import annotations

from minicontainer.cli.oci import Call, Verb, reason
from minicontainer.cli.oci.create import CONSOLE, PID_FILE, PRESERVE, connect, log_steps
from minicontainer.cli.oci.flags import Flag
from minicontainer.cli.oci.life import container_of
from minicontainer.cli.oci.log import quoted
from minicontainer.errors import UsageError
from minicontainer.runtime.execute import execute
from minicontainer.runtime.lifecycle import check_terminal, write_pid_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.cli import Values
    from minicontainer.runtime.state import OciContainer

_FLAGS = (
    CONSOLE,
    Flag("cwd", help="current working directory in the container"),
    Flag("env", "e", "list", "set environment variables"),
    Flag("tty", "t", "bool", "allocate a pseudo-TTY"),
    Flag("user", "u", help="UID (format: <uid>[:<gid>])"),
    Flag("additional-gids", "g", "ints", "additional gids"),
    Flag("process", "p", help="path to the process.json"),
    Flag("detach", "d", "bool", "detach from the container's process"),
    PID_FILE,
    Flag("process-label", help="set the asm process label for the process commonly used with selinux"),
    Flag("apparmor", help="set the apparmor profile for the process"),
    Flag("no-new-privs", kind="bool", help="set the no new privileges value for the process"),
    Flag("cap", "c", "list", "add a capability to the bounding set for the process"),
    PRESERVE,
    Flag("cgroup", kind="list", help="run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>."),
    Flag("ignore-paused", kind="bool", help="allow exec in a paused container"),
)


def exec_(call: Call) -> int:
    """exec [OPTIONS] CONTAINER COMMAND [ARG...]"""
    values = call.values
    container = container_of(call)
    process = _from_file(values["process"]) if values["process"] else _from_flags(container, values, call.args[1:])
    detach, socket = values["detach"], values["console-socket"]
    check_terminal(process, given=bool(socket), foreground=not detach)
    if not detach:
        from minicontainer.cli.oci.foreground import hold_signals

        hold_signals()
    launch = execute(
        container,
        process,
        console_socket=connect(socket),
        detach=detach,
        cgroup=values["cgroup"],
        preserve_fds=values["preserve-fds"],
        ignore_paused=values["ignore-paused"],
        warn=call.log.warn,
    )
    if call.log.debugging:
        log_steps(call, launch)
    if values["pid-file"]:
        try:
            write_pid_file(values["pid-file"], launch.pid)
        except OSError:
            launch.kill()
            raise
    if detach:
        return 0
    from minicontainer.cli.oci.foreground import stand_by

    return stand_by(launch)


def _from_file(path: str) -> dict:
    from minicontainer.runtime.bundle import read_json

    try:
        process = read_json(path)
    except OSError as e:
        raise UsageError(f"open {path}: {reason(e)}") from None
    if not isinstance(process, dict):
        raise UsageError(f"{path} is not a process object", "see process in config.md of the OCI runtime spec")
    return process


def _from_flags(container: OciContainer, values: Values, args: list[str]) -> dict:
    """The container's process as it was at create, with what the flags say otherwise."""
    if not args:
        raise UsageError("process args cannot be empty")
    process = dict(container.spec()["process"])
    process.update(args=args, terminal=values["tty"], env=[*process.get("env", ()), *values["env"]])
    for flag, field in (("cwd", "cwd"), ("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if values[flag]:
            process[field] = values[flag]
    if "no-new-privs" in values:
        process["noNewPrivileges"] = values["no-new-privs"]
    if values["cap"]:
        process["capabilities"] = _with_capabilities(process.get("capabilities") or {}, values["cap"])
    process["user"] = _user(dict(process.get("user") or {}), values)
    return process


def _with_capabilities(sets: dict, names: list[str]) -> dict:
    """runc's rule: none becomes inheritable (CVE-2022-29162), so ambient ones can come only where some are already."""
    wanted = ["bounding", "effective", "permitted", *(["ambient"] if sets.get("inheritable") else [])]
    return {**sets, **{kind: [*(sets.get(kind) or ()), *names] for kind in wanted}}


def _user(user: dict, values: Values) -> dict:
    if values["user"]:
        uid, colon, gid = values["user"].partition(":")
        if colon:
            user["gid"] = _number(gid, "gid")
        user["uid"] = _number(uid, "uid")
    for gid in values["additional-gids"]:
        if gid < 0:
            raise UsageError(f"additional-gids must be a positive number {gid}")
    if values["additional-gids"]:
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *values["additional-gids"]]
    return user


def _number(text: str, what: str) -> int:
    """What is no id (-1, 2**32 …) is refused where the process is checked."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise UsageError(f"parsing {text} as int for {what} failed: strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    return int(text)


VERBS = {"exec": Verb(exec_, _FLAGS, most=None, interspersed=False)}
