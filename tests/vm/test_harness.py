"""The v2 guest itself: what it boots from, what it hands back, and what it says when it can't."""

from __future__ import annotations

import os
import subprocess

import pytest
from initramfs import DIRECTORY, PLAIN, newc, shell_settings
from stock_kernel import find, module_name, unsigned, version_key
from trouble import GUEST_FAILED, TIMED_OUT, Trouble, program

RUN = f"{os.path.dirname(__file__)}/run"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the guest is booted by root only")


def guest(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=200, **options)


def test_archive_is_what_cpio_reads(tmp_path):
    """busybox' cpio unpacks the initramfs archive to the same names, types and contents."""
    archive = newc([("a", DIRECTORY, b""), ("a/three", PLAIN, b"123"), ("a/four", PLAIN, b"1234")])
    unpack = subprocess.run(
        ["busybox", "cpio", "-i"], input=archive, cwd=tmp_path, capture_output=True, check=True
    )
    assert b"error" not in unpack.stderr
    assert (tmp_path / "a/three").read_bytes() == b"123"
    assert (tmp_path / "a/four").read_bytes() == b"1234"


def test_settings_survive_a_shell():
    """A path with quotes and spaces comes out of the guest's shell as it went in."""
    script = shell_settings({"REPOSITORY": '/it\'s a "path" $HOME'}) + b'printf %s "$REPOSITORY"'
    assert subprocess.check_output(["sh"], input=script) == b'/it\'s a "path" $HOME'


def test_module_names_and_versions():
    """A module file is known by its kernel name, and the newest kernel is the numerically newest."""
    assert module_name("kernel/net/bridge/br-nf.ko.xz") == "br_nf"
    assert max(["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-99-amd64"], key=version_key) == "6.1.0-56-amd64"


def test_signature_is_cut_off():
    """A signed module loses exactly its signature, and an unsigned one nothing."""
    signature, info = b"s" * 300, bytes(8) + (300).to_bytes(4, "big")
    assert unsigned(b"\x7fELF" + signature + info + b"~Module signature appended~\n") == b"\x7fELF"
    assert unsigned(b"\x7fELF") == b"\x7fELF"


def test_no_kernel_is_none(tmp_path):
    """Directories without a bootable kernel are no kernel."""
    (tmp_path / "lib/modules/6.1/kernel/fs/9p").mkdir(parents=True)
    assert find([str(tmp_path)]) is None


def test_missing_program_names_its_package(monkeypatch):
    """A missing QEMU is one line with the apt command."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Trouble, match="apt-get install qemu-system-x86"):
        program("qemu-system-of-no-machine", "qemu-system-x86")


def test_command_is_required():
    """Without a command the harness explains itself and boots nothing."""
    result = guest()
    assert result.returncode == 2
    assert "tests/vm/run" in result.stderr


@needs_root
def test_guest_is_pure_v2_with_every_controller(tmp_path):
    """The guest has nothing but cgroup2 with its controllers on; the command's output and status come back;
    what it writes outside the repository stays in the guest."""
    script = f"""
        grep cgroup /proc/mounts; cat /sys/fs/cgroup/cgroup.subtree_control; cat /proc/self/cgroup
        mkdir -p {tmp_path}; touch {tmp_path}/mark /etc/mark; echo "to stderr" >&2; exit 42
    """
    result = guest("--timeout", "120", "--", "sh", "-c", script)
    assert result.returncode == 42
    lines = result.stdout.splitlines()
    assert lines[0].startswith("cgroup2 /sys/fs/cgroup cgroup2")
    assert set(lines[1].split()) >= {"cpuset", "cpu", "io", "memory", "pids"}
    assert lines[2:] == ["0::/init", "to stderr"]  # the root cgroup stays empty; both streams are one
    assert os.listdir(tmp_path) == []
    assert not os.path.exists("/etc/mark")


@needs_root
def test_time_is_up():
    """A command that doesn't end is ended, with timeout's status and a message."""
    result = guest("--timeout", "1", "--", "sleep", "1000")
    assert result.returncode == TIMED_OUT
    assert "did not end within 1.0 s" in result.stderr


@needs_root
def test_dead_guest_shows_its_last_words():
    """When the guest's kernel ends before the command does, the status is 125 and its console is shown."""
    result = guest("--timeout", "120", "--", "sh", "-c", "echo c >/proc/sysrq-trigger")
    assert result.returncode == GUEST_FAILED
    assert "sysrq triggered crash" in result.stderr.lower()
