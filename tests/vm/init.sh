#!/busybox sh
# shellcheck shell=sh
# /init of the guest's initramfs. Builds the guest's root and hands over to first.sh (or to systemd, which runs it).
#
# The root is a copy-on-write view of the host's: reads go to the host's / (9p, read-only), writes to a scratch disk.
# The scratch disk is ext4 because tests want what a tmpfs lacks (user xattrs, a block device behind it).
#
# /settings has
#   MODULES     module files, in the order to load them
#   REPOSITORY  path of the repository on the host, the same in the guest; shared read-write
#   KERNEL      directory on the host that has lib/modules/ of this kernel
#   SYSTEMD     1: systemd is PID 1
set -e # the end of PID 1 is a kernel panic, and the host shows the console's last lines
/busybox mkdir -p /bin
/busybox --install -s /bin
export PATH=/bin
# shellcheck source=/dev/null
. /settings
P9=trans=virtio,version=9p2000.L,msize=512000
# Own storage for what keeps an overlayfs upper layer in it: one can't lie on another overlayfs.
OWN_STORAGE="var/tmp var/lib/docker var/lib/containers var/lib/containerd var/lib/minicontainer"

cd /
mkdir -p proc sys dev host scratch root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
for module in $MODULES; do insmod "$module"; done

mount -t 9p -o ro,cache=loose,$P9 host host
mount -o noatime /dev/vda scratch
mkdir -m 755 scratch/upper scratch/work
mkdir -m 1777 scratch/tmp
mount -t overlay -o lowerdir=host,upperdir=scratch/upper,workdir=scratch/work,volatile root root

cd root
mkdir -p proc sys dev run tmp lib/modules
mount -t tmpfs -o mode=755 run run
mount --bind /scratch/tmp tmp
for directory in $OWN_STORAGE; do
    mkdir -p "/scratch/$directory" "$directory"
    mount --bind "/scratch/$directory" "$directory"
done
chmod 1777 var/tmp
mount --bind "/host$KERNEL/lib/modules" lib/modules
mkdir -p ".$REPOSITORY"
mount -t 9p -o rw,cache=loose,$P9 repository ".$REPOSITORY"
mkdir -p run/guest/exchange run/systemd/system
mount -t 9p -o rw,cache=none,$P9 exchange run/guest/exchange
cp /busybox /first.sh run/guest

for directory in proc sys dev; do mount --move /$directory $directory; done
mkdir -p dev/pts dev/shm dev/mqueue
ln -s /proc/self/fd dev/fd # as udev does: bash's <(…) opens it
mount -t devpts -o ptmxmode=666 pts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t cgroup2 cgroup2 sys/fs/cgroup
hostname v2-guest
ifconfig lo 127.0.0.1 up

if [ "$SYSTEMD" ]; then
    rm -f .dockerenv # of a host that was made from an image: systemd would take the guest for a container
    cp run/guest/exchange/v2-guest.service run/systemd/system
    exec switch_root . /sbin/init
fi

# As under systemd: every controller on, and no process in the root cgroup.
cd sys/fs/cgroup
tr ' ' '\n' <cgroup.controllers | while read -r controller; do echo "+$controller" >cgroup.subtree_control; done
mkdir init
echo $$ >init/cgroup.procs
cd /root
rm -r run/systemd
exec switch_root . /run/guest/busybox sh /run/guest/first.sh
