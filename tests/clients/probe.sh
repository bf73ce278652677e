# shellcheck shell=sh
# What a process of a container can see of itself: sections, each a line "== NAME" and what was found.
# Run by busybox sh in both runtimes; everything here is compared line by line (beside.py makes ids and addresses alike).
section() { echo "== $1"; }
show() { # show FILE...: "FILE: content" for those that exist
    for file; do
        [ -e "$file" ] && echo "$file: $(tr '\n' ' ' <"$file" 2>&1)"
    done
}
try() { # try WORD COMMAND...: whether it works
    word=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$word: yes"; else echo "$word: no"; fi
}

section user
id
umask
section environment
env | sort
section hostname
hostname
cat /proc/sys/kernel/domainname
section directory
pwd
section status
grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status
section oom
cat /proc/self/oom_score_adj
section limits
sed 's/  */ /g' /proc/self/limits
section first
tr '\0\n' '  ' </proc/1/cmdline | cut -c 1-20
section descriptors
for descriptor in "/proc/$$/fd"/*; do
    echo "${descriptor##*/}"
done
section namespaces
for kind in cgroup ipc mnt net pid user uts time; do readlink /proc/self/ns/$kind; done
section cgroups
cat /proc/self/cgroup
section mounts
# root, mount point, options, type, super options, and propagation
awk '{
    propagation = "private"
    for (dash = 7; $dash != "-"; dash++) { propagation = $dash; sub(/:.*/, "", propagation) }
    print $5, "root=" $4, $6, propagation, $(dash + 1), $(dash + 3)
}' /proc/self/mountinfo | sort
section devices
for directory in /dev /dev/pts /dev/shm /dev/mqueue; do
    for node in "$directory"/*; do
        [ "${node%\*}" = "$node" ] || continue
        if [ -L "$node" ]; then echo "$node -> $(readlink "$node")"; else stat -c '%n %A %u:%g %t:%T' "$node"; fi
    done
done
section directories
for path in / /bin /dev /dev/shm /dev/pts /dev/mqueue /etc /home /proc /root /sys /sys/fs/cgroup /tmp /var /data /vol /run \
    /srv/new /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab /.dockerenv /proc/sys /proc/kcore /proc/keys \
    /proc/acpi /proc/timer_list /proc/sched_debug /proc/scsi /sys/firmware /proc/interrupts \
    /sys/devices/virtual/powercap; do
    [ -e "$path" ] && stat -c '%n %A %u:%g' "$path"
done
section files
show /etc/hosts /etc/hostname /etc/resolv.conf
[ -L /etc/mtab ] && readlink /etc/mtab
section masked
for path in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do
    [ -e $path ] && echo "$path $(head -c 20 $path 2>/dev/null | wc -c)"
done
for path in /proc/acpi /proc/scsi /sys/firmware; do
    [ -e $path ] && echo "$path $(find $path -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)"
done
section sysctls
show /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start \
    /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv6/conf/all/disable_ipv6 \
    /proc/sys/kernel/msgmax /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max
section addresses
ip -o address | sed 's/^[0-9]*: //'
ip route
section "cgroup limits"
cd /sys/fs/cgroup 2>/dev/null || echo "no /sys/fs/cgroup"
show memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \
    memory/memory.swappiness memory/memory.oom_control cpu/cpu.shares cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us \
    cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max blkio/blkio.throttle.read_bps_device \
    blkio/blkio.throttle.write_bps_device blkio/blkio.throttle.read_iops_device \
    blkio/blkio.throttle.write_iops_device
show memory.max memory.swap.max memory.low memory.high memory.oom.group cpu.max cpu.weight cpuset.cpus cpuset.mems \
    pids.max io.max io.weight
sort devices/devices.list 2>/dev/null
section abilities
# Harmless even where they work (--privileged, --uts host): nothing of the host is changed by any of them.
cd / || exit
try "write /" touch /mark
try "write /tmp" touch /tmp/mark
try "write /dev" touch /dev/mark
try "write /dev/shm" touch /dev/shm/mark
rm -f /dev/shm/mark # the host's, with --ipc host
try "write /data" touch /data/mark
try "open a sysctl for writing" sh -c ': >>/proc/sys/net/core/somaxconn'
try "open a file of sysfs for writing" sh -c ': >>/sys/kernel/rcu_expedited'
try "make a cgroup" sh -c 'mkdir /sys/fs/cgroup/memory/below && rmdir /sys/fs/cgroup/memory/below'
try "make a null device" mknod /tmp/null c 1 3
try "use a null device of its own" sh -c 'echo >/tmp/null'
try "make a disk device" mknod /tmp/disk b 254 0
try "read a disk device" head -c 1 /tmp/disk
try "make a kmsg device" mknod /tmp/kmsg c 1 11
try "open a kmsg device" sh -c ': </tmp/kmsg'
try "chown" chown 1:1 /tmp/mark
try "remount /proc" mount -o remount,rw /proc
try "mount a tmpfs" mount -t tmpfs none /home
try "user namespace" unshare -U true
try "network namespace" unshare -n true
try "change root" chroot / true
try "set the host name" hostname "$(hostname)"
try "raise its priority" nice -n -5 true
try "ping" ping -c 1 -W 1 127.0.0.1
