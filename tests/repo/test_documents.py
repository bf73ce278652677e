"""The documents are true: links lead somewhere, `make` targets exist, and every command shown is run by something."""

from __future__ import annotations

import re
from pathlib import Path

from tests.repo.test_lint import ROOT, tracked

# Who runs a command that a document shows: the demo script, .ci/run, or a test that says so by naming the command.
RUNNERS = ("examples/demo/demo.sh", "images/import.sh", ".ci/run", "Makefile")

# Shown to be typed by a person: they need nothing of ours to be true.
HARMLESS = {"cd", "git", "curl"}


def documents() -> list[Path]:
    return [ROOT / name for name in tracked("*.md")]


def console_commands(text: str) -> list[str]:
    """The commands of the fenced ```console blocks: what follows a `$ ` or `# `, continued lines joined."""
    commands = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        joined = block.replace("\\\n", " ")
        commands += [re.sub(r"\s+", " ", c).strip() for c in re.findall(r"^[$#] (.+)$", joined, re.M)]
    return commands


def essence(command: str) -> str:
    """The verb of a command: `sudo minicontainer run -d --name web img` → `minicontainer run`; `make test` → the same."""
    words = [w for w in command.split() if w != "sudo" and not re.fullmatch(r"[A-Z_]+=\S*", w)]
    program = words[0].rpartition("/")[2]
    return " ".join([program, *(w for w in words[1:2] if re.fullmatch(r"[a-z][a-z-]*", w))])


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in documents():
        for target in re.findall(r"`(?:sudo )?make ([a-z0-9-]+)", path.read_text(encoding="utf-8")):
            assert target in targets, f"{path.name} names `make {target}`"


def test_every_command_that_a_document_shows_is_run_by_a_script_or_a_test() -> None:
    """By verb: `minicontainer stats` counts as run when the demo or an integration or client test runs `stats`."""
    scripts = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in RUNNERS)
    tests = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in tracked("tests/**/*.py", "tests/*.py"))
    for path in documents():
        for command in console_commands(path.read_text(encoding="utf-8")):
            what = essence(command)
            program, _, verb = what.partition(" ")
            if program in HARMLESS:
                continue
            if program == "make":
                assert verb in (ROOT / "Makefile").read_text(), f"{path.name}: {command}"
                continue
            if program in ("minicontainer", "minicontainer-oci"):
                known = re.search(rf"(\b(mc|shown)|minicontainer\S*) {verb}\b", scripts) or re.search(rf"[\"']{verb}[\"']", tests)
                assert known, f"{path.name}: nothing runs `{command}`"
                continue
            assert program in scripts or program in tests, f"{path.name}: nothing runs `{command}`"
