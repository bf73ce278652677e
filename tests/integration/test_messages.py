"""What people read when something is wrong: one line of what and why, one of what to do; never a traceback, and nothing left."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.ours import PROGRAM
from tests.integration.engine import IMAGE, Done, Engine, until
from tests.integration.leftovers import left, picture


def says(done: Done, code: int, what: str, advice: str = "") -> None:
    """The exit code, the message in full (a regular expression), and what to do about it on the line after; no more."""
    lines = done.err.removeprefix("Error response: ").removeprefix("minicontainer: ").splitlines()
    assert done.code == code, done
    assert len(lines) == (2 if advice else 1), done
    assert re.fullmatch(what, lines[0]), (what, lines[0])
    if advice:
        assert re.fullmatch(advice, lines[1]), (advice, lines[1])
    assert done.out == ""


CASES = {
    "no such image": (("nosuch", "true"), r"no such image: nosuch", r"`minicontainer images` lists what there is; import .*"),
    "too little memory": (("-m", "1m", IMAGE, "true"), r"Minimum memory limit allowed is 6MB", r"give --memory 6m or more"),
    "too many CPUs": (("--cpus", "9999", IMAGE, "true"), r"range of CPUs is from 0\.01 to \d+\.00, as there are only \d+ CPUs available", r"change --cpus"),
    "no such CPU": (("--cpuset-cpus", "4097", IMAGE, "true"), r"Requested CPUs are not available - requested 4097, available: .*", r"change --cpuset-cpus"),
    "no number": (("--pids-limit", "many", IMAGE, "true"), r'invalid argument "many" for "--pids-limit" flag: must be a whole number', ""),
    "no size": (("-m", "much", IMAGE, "true"), r'invalid argument "much" for "-m, --memory" flag: .*', ""),
    "flag that is not there": (("--memroy", "1", IMAGE), r"unknown flag: --memroy", r"did you mean --memory\? See 'minicontainer run --help'\."),
    "no network": (("--network", "nosuch", IMAGE, "true"), r"network nosuch not found", r"--network takes .*"),
    "no such container to join": (("--network", "container:nosuch", IMAGE, "true"), r"No such container: nosuch", r".*"),
    "no port": (("-p", "99999:80", IMAGE, "true"), r'-p 99999:80: invalid host port: "99999"', r"write -p .*"),
    "bad volume": (("-v", "vol:/x:bad", IMAGE, "true"), r'invalid argument "vol:/x:bad" for "-v, --volume" flag: invalid mode: bad .*', ""),
    "no source": (("--mount", "type=bind,src=/nosuch,dst=/x", IMAGE, "true"),
                  r'invalid mount config for type "bind": bind source path does not exist: /nosuch', r"make it first, .*"),
    "no such user": (("-u", "nosuch", IMAGE, "true"), r"unable to find user nosuch: no matching entries in passwd file", r"Use a number, or .*"),
    "no such device": (("--device", "/dev/nosuch", IMAGE, "true"), r'error gathering device information .* "/dev/nosuch": No such file or directory', r".*"),
    "no such environment file": (("--env-file", "/nosuch", IMAGE, "true"), r'invalid argument "/nosuch" for "--env-file" flag: .*No such file or directory', ""),
    "no such folder": (("--rootfs", "/nosuch", "true"), r'--rootfs "/nosuch" is not a directory', r"give the folder .*"),
    "bad name": (("--name", "a b", IMAGE, "true"), r'Invalid container name \(a b\) .*', ""),
    "relative directory": (("-w", "relative", IMAGE, "true"), r"the working directory 'relative' is invalid, it needs to be an absolute path", r".*"),
    "no profile": (("--security-opt", "seccomp=/nosuch", IMAGE, "true"), r"--security-opt seccomp=/nosuch: No such file or directory", r".*"),
    "no capability": (("--cap-add", "NET_ADMN", IMAGE, "true"), r'invalid CapAdd: unknown capability: "CAP_NET_ADMN"', r"did you mean CAP_NET_ADMIN\?"),
    "a sysctl of the host": (("--sysctl", "kernel.panic=1", IMAGE, "true"), r'invalid argument "kernel.panic=1" for "--sysctl" flag: .* is not allowed .*', ""),
    "nothing to run": (("--entrypoint", "", IMAGE), r"no command specified", r"name one after the image, .*"),
    "no image": ((), r"'minicontainer run' requires at least 1 argument: IMAGE", r".*"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_run_says_what_is_wrong(engine: Engine, case: str) -> None:
    """A mistake in a flag is told in docker's words where docker has some, with the way out, before anything is made."""
    words, what, advice = CASES[case]
    before = picture(engine)
    says(engine.do("run", "--rm", *words), 125, what, advice)
    assert left(before, picture(engine)) == {}


@pytest.mark.parametrize(("program", "code", "what"), [
    ("nosuch", 127, r'exec: "nosuch": executable file not found in \$PATH'),
    ("/no/such", 127, r'exec: "/no/such": stat /no/such: no such file or directory'),
    ("/etc/passwd", 126, r'exec: "/etc/passwd": permission denied'),
])  # fmt: skip
def test_missing_program(engine: Engine, program: str, code: int, what: str) -> None:
    """docker's words and exit codes for a program that can't be executed, for run and exec alike."""
    says(engine.box(IMAGE, program), code, what)
    says(engine.do("exec", engine.detached(IMAGE, "sleep", "600"), program), code, what)


def test_name_taken(engine: Engine) -> None:
    """Who has the name, and what to do."""
    ident = engine.ok("create", "--name", "twin", IMAGE, "true").strip()
    says(
        engine.box("--name", "twin", IMAGE, "true"),
        125,
        rf'The container name "/twin" is already in use by container "{ident}"\.',
        r"remove it \(`minicontainer rm twin`\) or choose another name",
    )


def test_port_taken_by_a_container(engine: Engine) -> None:
    """A port that another container has is refused, and says whose it is; nothing of the second container stays."""
    engine.ok("run", "-d", "--name", "first", "-p", "127.0.0.1:18081:80", IMAGE, "sleep", "600")
    until(lambda: os.path.exists(engine.field("first", "{{.LogPath}}")), "its monitor has begun the log")
    before = picture(engine)
    done = engine.do("run", "--rm", "-p", "127.0.0.1:18081:80", IMAGE, "true")
    assert done.code == 125
    assert "18081" in done.err
    assert len(done.err.splitlines()) <= 2
    assert left(before, picture(engine)) == {}


def test_port_taken_by_a_program(engine: Engine) -> None:
    """A port that a program of the host listens on is refused."""
    script = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 18082)); s.listen(); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([*engine.enter()[:2], "python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == b"ready\n"
        done = engine.do("run", "--rm", "-p", "127.0.0.1:18082:80", IMAGE, "true")
        program.stdin.close()
    assert done.code == 125
    assert "18082" in done.err
    assert len(done.err.splitlines()) <= 2


def test_bad_tarballs(engine: Engine, tmp_path: Path, tarball: str) -> None:
    """What is no tarball, what is cut off, and what is not there are refused, and no image is made of them."""
    (tmp_path / "text").write_text("hello\n" * 500)
    with open(tarball, "rb") as f:
        (tmp_path / "cut.tar").write_bytes(f.read(100_000))
    packed = subprocess.run(["gzip", "-c", tarball], capture_output=True, check=True).stdout
    (tmp_path / "cut.tar.gz").write_bytes(packed[:50_000])
    before = picture(engine)
    says(
        engine.do("import", f"{tmp_path}/text", "bad"),
        1,
        r"bad tarball: it does not begin with a tar header, so it is no tar archive",
        r"A tar archive may be .*",
    )
    says(engine.do("import", f"{tmp_path}/cut.tar", "bad"), 1, r"bad tarball: .*cut off.*")
    says(engine.do("import", f"{tmp_path}/cut.tar.gz", "bad"), 1, r"bad tarball: .*cut off.*")
    says(engine.do("import", f"{tmp_path}/nosuch", "bad"), 1, r"no such file: .*nosuch")
    assert left(before, picture(engine)) == {}
    assert "bad" not in engine.ok("images")


def test_configuration(engine: Engine, tmp_path: Path) -> None:
    """A configuration file that is not there, is no TOML, or has a setting that is none is told with its name."""

    def with_config(text: str | None) -> Done:
        if text is not None:
            (tmp_path / "c.toml").write_text(text)
        done = subprocess.run([PROGRAM, "--config", f"{tmp_path}/c.toml", "ps"], capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    says(with_config(None), 125, rf'no configuration file "{tmp_path}/c\.toml"', r"leave out --config, or create the file")
    says(with_config("x = [\n"), 125, rf"configuration file {tmp_path}/c\.toml: .*", r"see .*")
    says(
        with_config("[network]\nnosuch = 1\n"),
        125,
        r"configuration file .*: \[network\] nosuch = 1 is not a setting",
        r"settings are .*",
    )
    says(
        with_config('[log]\nmax_files = "three"\n'),
        125,
        r"configuration file .*: \[log\] max_files = 'three' is not a setting",
        r"settings are .*",
    )


@pytest.mark.parametrize(
    "words",
    [("run", "--rm", "--network", "none", IMAGE, "true"), ("create", IMAGE), ("ps",), ("gc",), ("rm", "x"), ("exec", "x", "true")],
)
def test_without_root(engine: Engine, words: tuple[str, ...]) -> None:
    """Any verb without root says that it needs root and how to get it."""
    demoted = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*demoted, PROGRAM, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("another user can't read this repository")
    done = subprocess.run([*demoted, *engine.command(*words)], capture_output=True, text=True, check=False)
    if "minicontainer.toml" in done.stderr:  # the test's own folder is closed to others
        words = ("--root", f"{engine.directory}/root", "--state", f"{engine.directory}/state", *words)
        done = subprocess.run([*demoted, PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert "sudo minicontainer" in done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight mebibytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_no_space_for_an_image(engine: Engine, small: Path, tarball: str) -> None:
    """An import into a full disk says so, and leaves nothing that looks like an image."""
    (small / "filler").write_bytes(bytes(6 << 20))
    state = f"{engine.directory}/state"
    done = subprocess.run(
        [PROGRAM, "--root", f"{small}/root", "--state", state, "import", tarball, IMAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no space left on the disk" in done.stderr
    assert "--root" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    listed = subprocess.run(
        [PROGRAM, "--root", f"{small}/root", "--state", state, "images", "-q"], capture_output=True, text=True, check=True
    )
    assert listed.stdout == ""


def test_no_space_for_a_container(engine: Engine, small: Path, tarball: str) -> None:
    """A start on a full disk says so, and leaves nothing."""
    base = [
        *engine.enter()[:2],
        PROGRAM,
        "--config",
        engine.settings,
        "--root",
        f"{small}/root",
        "--state",
        f"{engine.directory}/state",
    ]
    subprocess.run([*base, "import", tarball, IMAGE], check=True, capture_output=True)
    subprocess.run(["dd", "if=/dev/zero", f"of={small}/filler"], capture_output=True, check=False)  # until it is full
    done = subprocess.run([*base, "run", "--rm", "--network", "none", IMAGE, "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    os.unlink(small / "filler")
    assert subprocess.run([*base, "ps", "-aq"], capture_output=True, text=True, check=True).stdout == ""
    assert os.listdir(small / "root" / "containers") == []


def test_out_of_reach_of_overlayfs(engine: Engine, tmp_path: Path, tarball: str) -> None:
    """A data root on which overlayfs can't write (another overlayfs) is named as the reason, with the way out."""
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{engine.directory}/{name}")
    options = ",".join(f"{a}dir={engine.directory}/{a}" for a in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", f"{engine.directory}/merged"], check=True)
    try:
        base = [PROGRAM, "--config", engine.settings, "--root", f"{engine.directory}/merged/root", "--state", f"{tmp_path}/state"]
        subprocess.run([*base, "import", tarball, IMAGE], check=True, capture_output=True)
        done = subprocess.run(
            [*base, "run", "--rm", "--network", "none", IMAGE, "true"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 125
        assert len(done.stderr.splitlines()) == 2
        assert "overlay" in done.stderr
        assert "--root" in done.stderr.splitlines()[1]
    finally:
        subprocess.run(["umount", f"{engine.directory}/merged"], check=True)
        for name in ("lower", "upper", "work", "merged"):
            shutil.rmtree(f"{engine.directory}/{name}")


def fails(engine: Engine, call: str, error: str, when: int, *words: str) -> Done:
    """A run in which the kernel answers a call of the container's first process with an error, as another kernel would."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    prefix = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}")
    return engine.do("run", "--rm", "--network", "none", *words, IMAGE, "true", prefix=prefix)


def test_without_overlay(engine: Engine) -> None:
    """A kernel without overlayfs: the call, and what to do."""
    says(
        fails(engine, "mount", "ENODEV", 2),
        125,
        r'mount\("overlay", .*\): No such device \(ENODEV\), at the step: .*',
        r"this kernel has no such file system: modprobe it \(overlay for images\), or use --rootfs DIR",
    )


@pytest.mark.parametrize(("call", "error", "hint"), [
    ("pivot_root", "EINVAL", r"the new root must be a mount .*"), ("seccomp", "EINVAL", r"the filter is not one this kernel takes"),
    ("fsopen", "ENODEV", r"this kernel has no such file system: .*"), ("open_tree", "EPERM", ""), ("capset", "EPERM", ""), ("move_mount", "ENOENT", ""),
])  # fmt: skip
def test_a_step_that_fails_is_named(engine: Engine, call: str, error: str, hint: str) -> None:
    """Whatever the kernel refuses: the call with its arguments, the errno, why it was done; and nothing is left."""
    says(fails(engine, call, error, 1), 125, rf"{call}\(.*\): .* \({error}\), at the step: .+", hint)


@pytest.mark.parametrize(
    ("error", "hint"),
    [("ENOSPC", "a limit on namespaces is reached: .*"), ("EAGAIN", "too many processes: .*"), ("EPERM", "run it as root .*")],
)
def test_a_clone_that_fails_is_explained(engine: Engine, error: str, hint: str) -> None:
    """clone's misleading errnos have their meaning beside them."""
    prefix = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", f"inject=clone3:error={error}:when=1+")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    says(engine.do("run", "--rm", "--network", "none", IMAGE, "true", prefix=prefix), 125, r"clone3: .*", hint)


def test_without_nft(other_engine: Engine, tmp_path: Path) -> None:
    """A host without the nft program says so when it is needed for the first time; --network none goes without."""
    engine = other_engine
    done = engine.do("run", "--rm", IMAGE, "true", prefix=("/usr/bin/env", f"PATH={tmp_path}"))
    assert done.code == 125
    assert "nft" in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 2
    assert engine.do("run", "--rm", "--network", "none", IMAGE, "true", prefix=("/usr/bin/env", f"PATH={tmp_path}")).code == 0


def test_hard_limit_without_the_right_to_raise_it(engine: Engine) -> None:
    """--ulimit above the hard limit, without CAP_SYS_RESOURCE: a clear error and no silent less."""
    done = engine.do(
        "run",
        "--rm",
        "--network",
        "none",
        "--ulimit",
        "nofile=2000000:2000000",
        IMAGE,
        "true",
        prefix=("setpriv", "--bounding-set=-sys_resource"),
    )
    if done.code == 0:
        pytest.skip("this process may raise its limits, also without CAP_SYS_RESOURCE in the bounding set")
    says(
        done,
        125,
        r"prlimit64\(0, RLIMIT_NOFILE, .*\): Operation not permitted \(EPERM\), at the step: RLIMIT_NOFILE: asked for",
        r"raising a hard limit takes CAP_SYS_RESOURCE, .*",
    )


def test_out_of_memory_is_told(engine: Engine) -> None:
    """What the OOM killer ended is 137, and inspect says OOMKilled."""
    done = engine.do("run", "--name", "big", "--network", "none", "-m", "16m", "--memory-swap", "16m", IMAGE, "tail", "/dev/zero")
    assert done.code == 137
    assert engine.field("big", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"


def test_unreadable_state(engine: Engine) -> None:
    """A state folder that can't be made is told with its path."""
    done = engine.do("--state", "/proc/nosuch", "run", "--rm", "--network", "none", IMAGE, "true")
    assert done.code == 125
    assert "/proc/nosuch" in done.err
    assert len(done.err.splitlines()) <= 2


def test_help_is_everywhere(engine: Engine) -> None:
    """Every verb has its help, with docker's Usage line."""
    verbs = re.findall(r"^  (\w+) ", engine.ok("--help").partition("Containers:")[2], re.M)
    assert len(verbs) > 20
    for verb in verbs:
        out = engine.ok(verb, "--help")
        assert out.startswith("\nUsage:") or out.startswith("Usage:"), verb


def test_closed_output(engine: Engine) -> None:
    """A reader that goes away is no error message."""
    a, b = socket.socketpair()
    with engine.spawn("--help", stdout=a, stderr=subprocess.PIPE) as running:
        b.close()
        a.close()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    until(lambda: running.poll() is not None, "it ends")
