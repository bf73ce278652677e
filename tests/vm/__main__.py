"""The command line of the v2 guest: tests/vm/run [--systemd] [--timeout SECONDS] -- COMMAND ..."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile

from guest import Guest, passed_environment
from stock_kernel import kernel
from trouble import GUEST_FAILED, Trouble

DESCRIPTION = """\
Runs COMMAND as root in a throw-away QEMU guest: Debian's stock kernel, nothing but cgroup v2.

The guest's / is a copy-on-write view of this machine's; the repository is shared read-write at the same
path, and COMMAND runs in the directory you are in. Its stdout and stderr are streamed, its exit status is
returned (124: the time was up; 125: the guest never got that far, and says why).
"""

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="tests/vm/run", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--systemd", action="store_true", help="systemd as PID 1, COMMAND in a delegated service"
    )
    result.add_argument("--timeout", type=float, metavar="SECONDS", help="end with 124 after this time")
    result.add_argument("--memory", default="4G", metavar="SIZE", help="the guest's memory (default 4G)")
    result.add_argument(
        "-t", "--terminal", action="store_true", help="give COMMAND this terminal, as in: -t -- bash"
    )
    result.add_argument("command", nargs="+", metavar="COMMAND")
    return result


def main() -> int:
    options = parser().parse_args()
    if os.geteuid() != 0:
        raise Trouble("the guest sees this machine's files as its own, so only root can boot it: use sudo")
    cache = f"{REPOSITORY}/build/vm"
    here = os.getcwd()
    directory = here if os.path.commonpath([here, REPOSITORY]) == REPOSITORY else REPOSITORY
    # /var/tmp and not /tmp, which may be a tmpfs: the guest's disk is a sparse file here.
    with tempfile.TemporaryDirectory(prefix="minicontainer-vm.", dir="/var/tmp") as scratch:
        guest = Guest(
            kernel(cache),
            cache,
            scratch,
            REPOSITORY,
            directory,
            memory=options.memory,
            systemd=options.systemd,
        )
        return guest.run(
            options.command,
            environment=passed_environment(dict(os.environ)),
            output=sys.stdout.fileno(),
            timeout_seconds=options.timeout,
            terminal=options.terminal,
        )


def stop(number: int, _frame: object) -> None:
    """A signal ends the guest through the `finally`s on the way out."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.stderr.write(f"vm: {trouble}\n")
        sys.exit(GUEST_FAILED)
