"""Device rules mean the same on v1 and v2: the last rule that matches wins, for each kind of access by itself."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroup import bpf
from minicontainer.cgroup.devices import DEFAULT_RULES, exceptions, parse, v1_settings
from minicontainer.cgroup.settings import Group
from minicontainer.errors import LimitError, Unsupported

DENY_ALL = {"allow": False, "access": "rwm"}
TYPES, ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}


def rule(allow, type="a", major=None, minor=None, access="rwm") -> dict:
    return {"allow": allow, "type": type, "major": major, "minor": minor, "access": access}


def allowed(rules: list[dict], type: str, major: int, minor: int, access: str) -> bool:
    """The meaning, said plainly; a device that no rule is about is allowed."""
    for letter in access:
        verdict = True
        for r in rules:
            if (
                r.get("type", "a") in ("a", type)
                and r.get("major") in (None, -1, major)
                and r.get("minor") in (None, -1, minor)
                and letter in r.get("access", "rwm")
            ):
                verdict = r["allow"]
        if not verdict:
            return False
    return True


def run(code: bytes, type: str, major: int, minor: int, access: str) -> bool:
    """What the kernel would do with the program: the few instructions that it uses, by Documentation/bpf/standardization."""
    context = struct.pack("=III", sum(ACCESS[a] for a in access) << 16 | TYPES[type], major, minor)
    registers, at = [0] * 11, 0
    program = list(struct.iter_unpack("=BBhi", code))
    for _ in range(len(program)):
        op, regs, off, imm = program[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        if op == 0x61:
            registers[dst] = struct.unpack_from("=I", context, off)[0]
        elif op == 0xBC:
            registers[dst] = registers[src]
        elif op == 0xB4:
            registers[dst] = imm
        elif op == 0x54:
            registers[dst] &= imm & 0xFFFFFFFF
        elif op == 0x74:
            registers[dst] >>= imm
        elif op == 0x55:
            at += off if registers[dst] != imm else 0
        elif op == 0x15:
            at += off if registers[dst] == imm else 0
        elif op == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(f"unknown instruction {op:#x}")
    raise AssertionError("the program does not end")


NUMBERS = st.one_of(st.none(), st.integers(1, 3), st.sampled_from([(1 << 31) - 1, 1 << 31, (1 << 32) - 1]))
RULES = st.lists(
    st.builds(
        rule, st.booleans(), st.sampled_from("abc"), NUMBERS, NUMBERS, st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
    ),
    max_size=8,
)
REQUESTS = st.tuples(st.sampled_from("bc"), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["r", "w", "m", "rw"]))


@given(RULES, REQUESTS)
def test_the_program_decides_as_the_rules_say(rules, request_):
    assert run(bpf.assemble(parse(rules)), *request_) == allowed(rules, *request_)


@given(RULES, REQUESTS)
def test_v1_decides_as_the_rules_say_or_says_that_it_can_not(rules, request_):
    rules = [DENY_ALL, *rules]
    try:
        parsed = parse(rules)
        kept = exceptions(parsed)
    except Unsupported:
        return
    type, major, minor, access = request_
    default = parsed[0].allow
    hits = [r for r in kept if r.type == type and r.major in (-1, major) and r.minor in (-1, minor)]
    if default:  # the kernel denies if any exception has any of the access asked for
        verdict = not any(set(access) & r.access for r in hits)
    elif len(access) > 1:
        return  # the kernel wants one exception that has it all; several rules for one device become one, others do not
    else:
        verdict = any(set(access) <= r.access for r in hits)
    assert verdict == allowed(rules, *request_)


class Fake(Group):
    def __init__(self, listed: str = "") -> None:
        self.listed = listed

    def current(self, controller: str, file: str) -> str:
        return self.listed


def lines(rules, listed="") -> list[tuple[str, str]]:
    return [(s.file.rpartition(".")[2], s.value) for s in v1_settings({"devices": rules}, Fake(listed))]


def test_v1_denies_everything_first():
    assert lines([DENY_ALL, rule(True, "c", 1, 3, "rw")]) == [("deny", "a"), ("allow", "c 1:3 rw")]
    assert lines([rule(True, "c", 9, 9), DENY_ALL]) == [("deny", "a")]
    assert lines([rule(True)]) == [("allow", "a")]
    assert lines([]) == []


def test_v1_takes_back_what_a_later_rule_denies():
    assert lines([DENY_ALL, rule(True, "c", 1, 3), rule(False, "c", 1, 3, "w")]) == [("deny", "a"), ("allow", "c 1:3 rm")]
    with pytest.raises(Unsupported, match='take "c 1:3 w" out of "c 1:[*] rwm"'):
        lines([DENY_ALL, rule(True, "c", 1), rule(False, "c", 1, 3, "w")])


def test_an_update_on_v1_never_opens_up_nor_shuts_for_a_moment():
    listed = "c 1:3 rwm\nc 1:5 rwm\n"
    assert lines([DENY_ALL, rule(True, "c", 1, 3), rule(True, "b", 8, 0, "r")], listed) == [
        ("allow", "c 1:3 rwm"),
        ("allow", "b 8:0 r"),
        ("deny", "c 1:5 rwm"),
    ]


def test_v1_lists_read_back_what_was_allowed():
    settings = v1_settings({"devices": [DENY_ALL, *DEFAULT_RULES]}, Fake())
    listed = "c *:* m\nb *:* m\n" + "".join(f"c {n} rwm\n" for n in "1:3 1:5 1:7 1:8 1:9 5:0 5:2 136:* 10:200".split())
    assert all(s.same(s.value, listed) for s in settings)
    assert not all(s.same(s.value, listed.replace("c 1:5 rwm", "c 1:5 r")) for s in settings)
    assert not settings[0].same(settings[0].value, "a *:* rwm\n")


@pytest.mark.parametrize("bad", [{"type": "x"}, {"access": "rx"}, {"major": "1"}, {"minor": 1 << 32}])
def test_malformed_rules_are_refused(bad):
    with pytest.raises(LimitError, match="device rules"):
        parse([{"allow": True, **bad}])
