"""config.json and process.json are checked before anything is made: types and values by schema.py, and here what depends
on several fields or on this host, in runc's words where it has some (libcontainer/configs/validate).
"""

from __future__ import annotations

import os
from stat import S_ISREG

from minicontainer.errors import UsageError
from minicontainer.runtime import schema, sysctl
from minicontainer.runtime.shapes import Wrong, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.shapes import Shape

MOST_BYTES = 16 << 20
"""Of a config.json: docker's have 20 KB, and what is this big comes from a mistake or from someone who wants our memory."""

MOST_MOUNTS = 4096  # more than any container has; the kernel's own limit is 100,000 (fs.mount-max)

_IN_PROC = tuple(
    f"/proc/{name}"
    for name in (
        "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled".split()
    )
)


def check(spec: object) -> None:
    """A whole config.json, as parsed. UsageError names the field. Fields that are null are taken out of it."""
    _checked(spec, schema.CONFIG, _whole)


def check_process(process: object) -> None:
    """A process, as `exec --process` is given one. UsageError names the field; fields that are null are taken out."""
    _checked(process, schema.PROCESS, _process)


def check_root(path: str) -> None:
    """root.path, made absolute: UsageError unless it is a directory."""
    if not os.path.isdir(path):
        what = "not a directory" if os.path.exists(path) else "no such file or directory"
        raise UsageError(f"root.path: invalid rootfs: {shown(path)}: {what}", "relative paths are relative to the bundle")


def check_resources(resources: object) -> None:
    """linux.resources, as `update --resources` is given them. UsageError names the field."""
    _checked(resources, schema.RESOURCES, lambda _: None)


def _checked(value: object, shape: Shape, meaning: object) -> None:
    try:
        shape(value)
        meaning(value)  # type: ignore[operator]  # one of the functions below
    except Wrong as e:
        path = e.path()
        raise UsageError(f"{path}: {e.message}" if path else e.message, e.hint) from None


def _whole(spec: dict) -> None:
    _version(spec["ociVersion"])
    for field, message in (("root", "root must be specified"), ("process", "process property must not be empty")):
        if field not in spec:
            raise Wrong(message)
    try:
        _process(spec["process"])
    except Wrong as e:
        raise e.within("process")  # noqa: B904  # the very same error
    linux = spec.get("linux", {})
    namespaces = _namespaces(linux.get("namespaces", ()))
    for rule in _RULES:
        rule(spec, linux, namespaces)


def _version(version: str) -> None:
    """Semantic versioning 2.0, major 1: everything from 1.0.0-rc1 on."""
    core = version.partition("+")[0].partition("-")[0].split(".")
    if len(core) != 3 or not all(part.isascii() and part.isdigit() for part in core):
        raise Wrong(f"{shown(version)} is not a version", 'write it like "1.2.0"').within("ociVersion")
    if core[0] != "1":
        raise Wrong(f"{shown(version)} is not supported", f"{schema.OLDEST} to {schema.NEWEST} are").within("ociVersion")


def _process(process: dict) -> None:
    if not process.get("cwd"):
        raise Wrong("Cwd property must not be empty", "/ will do").within("cwd")
    if process["cwd"][0] != "/":
        raise Wrong(f"Cwd must be an absolute path: {shown(process['cwd'])}").within("cwd")
    if not process.get("args"):
        raise Wrong("args must not be empty", "name the program to run").within("args")
    seen = set()
    for i, limit in enumerate(process.get("rlimits", ())):
        if limit["type"] in seen:
            raise Wrong(f"duplicate of {limit['type']}", "a limit may be given once").within("type", i, "rlimits")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise Wrong(f"{limit['soft']} is more than hard ({limit['hard']})").within("soft", i, "rlimits")
    if process.get("selinuxLabel") and not os.path.exists("/sys/fs/selinux/enforce"):
        raise Wrong("selinux label is specified in config, but selinux is disabled or not supported").within("selinuxLabel")
    if process.get("apparmorProfile") and not os.path.isdir("/sys/kernel/security/apparmor"):
        raise Wrong("apparmor profile is specified in config, but apparmor is not enabled on the system").within("apparmorProfile")
    _scheduler(process.get("scheduler"))


def _scheduler(scheduler: dict | None) -> None:
    if scheduler is None:
        return
    policy, nice = scheduler["policy"], scheduler.get("nice", 0)
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        raise Wrong(f"invalid scheduler.nice: {nice} when scheduler.policy is {policy}", "-20 to 19").within("nice", "scheduler")
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise Wrong("scheduler.priority can only be specified for SchedFIFO or SchedRR policy").within("priority", "scheduler")
    for field in ("runtime", "deadline", "period"):
        if scheduler.get(field) and policy != "SCHED_DEADLINE":
            raise Wrong("scheduler runtime/deadline/period can only be specified for SchedDeadline policy").within(
                field, "scheduler"
            )


def _namespaces(entries: list[dict] | tuple) -> dict[str, str]:
    """Path by type, "" for a new one. Wrong for two of a type, and for a path that is no namespace."""
    found: dict[str, str] = {}
    for i, entry in enumerate(entries):
        kind, path = entry["type"], entry.get("path", "")
        if kind in found:
            raise Wrong(f"malformed spec file: duplicated ns {shown(kind)}").within("type", i, "namespaces", "linux")
        if path:
            try:
                # A namespace's file is a regular one; opening a FIFO would wait for ever.
                fault = "" if S_ISREG(os.stat(path).st_mode) else "not a namespace"
            except OSError as e:
                fault = e.strerror or str(e)
            if fault or path[0] != "/":
                raise Wrong(
                    f"invalid namespace path {shown(path)}: {fault or 'not an absolute path'}",
                    "name a file like /proc/PID/ns/net or /run/netns/NAME",
                ).within("path", i, "namespaces", "linux")
        found[kind] = path
    return found


# -- what depends on several fields: (spec, linux, namespaces) -----------------------------------------------------------------


def _names(spec: dict, linux: dict, namespaces: dict) -> None:
    for field in ("hostname", "domainname"):
        if spec.get(field) and "uts" not in namespaces:
            raise Wrong(f"unable to set {field} without a private UTS namespace", 'add {"type": "uts"} to linux.namespaces').within(
                field
            )


def _hidden(spec: dict, linux: dict, namespaces: dict) -> None:
    for field in ("maskedPaths", "readonlyPaths"):
        if linux.get(field) and "mount" not in namespaces:
            raise Wrong("unable to restrict sys entries without a private MNT namespace").within(field, "linux")


def _users(spec: dict, linux: dict, namespaces: dict) -> None:
    mapped = [field for field in ("uidMappings", "gidMappings") if linux.get(field)]
    if "user" not in namespaces:
        if mapped:
            raise Wrong("user namespace mappings specified, but user namespace isn't enabled in the config").within(
                mapped[0], "linux"
            )
    elif not namespaces["user"] and not mapped:
        raise Wrong("user namespaces enabled, but no namespace path to join nor mappings to apply specified").within(
            "uidMappings", "linux"
        )


def _kernel(spec: dict, linux: dict, namespaces: dict) -> None:
    for kind in ("user", "cgroup", "time"):
        if kind in namespaces and not os.path.exists("/proc/self/timens_offsets" if kind == "time" else f"/proc/self/ns/{kind}"):
            raise Wrong(f"{kind} namespaces aren't enabled in the kernel").within("namespaces", "linux")


def _clocks(spec: dict, linux: dict, namespaces: dict) -> None:
    if linux.get("timeOffsets"):
        if "time" not in namespaces:
            raise Wrong("time namespace offsets specified, but time namespace isn't enabled in the config").within(
                "timeOffsets", "linux"
            )
        if namespaces["time"]:
            raise Wrong(
                "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
            ).within("timeOffsets", "linux")


def _sysctls(spec: dict, linux: dict, namespaces: dict) -> None:
    sysctl.check(linux.get("sysctl", {}), namespaces, spec.get("domainname", ""))


def _net_devices(spec: dict, linux: dict, namespaces: dict) -> None:
    devices = linux.get("netDevices")
    if not devices:
        return
    if "network" not in namespaces:
        raise Wrong("unable to move network devices without a NET namespace").within("netDevices", "linux")
    names = [device.get("name") or key for key, device in devices.items()]
    for key, name in zip(devices, names):
        try:
            schema.interface(name)
        except Wrong as e:
            raise e.within("name", key, "netDevices", "linux")  # noqa: B904  # the very same error
        if names.count(name) > 1:
            raise Wrong(f"{shown(name)} is given twice").within("name", key, "netDevices", "linux")


def _mounts(spec: dict, linux: dict, namespaces: dict) -> None:
    mounts = spec.get("mounts", ())
    if len(mounts) > MOST_MOUNTS:
        raise Wrong(f"{len(mounts)} mounts", f"at most {MOST_MOUNTS}").within("mounts")
    for i, mount in enumerate(mounts):
        options = mount.get("options", ())
        bind = mount.get("type") in ("bind", "rbind") or "bind" in options or "rbind" in options
        if bind and not mount.get("source"):
            raise Wrong("is missing", "a bind mount needs what it binds").within("source", i, "mounts")
        if not bind and not mount.get("type"):
            raise Wrong("is missing", "what is no bind mount needs the type of a file system").within("type", i, "mounts")
        if "proc" in mount["destination"]:
            try:
                _below_proc(mount, bind)
            except Wrong as e:
                raise e.within("destination", i, "mounts")  # noqa: B904  # the very same error
        mapped = bool(mount.get("uidMappings")) + bool(mount.get("gidMappings"))
        if mapped and not bind:
            raise Wrong("id-mapped mounts are only supported for bind-mounts").within("uidMappings", i, "mounts")
        if mapped == 1:
            raise Wrong("id-mapped mounts must have both uid and gid mappings specified").within("uidMappings", i, "mounts")


def _below_proc(mount: dict, bind: bool) -> None:
    """On /proc only a proc, and within it only what lxcfs shows: a program asks /proc what it may do (CVE-2019-16884)."""
    from minicontainer.runtime.rootfs import clean

    place = f"/{clean(mount['destination'])}"
    if place == "/proc":
        if not (_is_proc(mount["source"]) if bind else mount["type"] == "proc"):
            raise Wrong(f"{shown(place)} cannot be mounted because it is not of type proc")
    elif place.startswith("/proc/") and place not in _IN_PROC:
        raise Wrong(f"{shown(place)} cannot be mounted because it is inside /proc", f"only {', '.join(_IN_PROC)} may be")


def _is_proc(source: str) -> bool:
    """Whether a path of the host is in a proc file system."""
    try:
        device = os.stat(source).st_dev if source[0] == "/" else 0
    except OSError:
        return False
    number = f" {os.major(device)}:{os.minor(device)} "
    with open("/proc/self/mountinfo") as f:
        return any(number in line and " - proc " in line for line in f)


def _memory_policy(spec: dict, linux: dict, namespaces: dict) -> None:
    policy = linux.get("memoryPolicy")
    if policy is None:
        return
    nodes = policy.get("nodes", "").strip()
    if policy["mode"] in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            raise Wrong(f"memory policy mode requires 0 nodes but got {nodes}").within("nodes", "memoryPolicy", "linux")
    elif policy["mode"] != "MPOL_PREFERRED" and not nodes:
        raise Wrong("memory policy mode requires at least one node but got 0").within("nodes", "memoryPolicy", "linux")


def _rdt(spec: dict, linux: dict, namespaces: dict) -> None:
    rdt = linux.get("intelRdt")
    if rdt is None:
        return
    if not os.path.isdir("/sys/fs/resctrl/info"):
        raise Wrong("intelRdt is specified in config, but Intel RDT is not enabled").within("intelRdt", "linux")
    name = rdt.get("closID", "")
    if name in (".", "..") or (len(name) > 1 and "/" in name):
        raise Wrong(f"invalid intelRdt.ClosID {shown(name)}").within("closID", "intelRdt", "linux")


def _personality(spec: dict, linux: dict, namespaces: dict) -> None:
    if linux.get("personality", {}).get("flags"):
        raise Wrong("flags are not supported", "the spec knows none").within("flags", "personality", "linux")


_RULES = (
    _names, _hidden, _users, _kernel, _clocks, _sysctls, _net_devices, _mounts, _memory_policy, _rdt, _personality,
)  # fmt: skip
