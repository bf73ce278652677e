#!/usr/bin/env bash
# setup.sh: makes everything that development needs: Debian packages, the venv .venv, the Python packages in it.
# A second run finds nothing to do, is quick, and needs no network.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

"$project/tools/packages.sh" base

# The system's own interpreter: `sudo` finds it, and its headers are the ones that python3-dev installs.
python=/usr/bin/python3
inputs=$($python --version)-$(hash_of "$project/pyproject.toml")
stamp=$venv/.requirements
if ! stamp_is "$stamp" "$inputs"; then
    step "installing the Python packages into .venv (about a minute)"
    $python -m venv "$venv"
    # -qq: errors only. python-prctl comes as source only, without a pyproject.toml: pip compiles it against libcap-dev.
    "$venv/bin/python" "$project/tools/requirements.py" "$project/pyproject.toml" |
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --use-pep517 --requirement /dev/stdin
    printf '%s\n' "$inputs" >"$stamp"
fi
