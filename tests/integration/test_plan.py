"""The plan is what is done: a dry run does nothing, and what --explain says is what strace sees."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.integration import traces
from tests.integration.engine import IMAGE, Engine
from tests.integration.leftovers import picture

RICH = (
    *("-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=100:200", "-u", "nobody", "-w", "/srv/new", "-h", "someone"),
    *("--sysctl", "kernel.msgmax=4097", "--read-only", "--tmpfs", "/scratch:size=1m", "--device", "/dev/zero:/dev/nothing:r", "-t",
      "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--group-add", "77", "--oom-score-adj", "10", "--domainname", "example.org"),
)  # fmt: skip
FORMS = {
    "plain": ("--network", "none"), "rich": ("--network", "none", *RICH),
    "bridge": ("-p", "127.0.0.1:18080:80"), "host": ("--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"),
    "privileged": ("--network", "none", "--privileged"), "no new privileges": ("--network", "none", "--security-opt", "no-new-privileges"),
}  # fmt: skip


def explained(err: str) -> list[dict]:
    """The steps of --explain=json."""
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


def alike(steps: list[dict], *, ident: str, pid: str) -> list[tuple]:
    """Steps without what is different in each run: the id, the pid, addresses."""
    found = []
    for step in steps:
        args = json.dumps(step["args"])
        for text, word in ((ident, "ID"), (ident[:12], "ID12")):
            args = args.replace(text, word)
        args = re.sub(rf"\b{pid}\b", "PID", args)
        args = re.sub(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC", args)
        args = re.sub(r"\bmc[0-9a-f]{6,}\w*", "LINK", args)
        found.append((step["where"], step["call"], args, step["why"].replace(ident, "ID")))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_dry_run_does_nothing(engine: Engine, form: str, tmp_path: Path) -> None:
    """--dry-run makes no file, cgroup, mount, link or firewall element, and says what it would do."""
    before = picture(engine)
    times = {
        p: os.stat(p).st_mtime_ns
        for p in (f"{engine.directory}/{d}" for d in ("root", "state", "root/containers", "state/containers"))
    }
    done = engine.do(
        "run",
        "--dry-run",
        *FORMS[form],
        "-v",
        f"{tmp_path}/not-there:/data",
        "-v",
        "/anonymous",
        "--cidfile",
        f"{tmp_path}/cid",
        IMAGE,
        "touch",
        "/x",
    )
    assert done.code == 0, done
    assert done.out == ""
    assert re.match(r"The plan: \d+ steps\n", done.err)
    assert done.err.endswith("Nothing was done: this is what `run` without --dry-run would do.\n")
    after = picture(engine)
    assert {k: v for k, v in after.items() if k != "processes"} == {k: v for k, v in before.items() if k != "processes"}
    assert {p: os.stat(p).st_mtime_ns for p in times} == times
    assert os.listdir(tmp_path) == []


def test_explain_in_words(engine: Engine) -> None:
    """Numbered steps with the call and the reason before, the result and microseconds after; the program's output is apart."""
    done = engine.box("--explain", IMAGE, "echo", "hello")
    assert (done.code, done.out) == (0, "hello\n")
    count = int(re.match(r"The plan: (\d+) steps", done.err)[1])  # type: ignore[index]
    plan, _, results = done.err.partition("What became of it")
    assert [int(n) for n in re.findall(r"^ *(\d+)  \S", plan, re.M)] == list(range(1, count + 1))
    assert [int(n) for n in re.findall(r"^ *(\d+)  \S.*\d\.\d  \S", results, re.M)] == list(range(1, count + 1))
    assert 'execve("/usr/local/sbin/echo" (or 5 more folders of PATH), ["echo", "hello"], 3 variables)' in plan
    assert "pivot_root" in plan
    assert "CVE-" in plan


def test_explain_tells_where_it_failed(engine: Engine) -> None:
    """A start that fails shows the steps until then and the failed one."""
    done = engine.box("--explain", IMAGE, "no-such-program")
    assert done.code == 127
    assert "FAILED ENOENT" in done.err


def test_explain_of_a_detached_container(engine: Engine) -> None:
    """run -d --explain tells the same."""
    done = engine.do("run", "-d", "--rm", "--network", "none", "--explain=json", IMAGE, "true")
    assert done.code == 0
    assert explained(done.err)[-1]["call"] == "execve"


@pytest.mark.parametrize("form", FORMS)
def test_explain_as_json(engine: Engine, form: str) -> None:
    """One object a line: call, args, why, result, microseconds; and the dry run's plan is the same list."""
    flags = ("--explain=json", *FORMS[form])
    done = engine.do("run", "--name", "explained", *flags, IMAGE, "true")
    assert done.code == 0, done
    steps = explained(done.err)
    assert all({"call", "args", "why", "result", "microseconds"} <= set(s) for s in steps)
    assert all(s["why"] and s["result"]["state"] in ("done", "forgiven", "skipped", "entered") for s in steps)
    assert all(s["microseconds"] >= 0 for s in steps)
    assert [s["call"] for s in steps if s["result"]["state"] == "entered"] == ["execve"]
    dry = engine.do("run", "--name", "dry-run", "--dry-run", *flags, IMAGE, "true")
    ident = engine.field("explained", "{{.Id}}")
    pid = next(str(s["result"]["value"]) for s in steps if s["call"] == "clone3")
    ran = alike(steps, ident=ident, pid=pid)
    planned = alike(explained(dry.err), ident="0" * 64, pid="PID")
    planned = [(w.removesuffix(" after"), *rest) for w, *rest in planned]
    assert [p[1] for p in planned] == [r[1] for r in ran]
    if form != "bridge":  # its addresses are taken only when it is made
        assert planned == [(w.removesuffix(" after"), *rest) for w, *rest in ran]


@pytest.mark.parametrize("form", FORMS)
def test_the_plan_is_what_strace_sees(engine: Engine, form: str, tmp_path: Path) -> None:
    """Every step is the system call that it says, with the same numbers, flags and texts, in this order, and there are no others."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    prefix = tmp_path / "trace"
    words = ("run", "--rm", "--explain=json", *FORMS[form], IMAGE, "true")
    done = engine.do(*words, prefix=("strace", "-ff", "-s", "100000", "-o", str(prefix)))
    assert done.code == 0, done
    steps = explained(done.err)
    birth = next(s for s in steps if s["where"] == "clone")
    calls = traces.read(str(prefix))
    pid = birth["result"]["value"]
    parent = next(p for p, found in calls.items() if any(c.name == "clone3" and c.result == str(pid) for c in found))

    container = [s for s in steps if s["where"] == "container" and s["result"]["state"] != "skipped"]
    seen = traces.pieces(calls[pid])
    assert len(seen) >= len(container)
    wrong = [f"{s['call']}{s['args']}: {w}; strace saw {p}" for s, p in zip(container, seen) if (w := traces.disagreement(s, p))]
    assert not wrong, "\n".join(wrong)

    at = next(i for i, c in enumerate(calls[parent]) if c.name == "clone3" and c.result == str(pid))
    assert traces._words(birth["args"][0])[0] == {w for w in traces._words(calls[parent][at].args[0])[0] if w.startswith("CLONE_")}
    hosts = [[s for s in steps if s["where"] == "host"], [s for s in steps if s["where"] == "host after"]]
    before = [s for i, s in enumerate(steps) if s["where"].startswith("host") and i < steps.index(birth)]
    after = [s for i, s in enumerate(steps) if s["where"].startswith("host") and i > steps.index(birth)]
    assert before
    assert hosts
    for expected, found in (
        (before, traces.pieces(calls[parent][:at])[:-1][-len(before) :]),
        (after, traces.pieces(calls[parent][at:])[: len(after)]),
    ):
        wrong = [
            f"{s['call']}{s['args']}: {w}; strace saw {p}" for s, p in zip(expected, found) if (w := traces.disagreement(s, p))
        ]
        assert len(found) == len(expected)
        assert not wrong, "\n".join(wrong)


def test_the_comparison_can_fail() -> None:
    """Another path, flag or number is noticed: the comparison with strace is no rubber stamp."""
    call = traces._parse('openat2(6, "dev/pts", {flags=O_RDONLY|O_CLOEXEC|O_PATH, resolve=RESOLVE_IN_ROOT}, 24) = 7')
    assert call is not None
    step = {"call": "openat2", "args": ["<root>", "dev/pts", "{O_CLOEXEC|O_PATH, RESOLVE_IN_ROOT}", 24]}
    assert traces.disagreement(step, [call]) == ""
    for i, other in ((0, "AT_FDCWD"), (1, "dev/shm"), (2, "{O_CLOEXEC|O_PATH}"), (3, 25)):
        args = [*step["args"]]
        args[i] = other  # type: ignore[call-overload]
        assert traces.disagreement({**step, "args": args}, [call])
    assert traces.disagreement({**step, "call": "openat"}, [call])
    assert traces.disagreement(step, [])
