"""config.json that is huge, deep or no JSON at all: one clear line, at once, and nothing half-made."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.integration.engine import SLOW, Done
from tests.integration.oci import Oci


def _refused(oci: Oci, done: Done) -> str:
    """The one line that a refusal is; nothing is there after it."""
    assert done.code == 1, done
    assert done.err.count("\n") == 1 and "Traceback" not in done.err, done
    assert done.err.isprintable() or done.err[:-1].isprintable(), done
    assert not oci.left()
    return done.err


TEXTS: list[tuple[str, Callable[[], bytes], str]] = [
    ("nothing", lambda: b"", "is not JSON"),
    ("a number", lambda: b"1", "must be an object"),
    ("null", lambda: b"null", "must be an object"),
    ("an unfinished text", lambda: b'{"ociVersion": "1.0.0"', "is not JSON"),
    ("two values", lambda: b"{} {}", "is not JSON"),
    ("bytes", lambda: b'{"ociVersion": "\xff"}', "is not JSON"),
    ("UTF-16", lambda: '{"ociVersion": "1.0.0"}'.encode("utf-16"), "is not JSON"),
    ("deep lists", lambda: b"[" * 1_000_000 + b"]" * 1_000_000, "is not JSON"),
    ("deep objects", lambda: b'{"a":' * 500_000 + b"1" + b"}" * 500_000, "is not JSON"),
    ("a long number", lambda: b'{"ociVersion": ' + b"9" * 1_000_000 + b"}", "is not JSON"),
    ("not a number", lambda: b'{"ociVersion": NaN}', "is not JSON"),
    ("too much of it", lambda: b'{"annotations": {"a": "' + b"x" * (20 << 20) + b'"}}', "is bigger than"),
]


@pytest.mark.parametrize(("text", "message"), [t[1:] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_texts_that_are_no_config(oci: Oci, text: Callable[[], bytes], message: str) -> None:
    (oci.bundle / "config.json").write_bytes(text())
    began = time.monotonic()
    assert message in _refused(oci, oci.do("create", "one"))
    assert time.monotonic() - began < (60 if SLOW else 5)


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "loop", "socket"])
def test_files_that_are_no_config(oci: Oci, kind: str) -> None:
    """config.json is a FIFO, which nobody writes into, or /dev/zero, which does not end."""
    path = oci.bundle / "config.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        os.symlink("/dev/zero", path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        os.symlink("config.json", path)
    else:
        os.mknod(path, 0o140600)
    _refused(oci, oci.do("create", "one"))


def _many(oci: Oci, field: str) -> None:
    if field == "mounts":
        oci.config["mounts"] += [{"destination": f"/m/{i}", "type": "tmpfs", "source": "x"} for i in range(100_000)]
    elif field == "args":
        oci.config["process"]["args"] = ["true"] + ["x" * 30] * 100_000
    elif field == "env":
        oci.config["process"]["env"] = [f"VARIABLE_{i}=abcdefghijklmnopqrstuvwxyz" for i in range(100_000)]
    elif field == "one argument":
        oci.config["process"]["args"] = ["true", "x" * 200_000]
    elif field == "additionalGids":
        oci.config["process"]["user"]["additionalGids"] = list(range(100_000))
    elif field == "groups":
        oci.config["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "3KB", "limit": 1}] * 100_000
    else:
        oci.config["linux"]["cgroupsPath"] = f"/{oci.cgroup}" + "/x" * 3_000


@pytest.mark.parametrize("field", ["mounts", "args", "env", "one argument", "additionalGids", "groups", "cgroupsPath"])
def test_a_hundred_thousand_of_something(oci: Oci, field: str) -> None:
    """More than the kernel takes ends in an error that names it, in `create` or at the latest in `run`'s execve."""
    _many(oci, field)
    oci.write()
    _refused(oci, oci.do("run", "one"))


def test_many_mounts_are_no_bomb(oci: Oci) -> None:
    """What Kubernetes may ask for: hundreds of volumes."""
    many = 60 if SLOW else 300
    (oci.folder / "volume" / "sub").mkdir(parents=True)
    for i in range(many):
        oci.mount(f"/m/{i}", oci.folder / "volume")
    assert oci.sh("ls /m | wc -l; ls /m/7").split() == [str(many), "sub"]


@pytest.mark.parametrize("depth", [150, 1500])
def test_a_deep_folder_of_the_image_is_copied_up_or_refused(oci: Oci, depth: int) -> None:
    """tmpcopyup copies what the image holds, which is copied here: neither the stack nor the descriptors run out."""
    (oci.rootfs / "deep").mkdir()
    folder = os.open(oci.rootfs / "deep", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    oci.mount("/deep", "tmpfs", "tmpcopyup")
    try:
        _copied_up(oci, depth)
    finally:  # it is too deep for shutil.rmtree, which takes the test's folder away
        subprocess.run(["rm", "-rf", oci.rootfs / "deep"], check=True)


def _copied_up(oci: Oci, depth: int) -> None:
    if depth < 200:
        assert oci.sh(f"find /deep -name d | wc -l; ls -d /deep{'/d' * depth} >/dev/null && echo all").split() == [
            str(depth),
            "all",
        ]
    else:
        oci.write("true")
        assert "tmpcopyup" in _refused(oci, oci.do("run", "one"))


def test_resources_and_processes_from_files_are_read_with_the_same_care(oci: Oci) -> None:
    oci.running()
    path = oci.bundle / "process.json"
    for text in (
        "[" * 1_000_000,
        "null",
        "{}",
        '{"args": ["true"], "cwd": "/", "user": {"uid": 4294967295}}',
        '{"args": [1], "cwd": "/"}',
    ):
        path.write_text(text)
        done = oci.do("exec", "--process", str(path), "one")
        assert done.code not in (0, None) and done.err.count("\n") == 1 and "Traceback" not in done.err, done
    path.write_text(json.dumps({"args": ["echo", "ok"], "cwd": "/", "env": ["PATH=/bin"], "rlimits": None, "capabilities": None}))
    assert oci.ok("exec", "--process", str(path), "one") == "ok\n"
