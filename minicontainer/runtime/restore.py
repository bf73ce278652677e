"""restore: a container made again, by criu, from what checkpoint.py saved.

this process                          criu, a child                       the container
────────────                          ─────────────                       ─────────────
state, cgroup
fork ───────────────────────────────▶ its own mounts, root on itself
it enters the cgroup
write one byte ─────────────────────▶ execve, restores ─────────────────▶ clone with CLONE_PARENT: our child
hooks, when asked ◀──── two pipes ─── setup-namespaces
pid file ◀─────────────────────────── ends                                goes on where it was
"""

from __future__ import annotations

import os
from select import POLLIN, poll
from signal import SIG_SETMASK, pthread_sigmask

from minicontainer import fastjson
from minicontainer.errors import MinicontainerError, NotFound, StartError, Unsupported, UsageError
from minicontainer.kernel import calls, spawn
from minicontainer.kernel.flags import CLONE, MS
from minicontainer.runtime import hooks
from minicontainer.runtime import state as states
from minicontainer.runtime.bundle import load_spec
from minicontainer.runtime.cgroups import cgroup_of, path_of, resources_of
from minicontainer.runtime.checkpoint import STREAMS, outside
from minicontainer.runtime.criu import Images, check_terminal, external, joined
from minicontainer.runtime.ending import destroy
from minicontainer.runtime.launch import Launch, start_error
from minicontainer.runtime.lifecycle import first_state, write_pid_file
from minicontainer.runtime.plan import Plan
from minicontainer.runtime.processes import start_time
from minicontainer.runtime.state import OciContainer, silently
from minicontainer.stub import program as prog
from minicontainer.stub.ops import Op, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minicontainer.cgroup.group import Cgroup


def restore(
    root: str,
    ident: str,
    bundle: str,
    images: Images,
    *,
    pid_file: str = "",
    systemd: bool = False,
    rootless: bool | None = None,
    warn: Callable[[str], None] = silently,
) -> OciContainer:
    """A container that runs again; its .launch has the pid, which is a child of ours. Nothing is left when it fails.

    root, ident, bundle, systemd, rootless, warn: as of lifecycle.create.
    """
    states.check_id(ident)
    bundle = os.path.abspath(bundle)
    spec, text = load_spec(bundle)
    check_terminal(spec)
    if not os.path.isdir(images.images):
        raise NotFound(f"open {images.images}: no such file or directory", "--image-path names the folder that checkpoint wrote")
    os.makedirs(images.work, 0o700, exist_ok=True)
    hooks.check(spec)
    path = path_of(spec, ident, systemd=systemd, rootless=rootless)
    states.check_free(root, ident)
    cgroup = cgroup_of(path)
    resources = resources_of(spec)
    before = cgroup.create_ops(resources)
    container, lock = states.make(root, ident, first_state(spec, bundle, path, cgroup))
    try:
        with open(f"{container.dir}/config.json", "wb") as f:
            f.write(text)
        _do(before)
        _Restore(container, spec, images, cgroup).run()
        cgroup.verify(resources)
        if pid_file:
            write_pid_file(pid_file, container.state["pid"])
    except BaseException:
        destroy(container, warn)
        raise
    finally:
        os.close(lock)
    return container


class _Restore:
    """One run of criu."""

    def __init__(self, container: OciContainer, spec: dict, images: Images, cgroup: Cgroup) -> None:
        self.container = container
        self.spec = spec
        self.images = images
        self.cgroup = cgroup
        self.pid_file = f"{container.dir}/criu.pid"
        self.fds: list[int] = []  # for criu
        self.hooks = any((spec.get("hooks") or {}).get(name) for name in ("prestart", "createRuntime"))
        self.asks = self.answers = (-1, -1)

    def run(self) -> None:
        """To its end: the container runs, and its state says so."""
        words = ["--restore-detached", "--restore-sibling", "--evasive-devices", "--pidfile", self.pid_file]
        words += [*self._namespaces(), *self._mounts(), *self._streams(), *self._script()]
        gate, go = os.pipe()
        criu = os.fork()
        if not criu:
            self._become_criu(gate, words)
        os.close(gate)
        try:
            self.cgroup.adopt(criu, self.container.state["annotations"])
            entering = self.cgroup.enter_ops(criu)
            if unified := self.cgroup.unified_dir():
                entering.append(write_file(f"{unified}/cgroup.procs", str(criu), why="what it restores is born in the group"))
            _do(entering)
            os.write(go, b"g")
            status = self._stand_by(criu)
        except BaseException:
            os.kill(criu, 9)
            os.waitpid(criu, 0)
            raise
        finally:
            for fd in (go, *self.fds):
                os.close(fd)
        if status:
            raise self.images.failure("restore", status)
        self._remember()

    def _become_criu(self, gate: int, words: list[str]) -> None:
        """In the child; never returns. criu wants the root to be a mount of its own; ours ends with this namespace."""
        try:
            rootfs = self.container.state["rootfs"]
            calls.unshare(CLONE["CLONE_NEWNS"])
            calls.mount("none", "/", "", MS["MS_REC"] | MS["MS_PRIVATE"])
            calls.mount(rootfs, rootfs, "", MS["MS_BIND"] | MS["MS_REC"])
            pthread_sigmask(SIG_SETMASK, ())  # whoever stands by a container holds signals back
            if os.read(gate, 1):
                command = self.images.command("restore", self.spec, "--root", rootfs, *self._cgroup_roots(), *words)
                os.execv(command[0], command)
        except (OSError, MinicontainerError) as e:
            os.write(2, f"before criu: {e}\n".encode())
        finally:
            os._exit(127)

    def _cgroup_roots(self) -> list[str]:
        """Where the container's groups are now; they may have been others."""
        words = []
        with open("/proc/self/cgroup") as f:
            for line in f:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                words += ["--cgroup-root", f"{controllers}:{path}" if controllers else path]
        return words

    def _namespaces(self) -> list[str]:
        words = []
        for kind, path in joined(self.spec).items():
            if key := external(kind):
                words += ["--inherit-fd", f"fd[{self._given(os.open(path, os.O_RDONLY))}]:{key}"]
            elif kind == "cgroup":
                raise Unsupported("a container in another's cgroup namespace can't be restored", "criu can't join one")
            else:
                words += ["--join-ns", f"{'mnt' if kind == 'mount' else kind}:{path}"]
        return words

    def _given(self, fd: int) -> int:
        os.set_inheritable(fd, True)
        self.fds.append(fd)
        return fd

    def _mounts(self) -> list[str]:
        words = ["--external", "mnt[/dev/null]:/dev/null"]
        for place, source in outside(self.spec, self.container.state["bundle"], self.cgroup).items():
            words += ["--external", f"mnt[{place}]:{source}"]
        return words

    def _streams(self) -> list[str]:
        """A pipe or file of who called then is one of who calls now."""
        try:
            with open(f"{self.images.images}/{STREAMS}", "rb") as f:
                streams = fastjson.loads(f.read())
        except (FileNotFoundError, ValueError):
            streams = None
        if not isinstance(streams, list) or len(streams) > 3 or not all(isinstance(text, str) for text in streams):
            raise UsageError(f"{self.images.images}/{STREAMS} is missing or wrong", "is this a checkpoint of a container?")
        words = []
        for fd, text in enumerate(streams):
            if text.startswith(("pipe:", "file[")):
                # A copy: criu closes what it has been given, and looks for a terminal at 0 afterwards (--shell-job).
                words += ["--inherit-fd", f"fd[{self._given(os.dup(fd))}]:{text}"]
        return words

    # -- the host's hooks ---------------------------------------------------------------------------------------------------------

    def _script(self) -> list[str]:
        """A program that criu runs at each of its steps: at the one for hooks it asks us, and waits. All of it in descriptors of
        ours, since the state's folder may be on a file system without programs (noexec)."""
        if not self.hooks:
            return []
        self.asks, self.answers = os.pipe(), os.pipe()
        at = f"/proc/{os.getpid()}/fd"
        script = calls.memfd_create("criu-hooks", 0)
        os.write(
            script,
            f"""#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = setup-namespaces ] || exit 0
echo "$CRTOOLS_INIT_PID" >{at}/{self.asks[1]}
read -r answer <{at}/{self.answers[0]} && [ "$answer" = go ]
""".encode(),
        )
        program = os.open(f"/proc/self/fd/{script}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(script)  # what is open for writing can't be executed
        self.fds += [*self.asks, *self.answers, program]
        return ["--action-script", f"{at}/{program}"]

    def _stand_by(self, criu: int) -> int:
        """criu's wait status; the hooks run when it asks for them. StartError if one fails."""
        failed = None
        if self.hooks:
            end = os.pidfd_open(criu)
            self.fds.append(end)
            either = poll()
            either.register(end, POLLIN)
            either.register(self.asks[0], POLLIN)
            while all(fd != end for fd, _ in either.poll()):
                state = self.container.hook_state("creating", int(os.read(self.asks[0], 32)))
                try:
                    hooks.run(self.spec, "prestart", state)
                    hooks.run(self.spec, "createRuntime", state)
                except StartError as e:
                    failed = e
                os.write(self.answers[1], b"no\n" if failed else b"go\n")
        status = os.waitpid(criu, 0)[1]
        if failed:
            raise failed
        return status

    def _remember(self) -> None:
        with open(self.pid_file, "rb") as f:
            pid = int(f.read())
        os.unlink(self.pid_file)
        started = start_time(pid)
        if not started:
            raise MinicontainerError("the restored container's first process has ended already")
        self.container.state.update(pid=pid, pid_start=started)
        self.container.save()
        launch = self.container.launch = Launch(Plan())
        launch.pid, launch.pidfd = pid, calls.pidfd_open(pid)


def _do(ops: list[Op]) -> None:
    """Host ops, one after the other. StartError for the one that fails."""
    if not ops:
        return
    program = prog.Program(ops, {})
    failed = spawn.run_here(program.code)
    if failed >= 0:
        raise start_error(ops[failed], program.results()[failed].errno)
