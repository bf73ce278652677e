"""What the exporter gives up is gone, for good."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minicontainer.kernel.flags import CAPABILITIES

SCRIPT = """
from minicontainer.kernel.privileges import keep_only
keep_only("dac_read_search", "sys_ptrace")
print(open("/proc/self/status").read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="has no capabilities to give up: needs root")
def test_only_what_is_named_is_kept_and_nothing_can_be_had_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    kept = 1 << CAPABILITIES.index("CAP_DAC_READ_SEARCH") | 1 << CAPABILITIES.index("CAP_SYS_PTRACE")
    assert {int(status[f"Cap{s}"], 16) for s in ("Eff", "Prm")} == {kept}
    assert int(status["CapInh"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
