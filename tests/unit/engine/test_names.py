"""Names and ids that a container can have."""

from __future__ import annotations

import pytest

from minicontainer.engine.names import check_name, new_id, random_name
from minicontainer.errors import UsageError


@pytest.mark.parametrize("name", ["ab", "a.b-c_D9", "0x", "x" * 253])
def test_good_names(name: str) -> None:
    """What docker allows is allowed."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a", "-ab", ".ab", "a/b", "a b", "../x", "a\n", "ä1", "x" * 254])
def test_bad_names(name: str) -> None:
    """No name can be a path, a flag or two lines: it becomes part of a file name."""
    with pytest.raises(UsageError, match="--name"):
        check_name(name)


def test_random_names_are_names() -> None:
    """Each made-up name is a good one; a later attempt has more to choose from."""
    for attempt in range(100):
        name = check_name(random_name(attempt))
        assert name[-1].isdigit() == (attempt > 0)


def test_ids() -> None:
    """64 hex digits, all different, with a short form that a host name can be."""
    ids = {new_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(made) == 64 and int(made, 16) >= 0 and not made[:12].isdigit() for made in ids)
