"""minicontainer-oci: the lifecycle of the OCI runtime spec from a bundle, beside runc's own words and exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.clients.daemon import cgroups_named
from tests.integration.engine import until
from tests.integration.oci import Oci


def state(oci: Oci) -> dict:
    return json.loads(oci.ok("state", "one"))


def test_run_gives_the_programs_output_and_exit_code_and_leaves_nothing(oci: Oci) -> None:
    done = oci.run("sh", "-c", "hostname; echo $$; exit 7")
    assert (done.code, done.out) == (7, "oci\n1\n"), done
    assert not cgroups_named(f"{oci.cgroup}/one")
    assert not oci.left()


def test_a_created_container_waits_for_start_and_goes_through_the_states_of_the_spec(oci: Oci) -> None:
    oci.write("sleep", "600")
    oci.ok("create", "--bundle", str(oci.bundle), "--pid-file", str(oci.bundle / "pid"), "one")
    made = state(oci)
    assert made["status"] == "created" and made["pid"] == int((oci.bundle / "pid").read_text())
    assert Path(f"/proc/{made['pid']}/comm").read_text() == "minicontainer\n"
    oci.ok("start", "one")
    assert state(oci)["status"] == "running"
    assert oci.do("exec", "one", "sh", "-c", "exit 4").code == 4
    oci.ok("pause", "one")
    assert state(oci)["status"] == "paused"
    oci.ok("resume", "one")
    assert "not stopped" in oci.do("delete", "one").err
    oci.ok("kill", "one", "KILL")
    until(lambda: state(oci)["status"] == "stopped", "it is killed")
    assert "container not running" in oci.do("kill", "one", "TERM").err
    oci.ok("delete", "one")
    assert "container does not exist" in oci.do("state", "one").err
    oci.ok("delete", "--force", "one")  # silent for one that is gone, as runc


def test_a_program_that_is_not_there_is_told_by_create_and_by_run(oci: Oci) -> None:
    oci.write("no-such-program")
    for verb in ("create", "run"):
        done = oci.do(verb, "one")
        assert done.code == 1 and "executable file not found in $PATH" in done.err
        assert not oci.left()


def test_an_execve_that_fails_is_told_by_start(oci: Oci) -> None:
    (oci.rootfs / "broken").write_bytes(b"\x7fELF is what it begins with, and all there is")
    (oci.rootfs / "broken").chmod(0o755)
    oci.write("/broken")
    oci.ok("create", "one")
    done = oci.do("start", "one")
    assert done.code == 1 and "exec format error" in done.err
    assert state(oci)["status"] == "stopped"
    oci.ok("delete", "one")


def test_errors_are_the_last_json_line_of_the_log_and_exit_codes_are_runcs(oci: Oci) -> None:
    oci.write("sleep", "600")
    log = oci.bundle / "log.json"
    oci.ok("create", "one")
    again = oci.do("--log", str(log), "--log-format", "json", "create", "one")
    last = json.loads(log.read_text().splitlines()[-1])
    assert again.code == 1 and last["level"] == "error" and "container with given ID already exists" in last["msg"]
    assert oci.do("exec", "one", "no-such-program").code == 255


def test_an_id_that_leads_elsewhere_is_refused(oci: Oci) -> None:
    oci.write("true")
    done = oci.do("run", "../x")
    assert done.code == 1 and "invalid container id" in done.err and "Traceback" not in done.err
    assert not oci.root.exists() or os.listdir(oci.root) == []
