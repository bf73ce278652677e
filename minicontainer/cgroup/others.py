"""OCI `pids`, `hugepageLimits`, `rdma`, `network` and `unified` as settings of their controllers.

Sources: runtime-spec config-linux.md; the kernel's cgroup-v1/{pids,hugetlb,net_cls,net_prio,rdma}.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import os

from minicontainer.cgroup.settings import Group, Setting, need, number, same_bytes, same_entry, same_list, same_number
from minicontainer.errors import LimitError, Unsupported

_PID_MAX_LIMIT = 4194304  # pids.max reads back as "max" above it
_PIDS = "process limit (--pids-limit)"


def pids(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """limit: negative is none; 0, which no process could enter, becomes 1 as in runc: a first process that can't fork."""
    limit = number(resources.get("pids") or {}, "limit", _PIDS, -(1 << 63))
    if limit is None:
        return []
    text = "max" if limit < 0 or limit > _PID_MAX_LIMIT else str(limit or 1)
    return [Setting("pids", "pids.max", text, _PIDS, "fork() fails with EAGAIN above this many processes and threads")]


def hugetlb(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """The limit of each page size, in bytes, for pages in use and for reserved ones."""
    suffix = "max" if v2 else "limit_in_bytes"
    out = []
    for entry in resources.get("hugepageLimits") or ():
        size = str(entry.get("pageSize"))
        limit = f"huge page limit of {size} pages"
        unit = {"KB": 1, "MB": 1 << 10, "GB": 1 << 20}.get(size[-2:])
        if unit is None or not size[:-2].isdecimal():
            raise LimitError(f'huge page limit: page size "{size}" is not like 2MB or 1GB', "see /sys/kernel/mm/hugepages")
        if not os.path.isdir(f"{group.sys}/kernel/mm/hugepages/hugepages-{int(size[:-2]) * unit}kB"):
            raise Unsupported(
                f"huge page limit: this host has no pages of {size}", "see /sys/kernel/mm/hugepages for the sizes here"
            )
        value = number(entry, "limit", limit, 0, (1 << 64) - 1) or 0
        for file in (f"hugetlb.{size}.{suffix}", f"hugetlb.{size}.rsvd.{suffix}"):
            if "rsvd" not in file or group.has("hugetlb", file):
                out.append(Setting("hugetlb", file, value, limit, "bytes of huge pages that it may use", same_bytes))
    return out


def rdma(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """hcaHandles and hcaObjects by device; the same file in v1 and v2."""
    out = []
    for name, entry in (resources.get("rdma") or {}).items():
        words = [
            f"{word}={number(entry, key, 'RDMA limit', 0, (1 << 31) - 1)}"
            for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if entry.get(key) is not None
        ]
        if words:
            text, why = f"{name} {' '.join(words)}", "handles and objects of this adapter"
            out.append(Setting("rdma", "rdma.max", text, "RDMA limit", why, same_entry))
    return out


def network(resources: dict, group: Group, v2: bool) -> list[Setting]:
    """classID and priorities; v1 only."""
    section = resources.get("network") or {}
    class_id = number(section, "classID", "network class", 0, (1 << 32) - 1)
    priorities = section.get("priorities") or ()
    if v2 and (class_id or priorities):
        raise Unsupported(
            "network class and priorities: this host has no net_cls and net_prio controllers",
            "mark the traffic with nftables (socket cgroupv2) instead",
        )
    out = []
    if class_id:
        out.append(Setting("net_cls", "net_cls.classid", class_id, "network class", "marks its packets for tc(8) and iptables"))
    for entry in priorities:
        priority = number(entry, "priority", "network priority", 0, (1 << 32) - 1)
        text, why = f"{entry['name']} {priority or 0}", "the priority of its traffic on this interface"
        out.append(Setting("net_prio", "net_prio.ifpriomap", text, "network priority", why, same_entry))
    return out


# Files that act or that move processes and controllers about: they belong to whoever runs the container, not to its config.
_NO_LIMITS = frozenset(
    ("cgroup.kill", "cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.freeze", "cgroup.subtree_control", "memory.reclaim")
)


def unified(resources: dict, group: Group) -> list[Setting]:
    """`unified`: files of the v2 tree by name, each line of the value written as it is, after everything else."""
    out = []
    for file, value in (resources.get("unified") or {}).items():
        controller, point, _ = file.partition(".")
        if not point or not controller or "/" in file or not file.isprintable():
            raise LimitError(f'unified: "{file}" is not a cgroup file', "name it as in /sys/fs/cgroup, like memory.high")
        if type(value) is not str:
            raise LimitError(f"unified: the value of {file} is not a string", f'write it like {{"{file}": "max"}}')
        if file in _NO_LIMITS:
            raise LimitError(f"unified: {file} is an action, not a limit", "leave it out")
        if group.is_v1(controller):
            raise Unsupported(
                f"invalid configuration: cannot use unified on cgroup v1, which has the controller of {file} here",
                "use the section of resources for it, or boot with cgroup v2",
            )
        if not group.known(controller):
            raise Unsupported(
                f"unified {file}: the requested cgroup controller `{controller}` is not available",
                "see cgroup.controllers in /sys/fs/cgroup",
            )
        need(group, controller, file, f"unified {file}", "see /sys/fs/cgroup of a group for the files there are")
        why = "asked for as it is, by name"
        out += [Setting(controller, file, line, f"unified {file}", why, _same_unified) for line in value.splitlines() or [""]]
    return out


def _same_unified(asked: str, got: str) -> bool:
    """Equal; or a size with K, M, G in bytes; or the first word, or a key's line, of what is there."""
    asked, got = asked.strip(), got.strip()
    scale = {"K": 10, "M": 20, "G": 30, "T": 40}.get(asked[-1:].upper())
    if scale and asked[:-1].isdecimal():
        asked = str(int(asked[:-1]) << scale)
    if asked.split() == got.split() or asked == got.split(" ")[0] or same_number(asked, got):
        return True
    if asked.isdecimal():
        return same_bytes(asked, got)
    if set(asked) <= set("0123456789,-"):
        return same_list(asked, got)
    return same_entry(asked, got)
