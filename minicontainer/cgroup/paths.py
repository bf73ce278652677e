"""Names of cgroups: which a container may have. A path that leads elsewhere would hand out another group's limits."""

from __future__ import annotations

from minicontainer.errors import UsageError

DEFAULT_PARENT = "minicontainer"
_NAME_MAX = 255


def clean(path: str, parent: str = DEFAULT_PARENT) -> str:
    """The path as "/a/b": absolute below the hierarchies' roots; a relative one is put below parent.

    UsageError for "..", control characters, names that are too long, the root itself, and systemd's
    slice:prefix:name form (the OCI runtime spec leaves the meaning of cgroupsPath to the runtime: config-linux.md).
    """
    if not path.isprintable():
        raise UsageError(f"cgroup path {path!r} has control characters", "use letters, digits, '-', '_', '.' and '/'")
    if path.count(":") == 2 and not path.startswith("/"):
        raise UsageError(
            f'cgroup path "{path}" is systemd\'s form slice:prefix:name, which needs the systemd cgroup driver',
            "choose the cgroupfs driver (dockerd --exec-opt native.cgroupdriver=cgroupfs)",
        )
    full = path if path.startswith("/") else f"{parent}/{path}"
    names = [name for name in full.split("/") if name and name != "."]
    if ".." in names:
        raise UsageError(f'cgroup path "{path}" has ".."', "name a group below the hierarchy's root")
    if not names or not path.strip("/."):
        raise UsageError(f'cgroup path "{path}" is the root of the hierarchies', "name a group below it, like /minicontainer/web")
    for name in names:
        if len(name.encode()) > _NAME_MAX:
            raise UsageError(f'cgroup name "{name[:40]}…" is longer than {_NAME_MAX} bytes', "choose a shorter one")
        if name.startswith("cgroup."):
            raise UsageError(f'cgroup name "{name}" is one of the kernel\'s own files', "choose another name")
    return "/" + "/".join(names)
