"""The grammar of image names, held against docker's rules."""

from __future__ import annotations

import pytest

from minicontainer.errors import UsageError
from minicontainer.image import reference

GOOD = {
    "busybox": "busybox:latest",
    "busybox:1.36": "busybox:1.36",
    "docker.io/library/busybox": "busybox:latest",
    "index.docker.io/library/busybox:x": "busybox:x",
    "library/busybox": "busybox:latest",
    "docker.io/team/app": "team/app:latest",
    "localhost/app": "localhost/app:latest",
    "localhost:5000/a/b/c:v_1.0-x": "localhost:5000/a/b/c:v_1.0-x",
    "Example.COM/app": "Example.COM/app:latest",
    "a__b/c.d/e---f": "a__b/c.d/e---f:latest",
    "team/app": "team/app:latest",
    "a:" + "t" * 128: "a:" + "t" * 128,
    "0" * 63: "0" * 63 + ":latest",
}
BAD = ["", ":", ":tag", "a:", "UPPER", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a..b", "a___b", "a._b", "a-", "-a",
       "_a", "a b", "a\n", "a\0b", "ä", "a:t/", "a:.x", "a:-x", "a:" + "t" * 129, "a@sha256:00", "host:port/a", "a:b:c",
       "-x.com/a", "x..com/a", "0" * 64, "a" * 256, "a:ü", "localhost:/a b"]


@pytest.mark.parametrize("text", GOOD)
def test_familiar_form(text):
    assert reference.parse(text) == GOOD[text]
    assert reference.parse(GOOD[text]) == GOOD[text]
    assert ":".join(reference.split(GOOD[text])) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_refused(text):
    with pytest.raises(UsageError, match="invalid reference format"):
        reference.parse(text)
