"""Where minicontainer-oci differs from runc 1.1.5 on purpose: by subject and step (oci_beside_cases.py), the reason, and what ours
gives for the part of the answer that differs. A message has to begin as runc's would and to have these words in it."""

from __future__ import annotations

import os

UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # nothing but cgroup v2

_FIRST = "runc asks the kernel and tells its errno; ours checks before it changes anything, and says what may be given"
_JSON = "ours names the field, or the place in the text"
_OPEN = "runc's own descriptors, which Go opens, count as given, and are passed on; ours passes on what the caller gave"
_DIAL = "ours connects to the console socket before it reads config.json"


def error(message: str) -> dict[str, object]:
    """stderr of a command that fails as runc's does, in other words."""
    return {"stderr": [("error", message)]}


DIFFERENCES: dict[tuple[str, str], tuple[str, dict[str, object]]] = {
    ("exec", "exec --cwd /nosuch one pwd"): (
        "the system call that failed is named",
        error('exec failed: unable to start container process: openat2(<root>, "/nosuch"'),
    ),
    ("exec", "exec --apparmor nosuch one true"): (
        "runc finds out when it writes the attribute",
        error("exec failed: apparmorProfile: apparmor profile is specified in config, but apparmor is not enabled on the system"),
    ),
    ("exec", "exec --cgroup a:b:c one true"): (
        "the path begins behind the first colon, as in runc 1.4",
        error("exec failed: unknown controller a in --cgroup: this host has no such cgroup v1 hierarchy"),
    ),
    ("exec", "exec --cgroup nosuch one true"): (
        "the first tree without such a group is named, not the last",
        error("exec failed: adding pid PID to cgroups: open "),
    ),
    ("exec", "exec --preserve-fds 3 one true"): (
        _OPEN,
        {"exit code": 255, **error("exec failed: unable to stat preserved-fd 3 (of 3): it is not open")},
    ),
    ("update to next to nothing", "update --memory 10 one"): (
        _FIRST,
        {**({"exit code": 1} if UNIFIED else {}), **error("memory limit (--memory): 10 bytes are less than a page of 4096")},
    ),
    ("update", "update --cpuset-cpus 999 one"): (_FIRST, error('CPU set (--cpuset-cpus): asked for "999", but only')),
    ("update", "update --cpuset-cpus x one"): (_FIRST, error('cpu.cpus: "x" is not a list of numbers')),
    ("update", '{"cpu": {"quota": "x"}} | update -r - one'): (_JSON, error("cpu.quota: must be a whole number, not a string")),
    ("update", "[] | update -r - one"): (_JSON, error("the resources are not an object")),
    ("update", "{ | update -r - one"): (_JSON, error("standard input is not JSON: ")),
    ("checkpoint", "--criu /x checkpoint one"): (
        "runc says `container still running` as well, because it tries to delete the container; one text for a criu not there",
        error('CRIU version check failed: exec: "/x": executable file not found in $PATH'),
    ),
    ("run", "run --console-socket {tmp}/none one"): (_DIAL, error("RUNTIME run failed: dial unix TMP/none: connect: ")),
    ("run", "run -d --console-socket {tmp}/none one"): (_DIAL, error("RUNTIME run failed: dial unix TMP/none: connect: ")),
    ("run", "create --pid-file /nonexistent/pid one"): (
        "no word for what was tried",
        error("RUNTIME create failed: /nonexistent/.pid: no such file or directory"),
    ),
    ("exec", "exec --pid-file /nonexistent/pid one true"): (
        "no word for what was tried",
        error("exec failed: /nonexistent/.pid: no such file or directory"),
    ),
    ("run", "run --preserve-fds 2 one"): (
        _OPEN,
        {"exit code": 1, "stdout": [], **error("RUNTIME run failed: unable to stat preserved-fd 3 (of 2): it is not open")},
    ),
    ("terminal", "run one"): ("a terminal is relayed also where the caller has none", {"exit code": 0, "stderr": []}),
    ("version 2", "run one"): (
        "a runtime MUST refuse a version it does not support (config.md)",
        {"exit code": 1, "stderr": ["error"]},
    ),
    ("version 2", "create one"): ("the same", {"exit code": 1, "stderr": ["error"]}),
    ("version 2", "state one"): ("the same", {"exit code": 1, "stdout": [], "stderr": ["error"]}),
}
