#!/usr/bin/env bash
# install.sh PREFIX: installs into a venv of its own below PREFIX/lib, with launchers in PREFIX/bin.
# The wheels that it installs from are kept in build/wheels: installing again after a change needs no network.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# = 1 ] || fail "usage: install.sh PREFIX"
home=$1/lib/minicontainer
wheels=$project/build/wheels
pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq)
if ! mkdir -p "$1" 2>/dev/null || [ ! -w "$1" ]; then
    fail "can't write to $1; run: sudo make install, or make install PREFIX=..."
fi

inputs=$("$venv/bin/python" --version)-$(hash_of "$project/pyproject.toml")
if ! stamp_is "$wheels/.requirements" "$inputs"; then
    step "collecting what minicontainer depends on in build/wheels"
    rm -rf "$wheels"
    "$venv/bin/python" "$project/tools/requirements.py" "$project/pyproject.toml" dependencies |
        "${pip[@]}" wheel --use-pep517 --wheel-dir "$wheels" --requirement /dev/stdin
    printf '%s\n' "$inputs" >"$wheels/.requirements"
fi

step "building minicontainer's wheel"
# setuptools puts whatever an earlier build left in build/lib into the wheel
rm -rf "$project"/build/{lib,temp,bdist}.* "$project/build/lib" "$wheels"/minicontainer-*.whl
"${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$wheels" "$project"

step "installing into $home"
/usr/bin/python3 -m venv --clear --without-pip "$home"
"${pip[@]}" --python "$home/bin/python" install --no-index --find-links "$wheels" "$wheels"/minicontainer-*.whl
site=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
# no_debug_ranges: columns for tracebacks are a twelfth of the code that every command reads
"$home/bin/python" -ISX no_debug_ranges "$project/tools/bundle.py" "$site/minicontainer"
"$home/bin/python" -BEs "$project/tools/launchers.py" "$home/bin/python" "$1/bin" "$site"
"$1/bin/minicontainer" --version
