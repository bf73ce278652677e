"""What differs from `docker run`, each with its reason: the README's section "Differences from docker run" in code.

The docker of the comparison is Debian 12's (20.10 with runc 1.1); where it has changed since, the reason says so.
"""

from __future__ import annotations

from tests.clients.beside import Difference

DIFFERENCES = [
    Difference(
        "There is no `/.dockerenv`: it says that a container is docker's, and these are not.",
        ("directories", "docker", r"/\.dockerenv .*"),
    ),
    Difference(
        "No `/etc/mtab` is put into an image that has none: `/proc/mounts` is what today's programs read.",
        ("directories", "docker", r"/etc/mtab lrwxrwxrwx 0:0"),
        ("files", "docker", r"/proc/mounts"),
    ),
    Difference(
        "`/proc/interrupts` is masked as well, as newer dockers do (moby 49560): it is a side channel to what other containers do.",
        ("mounts", "ours", r"/proc/interrupts root=/null .*"),
        ("directories", "docker", r"/proc/interrupts -r--r--r-- 0:0"),
        ("directories", "ours", r"/proc/interrupts crw-rw-rw- 0:0"),
    ),
    Difference(
        "Masked files are covered by the host's `/dev/null`, not by the container's, which an image or a volume could"
        " have replaced; masked directories by an empty tmpfs that is nosuid, nodev, noexec and 0755.",
        ("mounts", "docker", r"/proc/(kcore|keys|timer_list) root=/null .* tmpfs .*"),
        ("mounts", "ours", r"/proc/(kcore|keys|timer_list) root=/null .* devtmpfs .*"),
        ("mounts", "docker", r"/(proc/acpi|sys/firmware) root=/ ro,relatime private tmpfs ro"),
        ("mounts", "ours", r"/(proc/acpi|sys/firmware) root=/ ro,nosuid,nodev,noexec,relatime private tmpfs .*"),
        ("directories", "docker", r"/(proc/acpi|sys/firmware) drwxrwxrwt 0:0"),
        ("directories", "ours", r"/(proc/acpi|sys/firmware) drwxr-xr-x 0:0"),
    ),
    Difference(
        "`/sys` is read-only by its mount and not by its superblock, which comes to the same for who may not remount.",
        ("mounts", "docker", r"/sys root=/ ro,.* sysfs ro"),
        ("mounts", "ours", r"/sys root=/ ro,.* sysfs rw"),
    ),
    Difference(
        "On hybrid hosts a container also sees its own cgroup v2, in `/sys/fs/cgroup/unified`, and the directory that"
        " holds the v1 hierarchies is read-only.",
        ("mounts", "ours", r"/sys/fs/cgroup/unified root=/(<cgroup>/<id>)? r[ow],.* cgroup2 rw"),
        ("mounts", "docker", r"/sys/fs/cgroup root=/ rw,.* tmpfs .*"),
        ("mounts", "ours", r"/sys/fs/cgroup root=/ ro,.* tmpfs .*"),
        ("directories", "docker", r"/sys/fs/cgroup dr-xr-xr-x 0:0"),
        ("directories", "ours", r"/sys/fs/cgroup drwxr-xr-x 0:0"),
    ),
    Difference(
        "The propagation of the root and of volumes is private, not slave: no mount made on the host later appears in a container.",
        ("mounts", "docker", r"/ root=/ r[ow],relatime master overlay .*"),
        ("mounts", "ours", r"/ root=/ r[ow],relatime private overlay .*"),
        ("mounts", "docker", r"/vol root=(<volume>|.*-volume/_data) rw,relatime master .*"),
        ("mounts", "ours", r"/vol root=(<volume>|.*-volume/_data) rw,relatime private .*"),
    ),
    Difference(
        "IPv6 is on in every container, with ::1 on its loopback; docker switches it off where it gives no address.",
        ("sysctls", "docker", r"/proc/sys/net/ipv6/conf/all/disable_ipv6: 1"),
        ("sysctls", "ours", r"/proc/sys/net/ipv6/conf/all/disable_ipv6: 0"),
        ("addresses", "ours", r"(lo|eth0) +inet6 .*"),
        ("files", "docker", r"(/etc/hosts: .*<address>\t<short id>)"),
        ("files", "ours", r"(/etc/hosts: .*<address>\t<short id>) <address6>\t<short id>"),
    ),
    Difference(
        "A device of the host that is not there ends with 125, as all that fails before the command; docker, which"
        " reads error texts, ends with 127.",
        ("exit status", "docker", "127"),
        ("exit status", "ours", "125"),
        cases="bad device",
    ),
    Difference(
        "`run` without an image ends with 125 as other usage errors do, docker with 1.",
        ("exit status", "docker", "1"),
        ("exit status", "ours", "125"),
        cases="no image",
    ),
    Difference(
        "With `--init`, tini is `/dev/init`, where an image can have nothing; docker puts `/sbin/docker-init` over it.",
        ("first", "docker", r"/sbin/docker-init .*"),
        ("first", "ours", r"/dev/init .*"),
        ("mounts", "docker", r"/sbin/docker-init .*"),
        ("mounts", "ours", r"/dev/init .*"),
        ("devices", "ours", r"/dev/init .*"),
        cases="init",
    ),
    Difference(
        "With `--uts host`, HOSTNAME and `/etc/hostname` have the host's name, which `hostname` prints as well; docker"
        " writes the short id.",
        ("environment", "docker", r"HOSTNAME=<short id>"),
        ("environment", "ours", r"HOSTNAME=.*"),
        ("files", "docker", r"/etc/hostname: <short id>"),
        ("files", "ours", r"/etc/hostname: .*"),
        cases="host uts namespace",
    ),
    Difference(
        "The default bridge is `minicontainer0` with subnets of its own, IPv6 too.",
        ("addresses", "docker", r"docker0 .*|<subnet> dev docker0 .*"),
        ("addresses", "ours", r"mc-test0 .*|<subnet> dev mc-test0 .*"),
        cases="host network",
    ),
    Difference(
        "`exec` of a program that is not there ends with 127, as `run` does (docker 20.10: 126), and for a user that is"
        " not there with 125, as `run` does (docker: 126); what went wrong is on stderr (docker: on stdout).",
        ("exit status", "docker", "126"),
        ("exit status", "ours", "12[57]"),
        ("output", "docker", r"OCI runtime exec failed: .*|unable to find user .*"),
        cases=r"exec with flags \d+",
    ),
    Difference(
        "`--privileged` and `--cap-add ALL` give every capability that the machine has: docker 20.10 doesn't know the"
        " three newest, and fails where root lacks one.",
        ("status", "docker", r"Cap(Prm|Eff|Bnd):.*"),
        ("status", "ours", r"Cap(Prm|Eff|Bnd):.*"),
        cases="privileged.*|all capabilities",
        everywhere=False,
    ),
    Difference(
        "Without `--ulimit` the limits are those of whoever calls `minicontainer`; docker's are the daemon's, which"
        " raises its soft limit of open files to the hard one.",
        ("limits", "docker", r"Max open files (\d+) \1 files"),
        ("limits", "ours", r"Max open files .*"),
        everywhere=False,
    ),
]
