#!/usr/bin/env bash
# packages.sh SET...: installs the Debian packages of the sets base, vm and peers that are missing, and no others.
#
# No service of a package installed here is started or enabled: the tests and the demo start what they need themselves,
# on ports and folders of their own.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

declare -A sets=(
    # compiler and headers · what a container start uses · what the images are made with · what the tests and the demo use
    [base]="gcc libc6-dev pkg-config python3-venv python3-dev libcap-dev libseccomp-dev
            nftables iproute2 tini
            mmdebstrap busybox-static xz-utils zstd
            ca-certificates curl prometheus procps strace attr shellcheck"
    # the guest with pure cgroup v2
    [vm]="qemu-system-x86 busybox-static kmod systemd-sysv dbus-user-session libpam-systemd"
    # what the client tests and the benchmark compare with
    [peers]="docker.io podman runc crun containerd conmon criu iptables skopeo buildah uidmap util-linux
             catatonit containernetworking-plugins slirp4netns fuse-overlayfs prometheus-alertmanager docker-registry
             gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
)

wanted=()
for set in "$@"; do
    [ -n "${sets[$set]:-}" ] || fail "no set is called '$set'; there are: ${!sets[*]}"
    read -ra packages <<<"${sets[$set]//$'\n'/ }"
    wanted+=("${packages[@]}")
done

command -v dpkg-query >/dev/null || fail "this set-up knows Debian only; elsewhere install: ${wanted[*]}"
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/ installed$//p' || true)
missing=()
for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || fail "Debian packages are missing; run: sudo apt-get install --no-install-recommends ${missing[*]}"

# policy-rc.d keeps maintainer scripts from starting services (invoke-rc.d(8)); one that is there already is respected.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi

log=$(mktemp)
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null >"$log" 2>&1
}
give_up() {
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "apt-get $1 failed (its last lines are above); is the network up, and is there room on the disk?"
}

# Some source of the machine may be out of order without harm to the others: what counts is whether the packages come.
step "updating the package lists (apt-get update)"
apt update || echo "  some package lists could not be updated; going on with what there is"
step "installing ${#missing[@]} Debian packages: ${missing[*]}"
apt install --no-install-recommends "${missing[@]}" || give_up install
rm -f "$log"

units=$(for package in "${missing[@]}"; do dpkg-query -L "$package"; done |
    sed -n 's#^\(/usr\)\?/lib/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$#\2#p')
if [ -n "$units" ] && command -v systemctl >/dev/null; then
    # shellcheck disable=SC2086 # one argument each
    systemctl disable --quiet $units >/dev/null 2>&1 || true # static units can't be disabled
fi
