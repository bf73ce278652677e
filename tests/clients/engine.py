"""An engine with docker's command line (docker, podman) that uses one OCI runtime: what the scripts are written for."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from typing import Any

from tests.clients.daemon import succeeded

COMMAND_SECONDS = 240.0  # the cgroup v2 guest is some 20 times slower than its host


class Engine:
    """What docker and podman have in common; each says how it is called.

    runtime: as the engine knows it; image: busybox; network: what `--network` takes for the default bridge.
    """

    runtime: str
    image = "localhost/busybox:latest"

    def command(self, *words: str) -> list[str]:
        """The whole command line of one call."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of a call."""
        return dict(os.environ)

    def cli(self, *words: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """One call; its output is captured."""
        command = self.command(*words)
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=COMMAND_SECONDS, env=self.environment())
        return succeeded(done) if check else done

    def out(self, *words: str) -> str:
        """What a call that must succeed prints, without the last newline."""
        return self.cli(*words).stdout.decode().removesuffix("\n")

    def run_words(self, *flags: str) -> list[str]:
        """`run` with the runtime and these flags."""
        return ["run", *flags]

    def shell(self, script: str, *flags: str, check: bool = True, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A container that runs a shell script and is removed; without a network unless flags say otherwise."""
        network = () if any(flag.startswith("--net") for flag in flags) else ("--network", "none")
        return self.cli(*self.run_words("--rm", *network, *flags), self.image, "sh", "-c", script, check=check, stdin=stdin)

    def prints(self, script: str, *flags: str) -> str:
        """What such a script prints; it must succeed."""
        return self.shell(script, *flags).stdout.decode().removesuffix("\n")

    def detached(self, name: str, script: str, *flags: str) -> None:
        """A container that runs a shell script in the background; without a network unless flags say otherwise."""
        network = () if any(flag.startswith("--net") for flag in flags) else ("--network", "none")
        self.cli(*self.run_words("--detach", "--name", name, *network, *flags), self.image, "sh", "-c", script)

    def state(self, name: str) -> dict[str, Any]:
        """`inspect`'s State of a container."""
        return json.loads(self.out("inspect", "--format", "{{json .State}}", name))

    def on_terminal(self, words: list[str], typed: bytes, *, rows: int = 33, columns: int = 99) -> tuple[int, str]:
        """A call on a terminal of this size, into which `typed` is typed: exit status, and what the terminal showed."""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        call = subprocess.Popen(
            self.command(*words), stdin=slave, stdout=slave, stderr=slave, env=self.environment(), start_new_session=True
        )
        os.close(slave)
        os.write(master, typed)
        shown, deadline = b"", time.monotonic() + COMMAND_SECONDS
        try:
            while time.monotonic() < deadline:
                if select.select([master], [], [], 0.2)[0]:
                    shown += os.read(master, 65536)
                elif call.poll() is not None:
                    break
        except OSError:  # EIO: nobody has the other end any more (pty(7))
            pass
        finally:
            os.close(master)
            if call.poll() is None and time.monotonic() > deadline:
                call.send_signal(signal.SIGKILL)
        return call.wait(COMMAND_SECONDS), shown.decode(errors="replace")

    def clean(self) -> None:
        """Remove every container."""
        raise NotImplementedError
