"""The guest: boots the kernel under QEMU, relays the command's output, and tells how it ended.

host                                          guest
run -- COMMAND                                init.sh    root = overlay(9p of the host's /, scratch disk)
  exchange/command  ───────── 9p ─────────▶   first.sh   runs the command in the repository
  stdout  ◀──────── virtio-serial port ────              its stdout and stderr
  exchange/status  ◀───────── 9p ──────────              its exit status; then the guest switches itself off
"""

from __future__ import annotations

import ctypes
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from initramfs import initramfs
from trouble import GUEST_FAILED, TIMED_OUT, Trouble, program

if TYPE_CHECKING:
    from stock_kernel import Kernel

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SWITCH_OFF_SECONDS = 10.0  # from the status being there to QEMU's end; after that it is killed
POLL_SECONDS = 0.5
CONSOLE_TAIL_CHARACTERS = 3000

PASSED_VARIABLES = ("PATH", "HOME", "TERM", "VIRTUAL_ENV", "CI")
PASSED_PREFIXES = ("LANG", "LC_", "PYTHON", "PYTEST", "MINICONTAINER_")

SERVICE = """\
[Unit]
Description=The command that this guest was booted for
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
[Service]
Delegate=yes
ExecStart=/run/guest/busybox sh /run/guest/first.sh
"""


class Guest:
    """One boot of one command.

    scratch: an empty directory of its own (the caller removes it); repository: shared read-write at its own
    path; directory: where the command runs, inside the repository; memory: as QEMU's -m takes it.
    """

    def __init__(
        self,
        kernel: Kernel,
        cache: str,
        scratch: str,
        repository: str,
        directory: str,
        memory: str,
        systemd: bool,
    ) -> None:
        self.kernel = kernel
        self.cache = cache
        self.scratch = scratch
        self.repository = repository
        self.directory = directory
        self.memory = memory
        self.systemd = systemd
        self.exchange = f"{scratch}/exchange"
        self.console = f"{scratch}/console"

    def prepare(self, command: list[str], environment: dict[str, str], terminal: bool) -> None:
        """Write what the guest boots from and what it is to do. Raises Trouble."""
        if self.systemd and not os.path.exists("/lib/systemd/systemd"):
            raise Trouble(
                "--systemd boots the host's own systemd, which is not installed: apt-get install systemd dbus"
            )
        os.mkdir(self.exchange)
        exports = (f"export {name}={shlex.quote(value)}" for name, value in environment.items())
        lines = [*exports, f"cd {shlex.quote(self.directory)}", f"exec {shlex.join(command)}"]
        write(f"{self.exchange}/command", "\n".join(lines) + "\n")
        write(f"{self.exchange}/v2-guest.service", SERVICE)
        if terminal:
            write(f"{self.exchange}/terminal", "")
        settings = {
            "REPOSITORY": self.repository,
            "KERNEL": self.kernel.base,
            "SYSTEMD": "1" if self.systemd else "",
        }
        with open(f"{self.scratch}/initramfs", "wb") as file:
            file.write(initramfs(self.kernel, settings))
        with open(f"{self.scratch}/disk", "wb") as file:
            file.truncate(8 << 30)  # sparse
        mkfs = [program("mkfs.ext4", "e2fsprogs"), "-q", "-O", "^has_journal", f"{self.scratch}/disk"]
        subprocess.run(mkfs, check=True, stdout=subprocess.DEVNULL)

    def qemu(self) -> list[str]:
        """QEMU's arguments; its stdin and stdout are the guest's serial port."""
        arguments = [program("qemu-system-x86_64", "qemu-system-x86")]
        arguments += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc"]
        # Emulated, page-table and SMAP features that a guest checks on every access only cost time.
        arguments += (
            ["-accel", "kvm", "-cpu", "host"]
            if kvm_works()
            else ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,erms=off,smap=off"]
        )
        arguments += ["-m", self.memory, "-smp", str(min(2, os.cpu_count() or 1))]
        arguments += ["-kernel", self.kernel.image(self.cache), "-initrd", f"{self.scratch}/initramfs"]
        arguments += ["-append", self.kernel_command_line(), "-serial", f"file:{self.console}"]
        arguments += ["-device", "virtio-serial", "-chardev", "stdio,id=output,signal=off"]
        arguments += ["-device", "virtserialport,chardev=output"]
        arguments += ["-drive", f"file={option_value(self.scratch)}/disk,if=virtio,format=raw,cache=unsafe"]
        for tag, path, readonly in (
            ("host", "/", "on"),
            ("repository", self.repository, "off"),
            ("exchange", self.exchange, "off"),
        ):
            local = f"local,id={tag},path={option_value(path)},readonly={readonly}"
            local += ",security_model=none,multidevs=remap"
            arguments += ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return arguments

    def kernel_command_line(self) -> str:
        words = ["console=ttyS0", "quiet", "panic=-1", "cgroup_no_v1=all", "psi=1"]
        words += ["mitigations=off", "random.trust_cpu=on", "audit=0", "lsm="]
        if self.systemd:
            words += ["systemd.unit=v2-guest.service", "systemd.log_level=warning"]
        if not kvm_works():
            # rep movs/stos are slow when emulated; the clock needs no check against a second one.
            words += ["tsc=reliable", "clearcpuid=rep_good", "init_on_alloc=0"]
        return " ".join(words)

    def boot(self, terminal: bool) -> subprocess.Popen[bytes]:
        """Start QEMU; it dies with this process. Its stdin stays open: at EOF it would close the port."""
        return subprocess.Popen(
            self.qemu(),
            stdin=None if terminal else subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )

    def relay(self, qemu: subprocess.Popen[bytes], output: int, timeout_seconds: float | None) -> int:
        """Copy the guest's output to the descriptor `output` until it is off; the exit status to end with.

        TIMED_OUT when the time was up, GUEST_FAILED when the guest ended without a status.
        """
        assert qemu.stdout is not None
        source = qemu.stdout.fileno()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        done = False
        while True:
            if select.select([source], [], [], POLL_SECONDS)[0]:
                chunk = os.read(source, 1 << 16)
                if not chunk:
                    break
                write_all(output, chunk)
            elif deadline is not None and time.monotonic() > deadline:
                if not done:
                    return TIMED_OUT
                break
            if not done and self.status() is not None:
                done, deadline = True, time.monotonic() + SWITCH_OFF_SECONDS
        status = self.status()
        return GUEST_FAILED if status is None else status

    def status(self) -> int | None:
        """The command's exit status, once the guest has written it."""
        try:
            with open(f"{self.exchange}/status") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        return int(text) if text.endswith("\n") else None

    def last_words(self) -> str:
        """The end of what the guest's kernel printed on its console."""
        try:
            with open(self.console, errors="replace") as file:
                return file.read()[-CONSOLE_TAIL_CHARACTERS:]
        except FileNotFoundError:
            return ""

    def run(
        self,
        command: list[str],
        *,
        environment: dict[str, str],
        output: int,
        timeout_seconds: float | None = None,
        terminal: bool = False,
    ) -> int:
        """Boot, run `command`, and return its exit status (or TIMED_OUT, GUEST_FAILED). Raises Trouble."""
        self.prepare(command, environment, terminal)
        qemu = self.boot(terminal)
        try:
            status = self.relay(qemu, output, timeout_seconds)
        finally:
            if terminal:
                qemu.terminate()  # unlike SIGKILL, this gives the terminal back as it was
            else:
                qemu.kill()
            qemu.wait()
        if self.status() is None:
            what = f"did not end within {timeout_seconds} s" if status == TIMED_OUT else "died"
            sys.stderr.write(f"vm: the guest {what}; its last messages:\n{self.last_words()}\n")
        return status


def kvm_works() -> bool:
    """Whether KVM can run a stock kernel: under other KVM modules (kvm_pvm) it hangs at once."""
    real = os.path.exists("/sys/module/kvm_intel") or os.path.exists("/sys/module/kvm_amd")
    return real and os.access("/dev/kvm", os.R_OK | os.W_OK)


def passed_environment(environment: dict[str, str]) -> dict[str, str]:
    """The part of the environment that the command gets in the guest."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
    }


def option_value(path: str) -> str:
    """A path inside QEMU's comma-separated options: its own commas doubled."""
    return path.replace(",", ",,")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
