"""RunOptions: from the command line, to disk and back, and what contradicts itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minicontainer.cli.flags import parse
from minicontainer.cli.run_flags import RUN_FLAGS
from minicontainer.engine import options_check
from minicontainer.engine.options import RunOptions, from_flags
from minicontainer.errors import MinicontainerError, Unsupported, UsageError


def asked(*argv: str) -> RunOptions:
    return from_flags(*parse(RUN_FLAGS, argv, False, "minicontainer run"))


def test_defaults() -> None:
    """Nothing asked for is docker's defaults, and nothing to store but the image and the command."""
    options = asked("busybox", "ls", "-l")
    assert options.to_dict() == {"image": "busybox", "args": ["ls", "-l"]}
    assert options.shm_size_bytes == 64 << 20 and options.memory_swappiness == -1 and options.init is None


def test_every_flag_reaches_its_field(tmp_path: Any) -> None:
    """Each flag sets the field that the engine reads, with units resolved, and the whole survives JSON."""
    env, labels = tmp_path / "env", tmp_path / "labels"
    env.write_text("FILE=1\n")
    labels.write_text("from=file\n")
    given: dict[str, dict[str, Any]] = {
        "--add-host=a:1.2.3.4": {"add_hosts": ["a:1.2.3.4"]}, "--annotation=a=b": {"annotations": {"a": "b"}},
        "--attach=stdout": {"attach": ["stdout"]}, "--blkio-weight=100": {"blkio_weight": 100},
        "--blkio-weight-device=/dev/a:20": {"blkio_weight_device": [["/dev/a", 20]]}, "--cap-add=a": {"cap_add": ["a"]},
        "--cap-drop=all": {"cap_drop": ["all"]}, "--cgroup-parent=/x": {"cgroup_parent": "/x"},
        "--cgroupns=host": {"cgroupns_mode": "host"}, "--cidfile=/c": {"cidfile": "/c"},
        "--cpu-period=1000": {"cpu_period_us": 1000}, "--cpu-quota=2000": {"cpu_quota_us": 2000},
        "--cpu-shares=5": {"cpu_shares": 5}, "--cpus=.5": {"nano_cpus": 5 * 10**8}, "--cpuset-cpus=0": {"cpuset_cpus": "0"},
        "--cpuset-mems=0": {"cpuset_mems": "0"}, "--detach": {"detach": True},
        "--device=/dev/a:r": {"devices": [{"host": "/dev/a", "container": "/dev/a", "access": "r"}]},
        "--device-cgroup-rule=c 1:2 r": {
            "device_cgroup_rules": [{"allow": True, "type": "c", "major": 1, "minor": 2, "access": "r"}]},
        "--device-read-bps=/dev/a:1k": {"device_read_bps": [["/dev/a", 1024]]},
        "--device-write-bps=/dev/a:1k": {"device_write_bps": [["/dev/a", 1024]]},
        "--device-read-iops=/dev/a:1": {"device_read_iops": [["/dev/a", 1]]},
        "--device-write-iops=/dev/a:1": {"device_write_iops": [["/dev/a", 1]]},
        "--dns=1.1.1.1": {"dns": ["1.1.1.1"]}, "--dns-opt=ndots:2": {"dns_options": ["ndots:2"]},
        "--dns-option=ndots:2": {"dns_options": ["ndots:2"]}, "--dns-search=a.b": {"dns_search": ["a.b"]},
        "--domainname=d": {"domainname": "d"}, "--dry-run": {"dry_run": True}, "--entrypoint=/e": {"entrypoint": ["/e"]},
        "--entrypoint=": {"entrypoint": []}, "--env=A=1": {"env": ["A=1"]}, f"--env-file={env}": {"env": ["FILE=1"]},
        "--explain": {"explain": "text"}, "--expose=5-6": {"expose": ["5/tcp", "6/tcp"]}, "--group-add=g": {"group_add": ["g"]},
        "--hostname=h": {"hostname": "h"}, "--init": {"init": True}, "--init=false": {"init": False},
        "--interactive": {"interactive": True}, "--ip=1.2.3.4": {"ip": "1.2.3.4"}, "--ip6=::1": {"ip6": "::1"},
        "--ipc=host": {"ipc_mode": "host"}, "--label=a=b": {"labels": {"a": "b"}}, f"--label-file={labels}": {
            "labels": {"from": "file"}}, "--log-driver=none": {"log_driver": "none"},
        "--log-opt=max-file=2": {"log_options": {"max-file": 2}}, "--mac-address=02:00:00:00:00:01": {
            "mac_address": "02:00:00:00:00:01"}, "--memory=7m": {"memory_bytes": 7 << 20},
        "--memory-reservation=6m": {"memory_reservation_bytes": 6 << 20}, "--memory-swap=-1": {"memory_swap_bytes": -1},
        "--memory-swappiness=5": {"memory_swappiness": 5},
        "--mount=type=tmpfs,dst=/t": {"mounts": [{"type": "tmpfs", "source": "", "target": "/t", "options": []}]},
        "--name=nn": {"name": "nn"}, "--net=host": {"network": "host"}, "--network=none": {"network": "none"},
        "--no-healthcheck": {}, "--oom-kill-disable": {"oom_kill_disable": True}, "--oom-score-adj=5": {"oom_score_adj": 5},
        "--pid=host": {"pid_mode": "host"}, "--pids-limit=5": {"pids_limit": 5}, "--privileged": {"privileged": True},
        "--publish=80:80": {"publish": ["80:80"]}, "--publish-all": {"publish_all": True}, "--pull=never": {}, "--quiet": {},
        "--read-only": {"read_only": True}, "--restart=on-failure:2": {"restart": ["on-failure", 2]}, "--rm": {"rm": True},
        "--platform=linux": {}, "--security-opt=seccomp=unconfined": {"seccomp": "unconfined"},
        "--security-opt=seccomp=builtin": {"seccomp": "default"}, "--security-opt=seccomp=/p.json": {"seccomp": "/p.json"},
        "--security-opt=no-new-privileges": {"no_new_privileges": True},
        "--security-opt=systempaths=unconfined": {"unmask": ["ALL"]}, "--security-opt=mask=/a:/b": {"mask": ["/a", "/b"]},
        "--security-opt=writable-cgroups=true": {"writable_cgroups": True}, "--security-opt=label=disable": {},
        "--shm-size=1m": {"shm_size_bytes": 1 << 20}, "--sig-proxy=false": {"sig_proxy": False},
        "--stop-signal=INT": {"stop_signal": "INT"}, "--stop-timeout=3": {"stop_timeout": 3},
        "--sysctl=net.a=1": {"sysctls": {"net.a": "1"}}, "--tmpfs=/t:exec": {
            "mounts": [{"type": "tmpfs", "source": "", "target": "/t", "options": ["exec"]}]}, "--tty": {"tty": True},
        "--ulimit=core=1": {"ulimits": [["core", 1, 1]]}, "--user=u": {"user": "u"}, "--userns=host": {"userns_mode": "host"},
        "--uts=host": {"uts_mode": "host"}, "--volume=/v": {"mounts": [{"type": "volume", "source": "", "target": "/v"}]},
        "--workdir=/w": {"workdir": "/w"},
    }  # fmt: skip
    tried = {flag.partition("=")[0][2:] for flag in given} | {"rootfs", "help"}
    assert tried == {flag.name for flag in RUN_FLAGS if not flag.refused}
    for flag, fields in given.items():
        stored = json.loads(json.dumps(asked(flag, "image").to_dict()))
        assert stored == {"image": "image", **fields}, flag
        assert json.loads(json.dumps(RunOptions(**stored).to_dict())) == stored


def test_rootfs_has_no_image() -> None:
    """With --rootfs DIR every argument is the command."""
    options = asked("--rootfs", "/r", "ls", "/")
    assert (options.image, options.rootfs, options.args) == ("", "/r", ["ls", "/"])


def test_image_is_needed() -> None:
    """No image is docker's error."""
    with pytest.raises(UsageError, match="requires at least 1 argument"):
        asked("--rm")


def test_files_come_before_flags_and_the_last_wins(tmp_path: Any) -> None:
    """--env-file and --label-file are overridden by -e and -l, wherever they stand."""
    file = tmp_path / "file"
    file.write_text("A=file\nB=file\n")
    options = asked("-e", "A=flag", "--env-file", str(file), "-l", "A=flag", "--label-file", str(file), "i")
    assert options.env == ["A=file", "B=file", "A=flag"]
    assert options.labels == {"A": "flag", "B": "file"}
    assert asked("--ulimit", "core=1", "--ulimit", "core=2", "i").ulimits == [["core", 2, 2]]


def test_profile_is_the_callers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seccomp profile is found from where the caller is, not from where the container is started later."""
    monkeypatch.chdir(tmp_path)
    assert asked("--security-opt", "seccomp=my.json", "i").seccomp == f"{tmp_path}/my.json"


def test_options_share_no_state() -> None:
    """A list of one RunOptions is not the list of the next."""
    RunOptions(image="a").env.append("A=1")
    assert RunOptions(image="b").env == []
    with pytest.raises(TypeError, match="RunOptions has no colour"):
        RunOptions(colour="red")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("-m 5m", "Minimum memory limit allowed is 6MB"),
        ("-m 64m --memory-swap 32m", "Minimum memoryswap limit should be larger than memory limit"),
        ("--memory-swap 64m", "You should always set the Memory limit when using Memoryswap limit"),
        ("--memory-reservation 1m", "Minimum memory reservation allowed is 6MB"),
        ("-m 8m --memory-reservation 9m", "Minimum memory limit can not be less than memory reservation limit"),
        ("--memory-swappiness 101", 'invalid value: 101 for "--memory-swappiness"'),
        ("--oom-score-adj 1001", 'Invalid value 1001 for "--oom-score-adj"'),
        ("--cpus 1 --cpu-period 1000", "Nano CPUs and CPU Period cannot both be set"),
        ("--cpus 1 --cpu-quota 1000", "Nano CPUs and CPU Quota cannot both be set"),
        ("--cpus 5", "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ("--cpus -1", "range of CPUs is from 0.01"),
        ("--cpus 0.001", '"--cpus" is too little'),
        ("--cpu-shares -1", "invalid CPU shares (-1)"),
        ("--cpu-period 999", "CPU cfs period can not be less than 1ms"),
        ("--cpu-quota 999", "CPU cfs quota can not be less than 1ms"),
        ("--cpuset-cpus 2-5", "Requested CPUs are not available - requested 2-5, available: 0-3"),
        ("--rm --restart always", "conflicting options: cannot specify both --restart and --rm"),
        ("--restart always", "does not restart containers yet"),
        ("-d -a stdout", "conflicting options: cannot specify both --attach and --detach"),
        ("--log-driver none --log-opt max-file=1", "invalid logging opts for driver none"),
        ("--stop-timeout -2", "--stop-timeout"),
        ("-w tmp", "the working directory 'tmp' is invalid, it needs to be an absolute path"),
        ("--name a/b", "Invalid container name (a/b)"),
        ("--pid shared", '--pid: invalid PID mode: "shared"'),
        ("--ipc container:", "--ipc: invalid IPC mode"),
        ("--uts private", "--uts: invalid UTS mode"),
        ("--cgroupns container:x", "--cgroupns: invalid CGROUPNS mode"),
        ("--network mine", "network mine not found"),
        ("--network a --network b", "--network is given twice"),
        ("--uts host -h x", "conflicting options: hostname and the UTS mode"),
        ("--uts host --domainname x", "conflicting options: domainname and the UTS mode"),
        (f"-h {'x' * 65}", "too long (maximum 64 bytes)"),
        ("--network container:a -h x", "conflicting options: hostname and the network mode"),
        ("--network container:a --dns 1.1.1.1", "conflicting options: dns and the network mode"),
        ("--network container:a --add-host a:1.1.1.1", "conflicting options: custom host-to-IP mapping"),
        ("--network host --mac-address 02:00:00:00:00:01", "conflicting options: mac-address and the network mode"),
        ("--network container:a -p 80", "port publishing and the container type network mode"),
        ("--network container:a --expose 80", "port exposing and the container type network mode"),
        ("--network none -p 80:80", "conflicting options: port publishing and --network none"),
        ("--network none --ip 1.2.3.4", "conflicting options: --network none, and an address"),
        ("--network host --sysctl net.a=1", "sysctl 'net.a' is not allowed with --network host"),
        ("--ipc host --sysctl kernel.sem=1", "sysctl 'kernel.sem' is not allowed with --ipc host"),
        ("--cgroup-parent /a/../..", 'invalid --cgroup-parent "/a/../.."'),
        ("-v /a:/x --tmpfs /x", "Duplicate mount point: /x"),
        ("--security-opt mask=x", '"x" to mask or unmask is not an absolute path'),
    ],
)
def test_contradictions(argv: str, message: str, tmp_path: Any) -> None:
    """What contradicts itself or the host is refused in docker's words."""
    online = tmp_path / "online"
    online.write_text("0-3\n")
    with pytest.raises(MinicontainerError) as caught:
        options_check.check(asked(*argv.split(), "image"), cpus=4, online_cpus=str(online))
    assert message in str(caught.value)
    assert "\n" not in caught.value.message and caught.value.exit_code == 125


def test_restart_is_not_a_mistake_of_the_user() -> None:
    """A policy that docker knows is Unsupported, with the way out."""
    with pytest.raises(Unsupported, match="systemd"):
        options_check.check(asked("--restart", "always", "image"))


def test_warnings() -> None:
    """What docker warns of is returned, for the command line to print."""
    assert options_check.check(asked("image")) == []
    (warning,) = options_check.check(asked("--network", "host", "-p", "80:80", "image"))
    assert warning == "Published ports are discarded when using host network mode"
    (warning,) = options_check.check(asked("--oom-kill-disable", "image"))
    assert warning.startswith("OOM killer is disabled for the container, but no memory limit is set")
