"""-u and USER, by docker's rules and over files that try to deceive."""

from __future__ import annotations

import os

import pytest

from minicontainer.errors import ImageError, MinicontainerError, UsageError
from minicontainer.image.users import find_gid, find_user, resolve_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# comment:x:5:5::/:
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

app:x:1000:100:App:/srv/app:/bin/sh
1234:x:77:77:a name of digits:/n:/bin/sh
nohome:x:1001:1001:::
short:x:1002
bad:x:abc:0::/:
badgid:x:5:y::/:
huge:x:4294967296:0::/:
neg:x:-1:0::/:
dup:x:2000:2000::/first:
dup:x:3000:3000::/second:
"""
GROUP = b"""root:x:0:
users:x:100:
adm:x:4:app,daemon
disk:x:6:app
app:x:1000:
adm2:x:4:app
long
bad:x:abc:app
over:x:4294967297:nohome
"""


@pytest.mark.parametrize("spec, expected", {
    "": (0, 0, [0], "/root"),
    "root": (0, 0, [0], "/root"),
    "app": (1000, 100, [100, 4, 6], "/srv/app"),
    "1000": (1000, 100, [100, 4, 6], "/srv/app"),
    "app:disk": (1000, 6, [6], "/srv/app"),
    "app:42": (1000, 42, [42], "/srv/app"),
    "4242": (4242, 0, [0], "/"),
    "4242:users": (4242, 100, [100], "/"),
    "1234": (1234, 0, [0], "/"),
    "2147483647:2147483647": (2147483647, 2147483647, [2147483647], "/"),
    "dup": (2000, 2000, [2000], "/first"),
    ":": (0, 0, [0], "/root"),
    ":users": (0, 100, [100], "/root"),
}.items(), ids=str)
def test_finds(spec, expected):
    assert find_user(spec, PASSWD, GROUP) == expected


@pytest.mark.parametrize("spec, message", {
    "nobody": "unable to find user nobody: no matching entries in passwd file",
    "short": "unable to find user short",
    "bad": "unable to find user bad",
    "badgid": "unable to find user badgid",
    "neg": "unable to find user neg",
    "# comment": "unable to find user # comment",
    "app:nogroup": "unable to find group nogroup: no matching entries in group file",
    "2147483648": "uids and gids must be in range 0-2147483647",
    "4294967296": "uids and gids must be in range",
    "4294967295": "uids and gids must be in range",
    "-1": "uids and gids must be in range",
    "00000000000": "uids and gids must be in range",
    "0:4294967296": "uids and gids must be in range",
    "0:-1": "uids and gids must be in range",
    "99999999999999999999999999": "uids and gids must be in range",
    "a:b:c": "is not NAME|UID[:GROUP|GID]",
    "+5": "unable to find user +5",
    "0x0": "unable to find user 0x0",
    " 0": "unable to find user  0",
    "\u0661": "unable to find user",  # an Arabic digit one, which str.isdigit() takes
    "huge": "the id 4294967296: not in range",
    "nohome": "the id 4294967297: not in range",
}.items(), ids=str)
def test_refuses(spec, message):
    """Nothing wraps round to root (CVE-2024-40635)."""
    with pytest.raises(MinicontainerError) as refusal:
        find_user(spec, PASSWD, GROUP)
    assert message in refusal.value.message


def test_image_without_the_files(tmp_path):
    """Numbers work without /etc/passwd; names don't."""
    layers = [str(tmp_path)]
    assert resolve_user(layers, "") == (0, 0, [0], "/")
    assert resolve_user(layers, "5:6") == (5, 6, [6], "/")
    with pytest.raises(UsageError, match="unable to find user web"):
        resolve_user(layers, "web")


def test_group_add(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_bytes(GROUP)
    assert find_gid([str(tmp_path)], "disk") == 6
    assert find_gid([str(tmp_path)], "99") == 99
    with pytest.raises(UsageError):
        find_gid([str(tmp_path)], "nogroup")


@pytest.mark.timeout(20)
def test_passwd_as_fifo_does_not_hang(tmp_path):
    """CVE-2024-9676."""
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(ImageError, match="not a regular file"):
        resolve_user([str(tmp_path)], "web")


def test_passwd_as_symlink_to_the_hosts(tmp_path):
    """It leads to the image's own /etc/hostname, which is not there: never to the host's."""
    (tmp_path / "etc").mkdir()
    os.symlink("/etc/hostname", tmp_path / "etc/passwd")
    assert resolve_user([str(tmp_path)], "5") == (5, 0, [0], "/")


def test_passwd_that_is_too_long(tmp_path):
    (tmp_path / "etc").mkdir()
    with open(tmp_path / "etc/passwd", "w") as f:
        f.truncate(1 << 40)
    with pytest.raises(ImageError, match="bytes long"):
        resolve_user([str(tmp_path)], "web")
