"""--explain and --dry-run: the plan of a start in words. There is no second description of a start: this reads the plan's ops."""

from __future__ import annotations

import json
import sys

from minicontainer.cli.notes import Notes
from minicontainer.engine.config import Config
from minicontainer.engine.options import RunOptions
from minicontainer.kernel.flags import CLONE, names
from minicontainer.runtime.launch import Launch
from minicontainer.runtime.plan import Plan
from minicontainer.stub import describe
from minicontainer.stub import program as prog
from minicontainer.stub.ops import UNKNOWN_PID, Op

_HEADINGS = {
    "host": "on the host, before there is a process",
    "clone": "the birth",
    "host after": "on the host, now that the process has a pid",
    "container": "in the new process, while the host does its part",
}


class Step:
    """One numbered line: where it happens, the call in words, its arguments, the reason, the result if there is one."""

    __slots__ = ("args", "call", "name", "result", "where", "why")

    def __init__(self, where: str, name: str, call: str, args: list, why: str, result: prog.Result | None = None) -> None:
        self.where = where
        self.name = name
        self.call = call
        self.args = args
        self.why = why
        self.result = result


def _step(where: str, op: Op, result: prog.Result | None = None) -> Step:
    return Step(where, op.call, describe.call(op), describe.arguments(op), op.why, result)


def _clone(plan: Plan, result: prog.Result | None = None) -> Step:
    flags = names(plan.flags | CLONE["CLONE_PIDFD"] | CLONE["CLONE_VM"] | CLONE["CLONE_VFORK"], CLONE)
    into = f", cgroup={plan.unified_dir}" if plan.unified_dir else ""
    return Step(
        "clone",
        "clone3",
        f"clone3({{flags={flags}, exit_signal=SIGCHLD{into}}})",
        [flags, "SIGCHLD", plan.unified_dir],
        "a new process in new namespaces, already in its cgroup where the kernel can do that; it executes the stub",
        result,
    )


def steps_of(plan: Plan) -> list[Step]:
    """The plan before it is run, in the order of its lists; the pid is not known yet."""
    return [
        *(_step("host", op) for op in plan.before),
        _clone(plan),
        *(_step("host after", op) for op in plan.after(UNKNOWN_PID)),
        *(_step("container", op) for op in plan.container),
    ]


def results_of(launch: Launch) -> list[Step]:
    """What was done, with each result; it ends where the start ended."""
    before = len(launch.plan.before)
    hosts = [(op, r) for where, op, r in launch.steps if where == "host"]
    steps = [_step("host", op, r) for op, r in hosts[:before]]
    if launch.pid:
        clone = prog.Result(prog.DONE, 0, launch.pid, launch.clone_begin_ns, launch.clone_begin_ns + launch.clone_ns)
        steps.append(_clone(launch.plan, clone))
    steps += [_step("host after", op, r) for op, r in hosts[before:]]
    return steps + [_step("container", op, r) for where, op, r in launch.steps if where == "container"]


def outcome(step: Step) -> str:
    """A result in a word or two."""
    r = step.result
    if r is None:
        return ""
    if r.state == prog.FORGIVEN:
        return f"{describe.ERRNO.get(r.errno, r.errno)}, no failure here"
    if r.state == prog.FAILED:
        return f"FAILED {describe.ERRNO.get(r.errno, r.errno)}"
    if r.state == prog.SKIPPED:
        return "skipped: nothing to do it to"
    if r.state == prog.ENTERED:
        return "ok"
    return f"= {r.value}" if r.value else "ok"


def print_plan(steps: list[Step], form: str) -> None:
    """The numbered plan on stderr, as text or a JSON object a line."""
    if form == "json":
        for step in steps:
            print(_json(step), file=sys.stderr)
        return
    where = ""
    print(f"The plan: {len(steps)} steps", file=sys.stderr)
    for number, step in enumerate(steps, 1):
        if step.where != where:
            where = step.where
            print(f"\n  {_HEADINGS[where]}:", file=sys.stderr)
        print(f"{number:4}  {step.call}\n      {step.why}", file=sys.stderr)
    print(file=sys.stderr)


def _json(step: Step) -> str:
    r = step.result
    return json.dumps(
        {
            "where": step.where,
            "call": step.name,
            "args": step.args,
            "why": step.why,
            "result": None
            if r is None
            else {"state": prog.STATES[r.state], "value": r.value, "errno": describe.ERRNO.get(r.errno) if r.errno else None},
            "microseconds": None if r is None else r.duration_ns / 1000,
        }
    )


class Explain(Notes):
    """What `run --explain` prints: the plan before, the results after."""

    def __init__(self, form: str) -> None:
        self.form = form

    def planned(self, plan: Plan) -> None:
        """The plan, before anything is done (as JSON it comes once, with the results)."""
        if self.form != "json":
            print_plan(steps_of(plan), self.form)
        sys.stderr.flush()

    def launched(self, launch: Launch) -> None:
        """The results; the execve that worked is where the user's program begins."""
        steps = results_of(launch)
        if self.form == "json":
            print_plan(steps, "json")
        else:
            print("What became of it (step, result, microseconds):", file=sys.stderr)
            for number, step in enumerate(steps, 1):
                took = step.result.duration_ns / 1000 if step.result and step.name != "execve" else 0
                print(f"{number:4}  {outcome(step):30} {took:9.1f}  {step.call[:100]}", file=sys.stderr)
            phases = ", ".join(f"{name} {seconds * 1000:.2f} ms" for name, seconds in launch.phases().items())
            print(f"In all: {phases}\n", file=sys.stderr)
        sys.stderr.flush()


def dry_run(config: Config, options: RunOptions) -> int:
    """Prints the plan of a container that is not made."""
    from minicontainer.engine.container import Container
    from minicontainer.engine.create import describe_only
    from minicontainer.engine.start import prepare

    container: Container = describe_only(config, options)
    print_plan(steps_of(prepare(container, dry_run=True).plan), options.explain or "text")
    if options.explain != "json":
        print("Nothing was done: this is what `run` without --dry-run would do.", file=sys.stderr)
    return 0
