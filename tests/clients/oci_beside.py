"""The same command lines to two OCI runtimes on the same bundle, and what is the same of their answers.

What can't be the same is made so before it is compared: pids, times, the temporary paths, the program's name, and the figures of
statistics (their keys and kinds are compared). A hint in parentheses behind a message is ours alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from typing import Any

from tests.clients.daemon import cgroups_named, remove_cgroup

SECONDS = 60
_LOGRUS = re.compile(r'time="[^"]+" level=(?P<level>\w+) msg=(?P<msg>"(?:[^"\\]|\\.)*"|\S+)$')
_UNEQUAL = ("psi", "max", "blkio", "cache", "throttling")
_VOLATILE = {"pid": "PID", "created": "TIME"}


class Answer:
    """What a command line gave: its exit code, stdout, (level, message) of each line of its log and of stderr, made comparable."""

    def __init__(self, code: int, out: object, said: list[tuple[str, str]], logged: list[tuple[str, str]]) -> None:
        self.code = code
        self.out = out
        self.said = said
        self.logged = logged

    def parts(self) -> dict[str, object]:
        return {"exit code": self.code, "stdout": self.out, "stderr": self.said, "log": self.logged}


class Runtime:
    """One of the two, with a root of its own below folder. The bundle is shared: {bundle}, {tmp} and {log} in command lines."""

    def __init__(self, program: str, folder: str, bundle: str) -> None:
        self.program = program
        self.name = os.path.basename(program)
        self.root = f"{folder}/{self.name}-root"
        self.tmp = tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder)
        self.bundle = bundle
        self.log = f"{self.tmp}/log"
        os.makedirs(self.root, exist_ok=True)

    def play(self, steps: list[str]) -> dict[str, Answer]:
        """Runs a script; the answer to each line, by line (one that is repeated is numbered). All its containers are gone then."""
        answers: dict[str, Answer] = {}
        try:
            for step in steps:
                key = step
                while key in answers:
                    key += " (again)"
                answers[key] = self._step(step)
        finally:
            self.clean()
        return answers

    def _step(self, step: str) -> Answer:
        """A command line; `text | command line` with text on stdin; `until ID STATUS` waits, `write NAME JSON` makes a file."""
        if step.startswith("until "):
            return self._until(*step.split()[1:])
        if step.startswith("write "):
            _, name, text = step.split(" ", 2)
            with open(f"{self.tmp}/{name}", "w") as file:
                file.write(text)
            return Answer(0, "", [], [])
        stdin, _, line = step.rpartition(" | ")
        argv = [word.format(bundle=self.bundle, tmp=self.tmp, log=self.log) for word in shlex.split(line)]
        return self._answer(argv, stdin)

    def run(self, *argv: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, stdout and stderr, through files: a container's process keeps what it inherits."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, tempfile.TemporaryFile("w+") as given:
            given.write(stdin)
            given.seek(0)
            done = subprocess.run(
                [self.program, "--root", self.root, *argv],
                stdin=given, stdout=out, stderr=err, cwd=self.bundle, timeout=SECONDS, check=False,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            return done.returncode, out.read(), err.read()

    def _answer(self, argv: list[str], stdin: str) -> Answer:
        code, out, err = self.run(*argv, stdin=stdin)
        logged = []
        if os.path.exists(self.log):
            with open(self.log) as file:
                logged = [self._message(line) for line in file.read().splitlines()]
            os.unlink(self.log)
        return Answer(code, self._stdout(out), [self._message(line) for line in err.splitlines()], logged)

    def _until(self, ident: str, status: str) -> Answer:
        deadline = time.monotonic() + SECONDS
        while json.loads(self.run("state", ident)[1])["status"] != status:
            assert time.monotonic() < deadline, f"{self.name}: {ident} is not {status}"
            time.sleep(0.02)
        return Answer(0, "", [], [])

    def _stdout(self, text: str) -> object:
        """JSON as values, help as its first line, a table as its words."""
        try:
            return settled([json.loads(line) for line in text.splitlines()] if text.startswith('{"type"') else json.loads(text))
        except ValueError:
            lines = self._same(text).splitlines()
        if lines and lines[0].startswith(("NAME:", "Incorrect Usage")):
            return lines[0]
        rows = [re.sub(r"\b\d{4}-\d\d-\d\dT\S+", "TIME", line).split() for line in lines]
        if rows and "PID" in rows[0]:  # a table: list's, or that of ps
            column = rows[0].index("PID")
            for row in rows[1:]:
                row[column] = "0" if row[column] == "0" else "PID"
        return rows

    def _message(self, line: str) -> tuple[str, str]:
        if line.startswith("{"):
            entry = json.loads(line)
            assert list(entry) == ["level", "msg", "time"], line
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", entry["time"]), line
            return f"json {entry['level']}", self._same(entry["msg"])
        found = _LOGRUS.fullmatch(line)
        if not found:
            return "plain", self._same(line)
        text = found["msg"]
        return found["level"], self._same(json.loads(text) if text.startswith('"') and "\\x" not in text else text)

    def _same(self, text: str) -> str:
        text = text.replace(self.program, "PROGRAM").replace(self.root, "ROOT").replace(self.tmp, "TMP")
        text = re.sub(r"\brunc\b|\bminicontainer-oci\b", "RUNTIME", text.replace(self.bundle, "BUNDLE"))
        return re.sub(r"\b(pid|process|write|written) \d+", r"\1 PID", text)

    def clean(self) -> None:
        """No container, file or log of a script is left for the next."""
        for ident in os.listdir(self.root):
            if not ident.startswith("@"):
                self.run("delete", "--force", ident)
        for name in os.listdir(self.tmp):
            os.unlink(f"{self.tmp}/{name}")
        assert not [name for name in os.listdir(self.root) if not name.startswith("@")]


def settled(value: Any, key: str = "") -> Any:
    """A JSON value without what differs from run to run: pids, times; of statistics the kinds of their values."""
    if key in _VOLATILE and value:
        return _VOLATILE[key]
    if isinstance(value, dict):
        if value.get("type") == "stats":
            return {**value, "data": kinds(value["data"])}
        return {name: settled(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return ["PID" if isinstance(item, int) else settled(item) for item in value]
    return value


def kinds(value: Any) -> Any:
    """The shape of a JSON value: keys, and a word for each number. A list has the shapes that its items have.

    Without psi (what waits for CPU, memory and io) and the most memory used on v2, which runc has from 1.2 on, and what is left out where it is zero: whether
    this container or another one read the program from the disk is chance.
    """
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items() if key not in _UNEQUAL}
    if isinstance(value, list):
        shapes = [kinds(item) for item in value]
        return [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]]
    return "number" if isinstance(value, int | float) else value


class Bundle:
    """A busybox bundle whose containers lie in a cgroup of the test's own."""

    def __init__(self, folder: str, tarball: str) -> None:
        self.folder = f"{folder}/bundle"
        self.cgroup = f"mc-beside-{os.getpid()}"
        os.makedirs(f"{self.folder}/rootfs")
        with tarfile.open(tarball) as tar:
            tar.extractall(f"{self.folder}/rootfs")

    def write(self, config: dict) -> None:
        """config.json."""
        with open(f"{self.folder}/config.json", "w") as file:
            json.dump(config, file)

    def remove(self) -> None:
        """Its files, and what is left of its cgroup."""
        for path in cgroups_named(self.cgroup):
            remove_cgroup(path)
        shutil.rmtree(self.folder)


def same(ours: object, theirs: object) -> bool:
    """Whether two parts of answers are the same. A message is when it has all of theirs: ours may name the field before it and
    give a hint behind it, and errno's texts begin with a capital."""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        head, failed, tail = theirs[1].casefold().rpartition(" failed: ")
        our = ours[1].casefold()
        return ours[0] == theirs[0] and our.startswith(head + failed) and tail in our
    return ours == theirs
