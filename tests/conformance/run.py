"""Runs public conformance suites of OCI runtimes with several runtimes, and compares: see README.md beside this file."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from fnmatch import fnmatch

import orphan
import results as kept
import tap
import terminal
from runtimes import Runtime
from suites import SUITES, Suite


def main() -> int:
    """1 if runc passes something that ours doesn't."""
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("conformance: the suites make containers, so they need root")
    orphan.adopt()
    os.makedirs(options.out, exist_ok=True)
    path = f"{options.out}/results.json"
    scratch = tempfile.mkdtemp(prefix="conformance.", dir="/var/tmp")
    os.chmod(scratch, 0o755)  # containers with a user namespace come through here
    failed = []
    try:
        runtimes = [Runtime.make(name, scratch) for name in options.runtime]
        for suite in (s for s in SUITES if s.name in options.suite):
            folder = os.path.realpath(f"{options.suites}/{suite.name}")
            for program in (p for p in suite.programs(folder) if any(fnmatch(p, o) for o in options.only)):
                for runtime in runtimes:
                    result = run(suite, folder, program, runtime, scratch, options.out)
                    results = kept.load(path)
                    results.setdefault(suite.name, {}).setdefault(program, {})[runtime.name] = result
                    kept.save(path, results)
                    say(f"{suite.name} {program} {runtime.name}: {kept.figure(result)}")
            programs = kept.load(path).get(suite.name, {})
            every = sorted({name for by in programs.values() for name in by}, key=lambda n: ("runc", "crun", "ours", n).index(n))
            say(f"\n{suite.name}\n{kept.table(programs, every)}")
            failed += [f"{suite.name} {what}" for what in kept.worse(programs, "ours", "runc")]
    finally:
        orphan.end_all()
        shutil.rmtree(scratch, ignore_errors=True)
    say("\n".join(["passes with runc, not with ours:", *failed]) if failed else "all that passes with runc passes with ours")
    return 1 if failed else 0


def say(text: str) -> None:
    """One message at once, for who watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", metavar="SUITES", help=f"the folder with the built suites {', '.join(names)}")
    parser.add_argument("--suite", action="append", choices=names, help="only this suite (may be repeated)")
    parser.add_argument("--runtime", action="append", metavar="NAME", help="ours, or a command; default runc, crun and ours")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only the programs with such names, as in linux_*")
    parser.add_argument("--out", default="build/conformance", metavar="DIR", help="for results.json and the programs' output")
    options = parser.parse_args()
    options.suite = options.suite or [name for name in names if os.path.exists(f"{options.suites}/{name}")]
    options.runtime = options.runtime or ["runc", "crun", "ours"]
    options.only = options.only or ["*"]
    return options


def run(suite: Suite, folder: str, program: str, runtime: Runtime, scratch: str, out: str) -> dict:
    """Runs one program and cleans up behind it; its result, as results.py keeps it. Output goes to a file in out."""
    work = tempfile.mkdtemp(dir=scratch)
    os.chmod(work, 0o755)
    os.symlink(f"{folder}/tests", f"{work}/tests")  # some look for their helpers below the current folder
    before, null, criu = orphan.not_mounted(), os.stat("/dev/null"), os.path.exists("/etc/criu")
    environment = {**os.environ, "TMPDIR": work, **suite.variables(folder, runtime.script)}
    status, output = terminal.run(
        runtime.prefix() + suite.command(folder, program),
        folder if suite.in_folder else work,
        environment,
        suite.seconds,
    )
    left = runtime.delete_all()
    orphans = orphan.end_all()
    orphan.sweep(suite.cgroups, before)
    os.chown("/dev/null", null.st_uid, null.st_gid)  # crun, with it as a stream, gives it to the container's user
    if not criu:  # runc's tests of checkpoint leave a configuration when they fail
        shutil.rmtree("/etc/criu", ignore_errors=True)
    with open(f"{out}/{suite.name}.{program}.{runtime.name}.log", "w") as f:
        f.write(f"{output}\n# status {status}; left behind: containers {left}, processes {orphans}\n")
    assertions, planned = tap.read(output)
    shutil.rmtree(work, ignore_errors=True)
    return {"status": status, "planned": planned, "assertions": assertions}


def stop(number: int, _frame: object) -> None:
    """A signal ends the run through the `finally`s on the way out."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
