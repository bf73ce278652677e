"""A cgroup path never leads out of the place it names."""

from __future__ import annotations

import pytest

from minicontainer.cgroup.paths import clean
from minicontainer.errors import UsageError


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/minicontainer/web", "/minicontainer/web"),
        ("web", "/minicontainer/web"),
        ("/kubepods/burstable//pod1/./abc/", "/kubepods/burstable/pod1/abc"),
        ("/a:b:c", "/a:b:c"),
    ],
)
def test_paths_are_made_absolute_and_plain(path, cleaned):
    assert clean(path) == cleaned


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("../x", '".."'),
        ("/a/../../x", '".."'),
        ("/", "root"),
        ("", "root"),
        ("//", "root"),
        (".", "root"),
        ("/.", "root"),
        ("/a\nb", "control"),
        ("/a\0", "control"),
        ("/a\x1b[m", "control"),
        ("system.slice:docker:abc", "systemd"),
        ("/" + "x" * 256, "longer"),
        ("/a/cgroup.procs", "own files"),
    ],
)
def test_what_escapes_or_confuses_is_refused(path, word):
    with pytest.raises(UsageError, match=word):
        clean(path)


def test_the_parent_of_relative_paths_can_be_chosen():
    assert clean("x", "minicontainer-test-1/y") == "/minicontainer-test-1/y/x"
