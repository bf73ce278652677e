# Sourced by the scripts of tools/: where the project is, and how they speak.
# shellcheck shell=bash

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by those that source this
venv=$project/.venv

step() { printf '→ %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# stamp_is FILE TEXT: does FILE hold TEXT? So work is done again when its inputs changed, and only then.
stamp_is() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# hash_of FILE...: one digest over the files' contents and names
hash_of() { sha256sum -- "$@" | sha256sum | cut -d ' ' -f 1; }
