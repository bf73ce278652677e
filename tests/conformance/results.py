"""What the programs of the suites said, kept as JSON from run to run, and as a table."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# {"<suite>": {"<program>": {"<runtime>": {"status": int, "planned": int, "assertions": [[verdict, name], ...]}}}}
Results = dict[str, dict[str, dict[str, dict]]]

_SHOWN = 5  # lost assertions of a program


def load(path: str) -> Results:
    """The results of earlier runs; none if there was no run."""
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return json.load(f)


def save(path: str, results: Results) -> None:
    """Writes them, whole or not at all."""
    with open(f"{path}.new", "w") as f:
        json.dump(results, f, indent=1, sort_keys=True)
    os.rename(f"{path}.new", path)


def passed(result: dict) -> bool:
    """Whether a program is content: exit status 0, nothing failed, and as many assertions as planned."""
    verdicts = [verdict for verdict, _ in result["assertions"]]
    return result["status"] == 0 and "not ok" not in verdicts and result["planned"] in (-1, len(verdicts))


def figure(result: dict | None) -> str:
    """A cell of the table: "ok 12", "11 of 12", "ok 3 + 2 skipped"."""
    if result is None:
        return ""
    verdicts = [verdict for verdict, _ in result["assertions"]]
    ok, skipped = verdicts.count("ok"), verdicts.count("skip")
    run = max(len(verdicts), result["planned"]) - skipped
    words = f"ok {ok}" if passed(result) else f"{ok} of {run}" if ok < run else f"{ok}, status {result['status']}"
    return words + (f" + {skipped} skipped" if skipped else "")


def worse(programs: dict[str, dict[str, dict]], ours: str, control: str) -> Iterator[str]:
    """What the control passes and ours doesn't: programs, and the assertions in them."""
    for program, by_runtime in sorted(programs.items()):
        if ours not in by_runtime or control not in by_runtime:
            continue
        if passed(by_runtime[control]) and not passed(by_runtime[ours]):
            yield program
        lost = sorted(name for _, name in _held(by_runtime[control]) - _held(by_runtime[ours]))
        yield from (f"{program}: {name}" for name in lost[:_SHOWN])
        if len(lost) > _SHOWN:
            yield f"{program}: and {len(lost) - _SHOWN} more"


def _held(result: dict) -> set[tuple[int, str]]:
    """Assertions that held, numbered among those of their name: some programs repeat a name a thousand times."""
    seen: dict[str, int] = {}
    held = set()
    for verdict, name in result["assertions"]:
        seen[name] = seen.get(name, 0) + 1
        if verdict == "ok":
            held.add((seen[name], name))
    return held


def table(programs: dict[str, dict[str, dict]], runtimes: list[str]) -> str:
    """Programs down, runtimes across, sums below."""
    rows = [["program", *runtimes]]
    rows += [[program, *(figure(by.get(runtime)) for runtime in runtimes)] for program, by in sorted(programs.items())]
    rows += [["programs content", *(str(sum(passed(by[r]) for by in programs.values() if r in by)) for r in runtimes)]]
    rows += [["assertions ok", *(str(sum(_count(by.get(r), "ok") for by in programs.values())) for r in runtimes)]]
    rows += [["assertions not ok", *(str(sum(_count(by.get(r), "not ok") for by in programs.values())) for r in runtimes)]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)


def _count(result: dict | None, verdict: str) -> int:
    return sum(v == verdict for v, _ in result["assertions"]) if result else 0
