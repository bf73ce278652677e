#!/usr/bin/env bash
# uninstall.sh PREFIX: takes away what install.sh put there; images, containers and volumes stay.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# = 1 ] || fail "usage: uninstall.sh PREFIX"
rm -f "$1/bin/minicontainer" "$1/bin/minicontainer-oci"
rm -rf "$1/lib/minicontainer"
step "removed from $1; images and containers stay in /var/lib/minicontainer"
