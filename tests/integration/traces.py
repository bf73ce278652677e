"""What strace saw of a start, cut into the pieces that are one op each, and compared with the steps that were explained."""

from __future__ import annotations

import glob
import re

# Before and after every op the interpreter (stub/ops.c) asks for the time by a real system call; Python's own do not.
_CUT = "clock_gettime(CLOCK_MONOTONIC"
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\w+|\?)(.*)$")
# What strace adds or words otherwise.
_FILLERS = {"O_RDONLY", "O_LARGEFILE", "NULL", "BPF"}
_VALUES = {
    "SUID_DUMP_DISABLE": "0",
    "SIG_SETMASK": "2",
    "SIG_BLOCK": "0",
    "FSOPEN_CLOEXEC": "1",
    "_LINUX_CAPABILITY_VERSION_3": "3",
}


class Call:
    """One system call: its name, arguments as strace writes them, and result."""

    def __init__(self, name: str, args: list[str], result: str) -> None:
        self.name = name
        self.args = args
        self.result = result

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.args)}) = {self.result}"


def read(prefix: str) -> dict[int, list[Call]]:
    """The calls of each process of `strace -ff -o prefix`."""
    found = {}
    for path in glob.glob(f"{prefix}.*"):
        with open(path, errors="surrogateescape") as f:
            found[int(path.rpartition(".")[2])] = [c for line in f if (c := _parse(line.rstrip("\n")))]
    return found


def _parse(line: str) -> Call | None:
    match = _CALL.match(line)
    return Call(match[1], _split(match[2]), match[3]) if match else None


def _split(text: str) -> list[str]:
    """Arguments at the commas that are in no bracket and no string."""
    parts, depth, quoted, escaped, last = [], 0, False, False, 0
    for i, c in enumerate(text):
        if quoted:
            quoted, escaped = not (c == '"' and not escaped), c == "\\" and not escaped
        elif c == '"':
            quoted = True
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            parts.append(text[last:i].strip())
            last = i + 1
    return [*parts, text[last:].strip()] if text else []


def pieces(calls: list[Call]) -> list[list[Call]]:
    """The calls between two looks at the clock, from the first on; the last piece has no end."""
    found: list[list[Call]] = []
    for call in calls:
        if call.name == "clock_gettime" and call.args[0] == "CLOCK_MONOTONIC":
            found.append([])
        elif found:
            found[-1].append(call)
    return found


def disagreement(step: dict, piece: list[Call]) -> str:
    """In what the calls of a piece are not what a step says; "" if they are."""
    name, args = step["call"], step["args"]
    names = [c.name for c in piece]
    if name == "write_file":
        return _written(args, piece)
    if name == "make":
        wrong = "" if names[0] == "openat2" and set(names) <= {"openat2", "mkdirat", "close"} else f"unexpected {names}"
        return wrong or _same(args[1], piece[0].args[1])
    if name == "store":  # into the plan's own memory
        return "" if not names else f"unexpected {names}"
    if name == "bpf" and names == [name]:  # strace takes the whole program apart
        return _same(args[0], piece[0].args[0]) or _same(args[2], piece[0].args[2])
    if name in ("fstatfs", "statx"):  # what is wanted of the answer is no argument
        return "" if names == [name] else f"unexpected {names}"
    if name == "rtnetlink":
        return "" if names == ["sendto", "recvfrom"] else f"unexpected {names}"
    if name == "sendmsg":
        return "" if names == ["sendmsg"] and "SCM_RIGHTS" in piece[0].args[1] else f"unexpected {names}"
    if name == "wait":
        return "" if names == ["read"] else f"unexpected {names}"
    if name == "find":  # up to one that may be executed, which must not be a folder
        seen = [c.args[1] for c in piece if c.name == "faccessat2"]
        wrong = next((w for path, at in zip(args[0], seen) if (w := _same(path, at))), "")
        return wrong or ("" if set(names) <= {"faccessat2", "openat2", "close"} else f"unexpected {names}")
    if name == "execve":
        tried = [c.args[0] for c in piece if c.name == "execve"][: len(args[0])]
        wrong = next((w for path, seen in zip(args[0], tried) if (w := _same(path, seen))), "")
        return wrong or next((w for arg, seen in zip(args[1], _split(piece[0].args[1][1:-1])) if (w := _same(arg, seen))), "")
    if names != [name]:
        return f"calls {names}"
    if name == "capset":
        return _capabilities(args[1], piece[0].args[1])
    return next((f"argument {i}: {w}" for i, (a, b) in enumerate(zip(args, piece[0].args)) if (w := _same(a, b))), "")


def _written(args: list, piece: list[Call]) -> str:
    if [c.name for c in piece] != ["openat2", "write", "close"]:
        return f"unexpected {[c.name for c in piece]}"
    opened, written, _ = piece
    flags, resolve = _words(args[3])[0], _words(args[4])[0]
    seen = _words(opened.args[2])[0] - {"O_CLOEXEC"}
    wrong = "" if flags | resolve == seen else f"{flags | resolve} is not {seen}"
    return wrong or _same(args[0], opened.args[0]) or _same(args[1], opened.args[1]) or _same(args[2], written.args[1])


def _same(ours: object, seen: str) -> str:
    """Whether an explained argument is what strace saw: the same text, number, set of flags, or any descriptor for a slot."""
    if isinstance(ours, str) and ours[:1] == "<" and ours[-1:] == ">":
        return "" if seen.isdecimal() else f"{ours} is no descriptor: {seen}"
    if seen[:1] == '"':
        text = seen[1:].rpartition('"')[0].encode("latin-1").decode("unicode_escape")
        return "" if text == ours else f"{ours!r} is not {text!r}"
    if seen.startswith("0x") and len(seen) > 8:
        return ""  # a pointer that strace does not follow
    mine, theirs = _words(str(ours)), _words(seen)
    return "" if mine == theirs else f"{ours!r} is not {seen} ({mine} against {theirs})"


def _words(text: str) -> tuple[frozenset[str], tuple[int, ...]]:
    """The flags and the numbers in an argument."""
    text = re.sub(r"/\*.*?\*/|filter=0x[0-9a-f]+", "", text)
    for name, value in _VALUES.items():
        text = text.replace(name, value)
    text = text.replace("~0", "4294967295").replace("8192*1024", "8388608")
    flags = {w for w in re.findall(r"[A-Z][A-Z0-9_]{2,}", text) if w not in _FILLERS}
    rest = re.sub(
        r"[A-Za-z_][A-Za-z0-9_]*(?<!\b0x)", lambda m: " " if not re.fullmatch(r"x[0-9a-f]+|o[0-7]+", m[0]) else m[0], text
    )
    numbers = tuple(sorted(n for n in map(_number, re.findall(r"\b0x[0-9a-f]+|\b0o[0-7]+|\b\d+", rest)) if n))
    return frozenset(flags), numbers


def _number(text: str) -> int:
    if text.startswith(("0x", "0o")):
        return int(text, 0)
    return int(text, 8) if text[0] == "0" and text != "0" and set(text) <= set("01234567") else int(text)


def _capabilities(ours: str, seen: str) -> str:
    """Masks of ours against strace's `1<<CAP_CHOWN|…`."""
    from minicontainer.kernel.flags import CAPABILITIES

    for name in ("effective", "permitted", "inheritable"):
        mine = int(re.search(rf"{name}=(0x[0-9a-f]+)", ours)[1], 16)  # type: ignore[index]
        listed = re.search(rf"{name}=([^,}}]*)", seen)[1]  # type: ignore[index]
        theirs = sum(1 << CAPABILITIES.index(c) for c in re.findall(r"1<<(CAP_\w+)", listed))
        if mine != theirs:
            return f"{name}: {mine:#x} is not {theirs:#x}"
    return ""
