"""What an update sets: what it names, and what goes with it."""

from __future__ import annotations

import pytest

from minicontainer.runtime.update import complete, merge

DISK = {"major": 8, "minor": 0}


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"pids": {"limit": 1}}, {}, {"pids": {"limit": 1}}),
        ({"cpu": {"quota": 1, "shares": 2}}, {"cpu": {"quota": 3}}, {"cpu": {"quota": 3, "shares": 2}}),
        ({"cpu": {"quota": 1}}, {"cpu": {"quota": None, "cpus": "0"}, "memory": None}, {"cpu": {"quota": 1, "cpus": "0"}}),
        (
            {"blockIO": {"weightDevice": [{**DISK, "weight": 10}]}},
            {"blockIO": {"weightDevice": [{**DISK, "weight": 20}, {"major": 9, "minor": 1, "weight": 30}]}},
            {"blockIO": {"weightDevice": [{**DISK, "weight": 20}, {"major": 9, "minor": 1, "weight": 30}]}},
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]},
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 2}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}]},
        ),
        ({"unified": {"memory.high": "1"}}, {"unified": {"memory.low": "2"}}, {"unified": {"memory.high": "1", "memory.low": "2"}}),
    ],
)
def test_what_is_named_replaces_what_was(old, new, merged):
    assert merge(old, new) == merged


@pytest.mark.parametrize(
    ("before", "asked", "set_"),
    [
        ({}, {"pids": {"limit": 5}}, {"pids": {"limit": 5}}),
        ({"cpu": {"quota": 1000, "period": 5000}}, {"cpu": {"quota": 2000}}, {"cpu": {"quota": 2000, "period": 5000}}),
        ({"cpu": {"quota": 1000}}, {"cpu": {"shares": 2}}, {"cpu": {"shares": 2}}),
        ({"memory": {"limit": 5000, "swap": 9000}}, {"memory": {"limit": 6000}}, {"memory": {"limit": 6000, "swap": 9000}}),
        ({"memory": {"limit": 5000, "swap": 9000}}, {"memory": {"limit": -1}}, {"memory": {"limit": -1, "swap": 0}}),
        ({"memory": {"limit": 5000}}, {"memory": {"swap": 7000}}, {"memory": {"limit": 5000, "swap": 7000}}),
        ({"cpu": {"shares": 512, "idle": 1}}, {"cpu": {"idle": 0}}, {"cpu": {"idle": 0, "shares": 512}}),
        ({"cpu": {"idle": 1}}, {"cpu": {"shares": 512}}, {"cpu": {"shares": 512, "idle": 0}}),
    ],
)
def test_halves_of_a_pair_are_set_together(before, asked, set_):
    assert complete(asked, merge(before, asked)) == set_
