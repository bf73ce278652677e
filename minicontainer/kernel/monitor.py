"""The monitor's loop in this process (stub/monitor.c through cffi), for a container in the foreground."""

from __future__ import annotations

import os

from minicontainer.errors import KernelError
from minicontainer.kernel._kernel import ffi, lib


def run_monitor(settings: dict[str, str | int], *, user_in: int, user_out: int, user_err: int, forward: bool) -> int:
    """monitor_run with the fields of struct monitor by name (monitor.h): a wait status. The GIL is free."""
    m = ffi.new("struct monitor *")
    keep = []
    for name, value in settings.items():
        if isinstance(value, str):
            if not value:
                continue
            keep.append(ffi.new("char[]", os.fsencode(value)))
            setattr(m, name, keep[-1])
        else:
            setattr(m, name, value)
    m.user_in, m.user_out, m.user_err, m.forward = user_in, user_out, user_err, int(forward)
    status = lib.monitor_run(m)
    if status < 0:
        raise KernelError("monitor", "", -status)
    return status
