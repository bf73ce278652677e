"""fastjson is json: the same values, the same texts, the same refusals, without the package's imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import fastjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_round_trip(value: object) -> None:
    """What is written is read again as it was, by us and by json."""
    text = fastjson.dumps(value)
    assert fastjson.loads(text) == value
    assert json.loads(text) == value


@given(VALUES)
def test_writes_what_json_writes(value: object) -> None:
    """The text is json's compact one, byte for byte."""
    assert fastjson.dumps(value) == json.dumps(value, separators=(",", ":"))


@given(VALUES, st.sampled_from([None, 0, 2, "\t"]))
def test_reads_what_json_writes(value: object, indent: int | str | None) -> None:
    """Any layout of whitespace is read, as text and as UTF-8."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert fastjson.loads(f" \n{text}\r\n\t") == json.loads(text)
    if "\\ud" not in json.dumps(value):
        assert fastjson.loads(text.encode()) == json.loads(text)


@given(st.text())
def test_refuses_what_json_refuses(text: str) -> None:
    """Any text is a value for both, the same, or an error for both; NaN and Infinity, which json takes, aside."""

    def refuse(name: str) -> float:
        raise ValueError(name)

    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(ValueError):
            fastjson.loads(text)
    else:
        got = fastjson.loads(text)
        assert got == expected or got != got  # NaN is not itself


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", '{"a":}', "1 2", "nul", "'a'", '"\x01"', '{"a":1}x', b"\xff", "NaN", "-Infinity"]
)
def test_refusals(text: str | bytes) -> None:
    """What is no JSON raises ValueError (also NaN and Infinity, which json takes)."""
    with pytest.raises(ValueError):
        fastjson.loads(text)


@pytest.mark.parametrize("text", ["{", '{"a": 1', "[1,", '"x', "[" * 1_000_000, '{"a":' * 500_000, "9" * 10_000])
def test_refusals_in_a_process_without_json(text: str) -> None:
    """The C code takes its exceptions from json.decoder, which a command has not imported: it is a ValueError all the same."""
    code = "import sys; from minicontainer import fastjson\ntry: fastjson.loads(sys.stdin.read())\nexcept ValueError as e: print('refused', e)"
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("refused ")


def test_only_json_types_are_written() -> None:
    """Anything else raises TypeError, and a number that JSON lacks raises ValueError."""
    with pytest.raises(TypeError):
        fastjson.dumps({"a": b"bytes"})
    with pytest.raises(ValueError):
        fastjson.dumps(float("nan"))


def test_indented() -> None:
    """For people's eyes."""
    assert fastjson.dumps({"a": [1]}, indent="  ") == '{\n  "a": [\n    1\n  ]\n}'


def test_costs_no_import() -> None:
    """Neither json nor re is loaded for it: that is its whole purpose."""
    code = "import sys; from minicontainer import fastjson; fastjson.loads('{}'); fastjson.dumps([]); print({'json', 're', 'enum'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}; {code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
