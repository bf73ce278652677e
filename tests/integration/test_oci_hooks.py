"""Hooks of the OCI face: when, where, with which state, environment and descriptors they run, and what their failure does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.integration.oci import Oci

ORDER = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
ON_HOST = tuple(name for name in ORDER if name != "startContainer")
NAMESPACES = ("pid", "net", "mnt", "ipc", "uts")


def script(text: str, **fields: object) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **fields}


def add(oci: Oci, name: str, *hooks: dict) -> None:
    oci.config.setdefault("hooks", {}).setdefault(name, []).extend(hooks)


@pytest.fixture
def notes(oci: Oci) -> Path:
    """A folder that hooks of the host and of the container write to: /notes inside."""
    folder = oci.folder / "notes"
    folder.mkdir(mode=0o777)
    oci.mount("/notes", folder)
    return folder


def here(name: str, notes: Path) -> str:
    """The folder of notes as a hook sees it."""
    return "/notes" if name == "startContainer" else str(notes)


def test_all_six_run_in_order_once_in_their_namespaces_and_with_the_state(oci: Oci, notes: Path) -> None:
    for name in ORDER:
        at = here(name, notes)
        links = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in NAMESPACES)
        add(oci, name, script(f"cat >{at}/{name}.json; echo {name} >>{at}/order; ({links}) >{at}/{name}.ns"))
    oci.config["annotations"] = {"a.b": "c"}
    pid = oci.running("sh", "-c", "echo program >>/notes/order; exec sleep 600")
    inside = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES]
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES]
    oci.ok("delete", "--force", "one")

    order = (notes / "order").read_text().split()
    assert [o for o in order if o not in ("program", "poststart")] == [n for n in ORDER if n != "poststart"]
    assert order.index("poststart") > order.index("startContainer")
    for name in ORDER:
        state = json.loads((notes / f"{name}.json").read_text())
        expected = {"poststart": "running", "poststop": "stopped"}.get(name, "created")
        seen = 1 if name in ("createContainer", "startContainer") else pid
        assert state == {
            "ociVersion": "1.2.0",
            "id": "one",
            "status": expected,
            **({} if name == "poststop" else {"pid": seen}),
            "bundle": str(oci.bundle),
            "annotations": {"a.b": "c"},
        }, name
        where = (notes / f"{name}.ns").read_text().split()
        assert where == (inside if name in ("createContainer", "startContainer") else outside), name


def test_a_hook_has_its_own_arguments_environment_and_three_descriptors(oci: Oci, notes: Path) -> None:
    for name in ORDER:
        at = here(name, notes)
        shell, zero = ("/bin/sh", "sh") if name == "startContainer" else ("/bin/bash", "argv0")
        text = f"cat /proc/$$/cmdline >{at}/{name}.args; cat /proc/self/environ >{at}/{name}.env; ls /proc/self/fd >{at}/{name}.fds"
        add(oci, name, {"path": shell, "args": [zero, "-c", text, "x"], "env": ["ONE=1", "PATH=/bin"]})
    with open(os.devnull) as leak:
        os.set_inheritable(leak.fileno(), True)
        oci.write("true")
        oci.ok("create", "one", pass_fds=(leak.fileno(),))
        oci.ok("start", "one", pass_fds=(leak.fileno(),))
        oci.ok("delete", "--force", "one", pass_fds=(leak.fileno(),))
    for name in ORDER:
        arguments = (notes / f"{name}.args").read_text().split("\0")
        if name != "createContainer":  # which sees the host's /proc, with other pids
            assert (arguments[0], arguments[3]) == ("sh" if name == "startContainer" else "argv0", "x")
        env = {e for e in (notes / f"{name}.env").read_text().split("\0") if not e.startswith(("PWD=", "SHLVL=", "_=", "OLDPWD="))}
        assert env == {"ONE=1", "PATH=/bin", ""}, name
        assert (notes / f"{name}.fds").read_text().split() == ["0", "1", "2", "3"], "3 is ls's own, to read the folder"


def test_without_env_a_hook_has_the_callers_and_startcontainer_the_process_environment(oci: Oci, notes: Path) -> None:
    for name in ORDER:
        add(oci, name, script(f"env >{here(name, notes)}/{name}"))
    oci.write("true", env=["PATH=/bin", "INSIDE=1"])
    environment = {**os.environ, "OUTSIDE": "1"}
    for verb in ("create", "start"):
        oci.ok(verb, "one", env=environment)
    oci.ok("delete", "--force", "one", env=environment)
    for name in ORDER:
        got = (notes / name).read_text().splitlines()
        assert ("OUTSIDE=1" in got, "INSIDE=1" in got) == (name != "startContainer", name == "startContainer"), name
    assert "HOME=/root" in (notes / "startContainer").read_text().splitlines(), "as the program has it"


def test_createcontainer_hooks_change_what_the_container_sees_and_the_host_does_not(oci: Oci) -> None:
    (oci.folder / "secret").write_text("from a hook\n")
    add(oci, "createContainer", script(f"touch ./file && mount --bind {oci.folder}/secret ./file"))
    assert oci.sh("cat /file") == "from a hook\n"
    assert (oci.rootfs / "file").read_text() == ""
    assert not oci.left()


def test_createruntime_hooks_find_everything_mounted_in_the_containers_mount_namespace(oci: Oci) -> None:
    add(
        oci,
        "createRuntime",
        script(f"pid=$(grep -o '\"pid\":[ 0-9]*' | tr -dc 0-9); nsenter -m -t $pid cat {oci.rootfs}/proc/version >{oci.folder}/v"),
    )
    assert oci.run("true").code == 0
    assert (oci.folder / "v").read_text() == Path("/proc/version").read_text()


@pytest.mark.parametrize("name", ORDER[:5])
def test_a_hook_that_fails_ends_the_container_and_poststop_runs(oci: Oci, notes: Path, name: str) -> None:
    add(
        oci,
        name,
        {"path": "/bin/true"},
        script("echo to stdout; echo to stderr >&2; exit 3"),
        script(f"touch {here(name, notes)}/third"),
    )
    add(oci, "poststop", script(f"cat >{notes}/poststop"))
    oci.write("sh", "-c", "touch /notes/program; sleep 600")
    done = oci.do("create", "one")
    if name in ("startContainer", "poststart"):
        assert done.code == 0, done
        done = oci.do("start", "one")
    words = f"error running {name} hook #1: error running hook: exit status 3, stdout: to stdout\n, stderr: to stderr\n"
    assert done.code == 1
    assert words.replace("\n", "\\n") in done.err
    assert not oci.left()
    assert json.loads((notes / "poststop").read_text())["status"] == "stopped"
    assert not (notes / "third").exists()
    assert (notes / "program").exists() <= (name == "poststart")
    assert "container does not exist" in oci.do("state", "one").err


def test_a_poststop_hook_that_fails_is_a_warning_and_the_others_run(oci: Oci, notes: Path) -> None:
    add(oci, "poststop", {"path": "/bin/false"}, script(f"touch {notes}/second"))
    done = oci.run("true")
    assert (
        done.code == 0
        and "level=warning" in done.err
        and "error running poststop hook #0: error running hook: exit status 1" in done.err
    )
    assert (notes / "second").exists()
    assert not oci.left()


@pytest.mark.parametrize("name", ORDER[:5])
def test_a_hook_that_takes_too_long_is_killed(oci: Oci, name: str) -> None:
    add(oci, name, {"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1})
    begin = time.monotonic()
    done = oci.run("sleep", "50")
    assert done.code == 1 and f"error running {name} hook #0: hook ran past specified timeout of 1.0s" in done.err
    assert 1 <= time.monotonic() - begin < 20
    assert not oci.left()


def test_how_a_hook_ended_is_said_as_go_says_it(oci: Oci) -> None:
    for hook, words in (
        (script("kill -9 $$"), "error running hook: signal: killed"),
        ({"path": "/etc/passwd"}, "fork/exec /etc/passwd: permission denied"),
    ):
        oci.config["hooks"] = {"createRuntime": [hook]}
        assert f"error running createRuntime hook #0: {words}" in oci.run("true").err
    oci.config["hooks"] = {"startContainer": [{"path": "/no/such"}]}
    assert "error running startContainer hook #0: fork/exec /no/such: no such file or directory" in oci.run("true").err


@pytest.mark.parametrize("name", ON_HOST)
def test_a_hook_that_is_not_there_is_refused_before_anything_is_made(oci: Oci, name: str) -> None:
    add(oci, name, {"path": "/no/such/hook"})
    done = oci.run("true")
    assert done.code == 1 and f"hooks.{name}[0].path: /no/such/hook: no such file or directory" in done.err
    assert not oci.left()


def test_the_hooks_are_those_of_create_whatever_becomes_of_the_bundle(oci: Oci, notes: Path) -> None:
    add(oci, "poststop", script(f"touch {notes}/poststop"))
    oci.running()
    (oci.bundle / "config.json").unlink()
    assert oci.ok("exec", "one", "echo", "still here") == "still here\n"
    oci.ok("delete", "--force", "one")
    assert (notes / "poststop").exists()


def test_startcontainer_hooks_are_the_containers_user_under_its_filter(oci: Oci, notes: Path) -> None:
    """As in runc and crun: who chose the filter meant it for all that runs in the container."""
    oci.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    add(oci, "startContainer", {"path": "/bin/sh", "args": ["sh", "-c", "id -u >/notes/uid; mkdir /notes/hook || true"]})
    notes.chmod(0o777)
    done = oci.run("sh", "-c", "mkdir /notes/program || echo refused", user={"uid": 1234, "gid": 0}, noNewPrivileges=True)
    assert (done.code, done.out) == (0, "refused\n"), done
    assert (notes / "uid").read_text() == "1234\n" and not (notes / "hook").exists()


def test_a_filter_that_knows_no_close_range_leaves_hooks_their_three_descriptors(oci: Oci, notes: Path) -> None:
    oci.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["close_range"], "action": "SCMP_ACT_ERRNO"}],
    }
    add(oci, "startContainer", {"path": "/bin/sh", "args": ["sh", "-c", "ls /proc/self/fd >/notes/fds"]})
    oci.write("true", noNewPrivileges=True)
    with open("/dev/null") as null:
        code = 'exec 3</dev/null; exec "$@"'
        assert oci.do("run", "--preserve-fds", "1", "one", prefix=("sh", "-c", code, "sh"), pass_fds=(null.fileno(),)).code == 0
    assert (notes / "fds").read_text().split() == ["0", "1", "2", "3"], "3 is ls's own, to read the folder"
