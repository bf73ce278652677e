#!/usr/bin/env bash
# import.sh NAME...: imports images/NAME.tar as the image NAME, with the --change lines of images/NAME/changes.
# MINICONTAINER is the command to do it with, with its global flags if need be.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
read -ra minicontainer <<<"${MINICONTAINER:-minicontainer}"

for name in "$@"; do
    if [ ! -f "$here/$name.tar" ]; then
        echo "import.sh: there is no images/$name.tar; run: make images" >&2
        exit 1
    fi
    changes=()
    while IFS= read -r line; do changes+=(--change "$line"); done <"$here/$name/changes"
    "${minicontainer[@]}" import "${changes[@]}" "$here/$name.tar" "$name"
done
