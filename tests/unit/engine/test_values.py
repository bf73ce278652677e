"""What the texts of flag values mean, and which are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.engine import values, values_limits, values_mounts, values_network

GOOD: list[tuple[Callable[[str], Any], str, Any]] = [
    (values.whole_number, "512", 512), (values.whole_number, "-1", -1), (values.whole_number, "0x200", 512),
    (values.whole_number, "010", 8), (values.whole_number, "0o10", 8), (values.whole_number, "1_000", 1000),
    (values.size_bytes, "0", 0), (values.size_bytes, "1024", 1024), (values.size_bytes, "32b", 32),
    (values.size_bytes, "64m", 64 << 20), (values.size_bytes, "64M", 64 << 20), (values.size_bytes, "1.5GiB", 3 << 29),
    (values.size_bytes, "1 kb", 1024), (values.size_bytes, ".5k", 512), (values.size_bytes, "2t", 2 << 40),
    (values.swap_bytes, "-1", -1), (values.swap_bytes, "1g", 1 << 30),
    (values.nano_cpus, "1", 10**9), (values.nano_cpus, "0.5", 5 * 10**8), (values.nano_cpus, ".25", 25 * 10**7),
    (values.nano_cpus, "1/2", 5 * 10**8), (values.nano_cpus, "2e-1", 2 * 10**8), (values.nano_cpus, "1e1", 10**10),
    (values.nano_cpus, "0.1", 10**8), (values.nano_cpus, "-0.5", -5 * 10**8),
    (values.duration_seconds, "1h30m", 5400.0), (values.duration_seconds, "250ms", 0.25),
    (values.duration_seconds, "1.5s", 1.5), (values.duration_seconds, "0", 0.0), (values.duration_seconds, "-2s", -2.0),
    (values.signal_number, "9", 9), (values.signal_number, "TERM", 15), (values.signal_number, "sigusr1", 10),
    (values.signal_number, "RTMIN+3", 37), (values.signal_number, "SIGRTMAX-1", 63),
    (values.restart_policy, "no", ("no", 0)), (values.restart_policy, "on-failure:3", ("on-failure", 3)),
    (values.restart_policy, "", ("no", 0)), (values.stream, "STDIN", "stdin"),
    (values.label, "a=b=c", "a=b=c"), (values.label, "a", "a"), (values.annotation, "a=b=c", ("a", "b=c")),
    (values.log_option, "max-size=10m", ("max-size", 10_000_000)), (values.log_option, "max-size=-1", ("max-size", -1)),
    (values.log_option, "max-file=3", ("max-file", 3)),
    (values.security_option, "seccomp=unconfined", ("seccomp", "unconfined")),
    (values.security_option, "no-new-privileges", ("no-new-privileges", "true")),
    (values.security_option, "no-new-privileges:false", ("no-new-privileges", "false")),
    (values.security_option, "mask=/a:/b", ("mask", "/a:/b")), (values.pull_policy, "never", "never"),
    (values_network.ip_address, " 10.0.0.1", "10.0.0.1"), (values_network.ip_address, "2001:DB8::0", "2001:db8::"),
    (values_network.mac_address, "92-D0-C6-0A-29-33", "92:d0:c6:0a:29:33"),
    (values_network.extra_host, "a:10.0.0.1", "a:10.0.0.1"), (values_network.extra_host, "a=::1", "a:::1"),
    (values_network.extra_host, "a:[::1]", "a:::1"), (values_network.extra_host, "a:host-gateway", "a:host-gateway"),
    (values_network.dns_search, ".", "."), (values_network.dns_search, "example.org.", "example.org"),
    (values_network.exposed_ports, "80", ["80/tcp"]), (values_network.exposed_ports, "5-7/udp", ["5/udp", "6/udp", "7/udp"]),
    (values_network.publish, "127.0.0.1:80:80", "127.0.0.1:80:80"),
    (values_network.publish, "published=8080,target=80,protocol=udp", "8080:80/udp"),
    (values_network.publish, "target=80", "80/tcp"),
    (values_limits.ulimit, "nofile=1024:2048", ("nofile", 1024, 2048)), (values_limits.ulimit, "core=-1", ("core", -1, -1)),
    (values_limits.sysctl, "net.core.somaxconn=1", ("net.core.somaxconn", "1")),
    (values_limits.cpu_set, "0-2,5", {0, 1, 2, 5}), (values_limits.cpu_list, "", ""),
    (values_limits.weight_device, "/dev/sda:200", ("/dev/sda", 200)),
    (values_limits.throttle_bps, "/dev/sda:1mb", ("/dev/sda", 1 << 20)),
    (values_limits.throttle_iops, "/dev/sda:1000", ("/dev/sda", 1000)),
    (values_limits.device, "/dev/a", {"host": "/dev/a", "container": "/dev/a", "access": "rwm"}),
    (values_limits.device, "/dev/a:rw", {"host": "/dev/a", "container": "/dev/a", "access": "rw"}),
    (values_limits.device, "/dev/a:/dev/b", {"host": "/dev/a", "container": "/dev/b", "access": "rwm"}),
    (values_limits.device, "/dev/a:/dev/b:r", {"host": "/dev/a", "container": "/dev/b", "access": "r"}),
    (values_limits.device_cgroup_rule, "c 10:* rm",
     {"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rm"}),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_meaning(parse: Callable[[str], Any], text: str, value: Any) -> None:
    """A value means what docker takes it to mean."""
    assert parse(text) == value


BAD: list[tuple[Callable[[str], Any], str, str]] = [
    (values.whole_number, "", "whole number"), (values.whole_number, "1.5", "whole number"),
    (values.whole_number, " 1", "whole number"), (values.whole_number, "--1", "whole number"),
    (values.whole_number, "9223372036854775808", "64 bits"),
    (values.size_bytes, "", "invalid size: ''"), (values.size_bytes, "-1", "invalid size: '-1'"),
    (values.size_bytes, "1kk", "invalid suffix: 'kk'"), (values.size_bytes, "1e9b9", "invalid size"),
    (values.size_bytes, "1_0", "invalid size"), (values.size_bytes, "99999999p", "8 EiB"),
    (values.size_bytes, "1bb", "invalid suffix"), (values.swap_bytes, "-2", "invalid size: '-2'"),
    (values.nano_cpus, "x", "failed to parse x as a rational number"), (values.nano_cpus, "1/0", "rational"),
    (values.nano_cpus, "1.2.3", "rational"), (values.nano_cpus, "1/3", "too precise"), (values.nano_cpus, "1e999", "rational"),
    (values.duration_seconds, "5", "missing unit"), (values.duration_seconds, "", "invalid duration"),
    (values.duration_seconds, "1x", "missing unit"), (values.duration_seconds, "s", "invalid duration"),
    (values.signal_number, "0", "invalid signal: 0"), (values.signal_number, "65", "invalid signal"),
    (values.signal_number, "SIG", "invalid signal"), (values.signal_number, "_DFL", "invalid signal"),
    (values.signal_number, "RTMIN+99", "invalid signal"),
    (values.restart_policy, ":3", "unknown policy"), (values.restart_policy, "always:3", "only be used with 'on-failure'"),
    (values.restart_policy, "on-failure:x", "must be an integer"), (values.stream, "x", "valid streams are"),
    (values.env_entry, "=x", "invalid environment variable: =x"), (values.env_entry, "a=b\0c", "NUL"),
    (values.label, "=x", "empty name"), (values.label, "a b=c", "contains whitespaces"),
    (values.log_option, "tag=x", "unknown log opt 'tag' for json-file"), (values.log_option, "max-file=0", "less than 1"),
    (values.log_option, "max-size=0", "positive"), (values.security_option, "label=user:x", "no SELinux"),
    (values.security_option, "seccomp=", "invalid --security-opt"), (values.security_option, "systempaths=x", "unconfined"),
    (values.security_option, "no-new-privileges=maybe", "no-new-privileges=true"), (values.pull_policy, "x", "must be one of"),
    (values_network.ip_address, "1.2.3", "not correctly formatted"), (values_network.ipv4_address, "::1", "--ip6"),
    (values_network.ipv6_address, "1.2.3.4", "--ip takes"), (values_network.mac_address, "92:d0:c6", "not a valid mac"),
    (values_network.mac_address, "93:d0:c6:0a:29:33", "multicast"), (values_network.extra_host, "a", "bad format"),
    (values_network.extra_host, "a\nb:1.2.3.4", "whitespace"), (values_network.extra_host, "a:b", "invalid IP address"),
    (values_network.dns_search, "a..b", "not a valid domain"), (values_network.dns_search, "a\nnameserver", "not a valid"),
    (values_network.dns_option, "a\nnameserver 6.6.6.6", "one word"), (values_network.exposed_ports, "0", "1 to 65535"),
    (values_network.exposed_ports, "9-1", "lower first"), (values_network.exposed_ports, "80/icmp", "invalid protocol"),
    (values_network.publish, "target=80,x", "invalid publish opts format"), (values_network.publish, "published=1", "target"),
    (values_limits.ulimit, "nofile", "invalid ulimit argument"), (values_limits.ulimit, "files=1", "invalid ulimit type"),
    (values_limits.ulimit, "nofile=2:1", "less than or equal"), (values_limits.ulimit, "nofile=-1:5", "less than or equal"),
    (values_limits.ulimit, "nofile=1:2:3", "too many"), (values_limits.ulimit, "nofile=-5", "negative"),
    (values_limits.sysctl, "kernel.core_pattern=|/x", "not allowed"), (values_limits.sysctl, "net.ipv4", "not name=value"),
    (values_limits.sysctl, "net./../kernel/core_pattern=x", "not allowed"),
    (values_limits.cpu_list, "0-", "invalid format"), (values_limits.cpu_list, "3-1", "invalid range"),
    (values_limits.cpu_list, "0-99999999999", "invalid format"), (values_limits.blkio_weight, "1001", "from 10 to 1000"),
    (values_limits.throttle_bps, "/dev/sda:x", "The correct format is"), (values_limits.throttle_iops, "/dev/sda:1m", "correct"),
    (values_limits.device, "dev/a", "not an absolute path"), (values_limits.device, "/dev/a:/dev/b:rwx", "bad mode"),
    (values_limits.device, "/dev/../etc:/x", "'..'"), (values_limits.device, "/dev/a:/../x", "'..'"),
    (values_limits.device_cgroup_rule, "c 1:2", "invalid device cgroup format"),
    (values_limits.device_cgroup_rule, "d 1:2 r", "invalid device cgroup format"),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "reason"), BAD)
def test_refused(parse: Callable[[str], Any], text: str, reason: str) -> None:
    """A value that means nothing is refused, with the reason."""
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert reason in str(caught.value)


EVERY_PARSER = sorted({parse for parse, *_ in GOOD + BAD}, key=lambda parse: parse.__name__)


@given(st.sampled_from(EVERY_PARSER), st.text(max_size=20))
def test_any_text_is_answered(parse: Callable[[str], Any], text: str) -> None:
    """Whatever the text, a parser answers with a value or a ValueError of one line per line of text."""
    try:
        parse(text)
    except ValueError as reason:
        assert str(reason)


def test_platform_is_this_machines() -> None:
    """Only the machine's own platform can run."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    assert values.platform(f"linux/{machine}") == f"linux/{machine}"
    with pytest.raises(ValueError, match=f"this machine is linux/{machine}"):
        values.platform("linux/s390")


def test_env_entry_takes_the_callers_value() -> None:
    """A bare -e NAME passes on the caller's value; without one it stays bare, to remove the image's."""
    environ = {"A": "1", "EMPTY": ""}
    entries = [values.env_entry(text, environ) for text in ("A", "A=2", "EMPTY", "B", "B=")]
    assert entries == ["A=1", "A=2", "EMPTY=", "B", "B="]


def test_env_file(tmp_path: Path) -> None:
    """Comments, blank lines, a byte order mark, CRLF; bare names take the caller's value or are dropped."""
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbfA=1\r\n# no\n\n  B=x y = z\nCALLER\nNOBODY\nEMPTY=\n")
    assert values.env_file(str(file), {"CALLER": "me"}) == ["A=1", "B=x y = z", "CALLER=me", "EMPTY="]
    assert values.label_file(str(file)) == ["A=1", "B=x y = z", "EMPTY="]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"A=1\n=2\n", "no variable name on line 2"), (b"A B=1\n", "'A B' on line 1"), (b"\n\xff=1\n", "line 2 is not UTF-8")],
)
def test_env_file_errors_name_the_line(tmp_path: Path, content: bytes, reason: str) -> None:
    """A bad line is named by its number and file."""
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        values.env_file(str(file), {})
    assert reason in str(caught.value) and str(file) in str(caught.value)


def test_volume() -> None:
    """-v: binds, named and anonymous volumes, options."""
    volume = values_mounts.volume
    assert volume("/data") == {"type": "volume", "source": "", "target": "/data"}
    assert volume("name:/data/../d/") == {"type": "volume", "source": "name", "target": "/d"}
    assert volume("name:/d:nocopy,ro")["nocopy"] is True
    bind = {"type": "bind", "source": "/a", "target": "/b", "create_source": True}
    assert volume("//a/./:/b") == bind == volume("/a:/b:rw,z")
    assert volume("/a:/b:ro,rslave") == {**bind, "read_only": True, "propagation": "rslave"}


def test_relative_bind_sources_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that begins with "." is relative to where the caller is, for -v and --mount."""
    monkeypatch.chdir(tmp_path)
    assert values_mounts.volume("./x:/b")["source"] == f"{tmp_path}/x"
    assert values_mounts.volume(".:/b")["source"] == str(tmp_path)
    assert values_mounts.mount("type=bind,src=./x,dst=/b")["source"] == f"{tmp_path}/x"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty section"), (":/x", "empty section"), ("/x:", "empty section"), ("a:b:c:d", "too many colons"),
        ("data", "must be absolute"), ("/a:b", "must be absolute"), ("/a:/", "destination can't be '/'"),
        ("/a:/..", "destination can't be '/'"), ("/a:rw", "a mode needs"), ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode"), ("/a:/b:slave,shared", "invalid mode"), ("a/b:/c", "use absolute path"),
        ("~/a:/c", "invalid characters"), ("a:/c", "too short"), ("-a:/c", "invalid characters"),
        ("name:/c:rslave", "is for binds"), ("é:/c", "invalid characters"), (f"{'a' * 256}:/c", "too long"),
    ],
)  # fmt: skip
def test_volume_errors(text: str, reason: str) -> None:
    """A -v that means nothing is refused, with the reason."""
    with pytest.raises(ValueError) as caught:
        values_mounts.volume(text)
    assert reason in str(caught.value)


def test_mount() -> None:
    """--mount: the keys of each type."""
    mount = values_mounts.mount
    assert mount("type=bind,source=/a,target=/b,readonly,bind-recursive=disabled,bind-propagation=rslave") == {
        "type": "bind", "source": "/a", "target": "/b", "read_only": True, "recursive": "disabled",
        "propagation": "rslave",
    }  # fmt: skip
    assert mount("type=bind,src=/a,dst=/b,ro=false,bind-create-src")["create_source"] is True
    assert mount("src=named,dst=/b,volume-nocopy=true,volume-label=k=v") == {
        "type": "volume", "source": "named", "target": "/b", "nocopy": True, "labels": {"k": "v"},
    }  # fmt: skip
    assert mount("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=0770,ro")["options"] == ["ro", "mode=770", "size=1048576"]
    assert mount('type=bind,"src=/a,b",dst=/b')["source"] == "/a,b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "value is empty"), ("type=bind,src=/a", "field Target must not be empty"), ("x", "must be a key=value pair"),
        ("type=bind,dst=/b", "field Source must not be empty"), ("type=bind,src=a,dst=/b", "must be absolute"),
        ("type=tmpfs,src=/a,dst=/b", "field Source must not be specified"), ("type=image,src=a,dst=/b", "type unknown"),
        ("type=tmpfs,dst=/b,bind-propagation=shared", "cannot mix 'bind-*'"), ("dst=/b,tmpfs-size=1", "cannot mix 'tmpfs-*'"),
        ("dst=/b, src=a", "should not have whitespace"), ("dst=/b,src=", "value is empty"), ("dst=/b,ro=x", "boolean"),
        ("type=bind,src=/a,dst=/b,bind-recursive=writable", "requires 'readonly'"),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
        ("type=bind,src=/a,dst=/b,bind-propagation=x", "invalid propagation mode"), ("dst=/b,what=1", "unknown option 'what'"),
        ("type=tmpfs,dst=/b,tmpfs-mode=9", "octal"), ("dst=/b,volume-driver=nfs", "no volume drivers"),
        ("src=a,dst=/b,volume-subpath=../..", "whole volumes"), ('dst=/b,"x', "comma-separated"),
    ],
)  # fmt: skip
def test_mount_errors(text: str, reason: str) -> None:
    """A --mount that contradicts itself is refused, with the reason."""
    with pytest.raises(ValueError) as caught:
        values_mounts.mount(text)
    assert reason in str(caught.value)


def test_tmpfs() -> None:
    """--tmpfs takes mount(8)'s options for tmpfs and no others; later ones undo earlier ones."""
    assert values_mounts.tmpfs("/x:size=1m,exec")["options"] == ["size=1m", "exec"]
    assert values_mounts.tmpfs("/x")["options"] == []
    assert values_mounts.merge_tmpfs_options(["noexec", "size=1m", "nodev", "exec", "size=2m"]) == ["nodev", "exec", "size=2m"]
    for text in ("x", "/", "/x:what", "/x:size=", "/x:lowerdir=/etc"):
        with pytest.raises(ValueError):
            values_mounts.tmpfs(text)
