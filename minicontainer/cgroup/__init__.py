"""Control groups: limits, freezing, killing and accounting, with one interface over v1, v2 and hybrid hosts.

    hierarchy.detect()          what this host has
    group.Cgroup(hierarchy, path)
        .create_ops(resources)  ──▶ ops that make it, limits included      (memory.py, cpu.py, blockio.py, others.py, devices.py)
        .enter_ops()            ──▶ ops by which a process enters it
        .verify(resources)      the kernel's own view of every limit, read back
        .freeze() .kill() .remove() …                                      (control.py)
        .stats()                numbers with their unit in the name        (accounting.py)

`resources` is always the OCI runtime spec's `linux.resources` (config-linux.md, "Control groups").
"""
