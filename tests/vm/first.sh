# shellcheck shell=sh
# The guest's first process (or systemd's only service): runs the command, says how it ended, switches the guest off.
#
# Output goes to the virtio port, which is QEMU's stdout on the host; the exit status into a file of the exchange
# directory, because a stream can't carry it beside arbitrary output.
exchange=/run/guest/exchange
/run/guest/busybox mount --make-rshared / # as systemd leaves it
exec 3<>"$(echo /dev/vport*p1)"          # once: a second open is EBUSY
if [ -e $exchange/terminal ]; then
    script -qefc "/bin/sh $exchange/command" /dev/null <&3 >&3 2>&1 3>&-
else
    /bin/sh $exchange/command </dev/null >&3 2>&1 3>&-
fi
echo $? >$exchange/status
/run/guest/busybox reboot -f
