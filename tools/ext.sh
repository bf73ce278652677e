#!/usr/bin/env bash
# ext.sh: compiles what is C, in place, and writes the development launchers .venv/bin/minicontainer and -oci.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

package=$project/minicontainer
inputs=$("$venv/bin/python" --version)-$(hash_of "$package"/kernel/build.py "$package"/kernel/*.c "$package"/stub/*.[ch] \
    "$project/tools/launchers.py")
stamp=$venv/.ext
suffix=$("$venv/bin/python" -IS -c 'import _imp; print(_imp.extension_suffixes()[0])')
if stamp_is "$stamp" "$inputs" && [ -x "$package/stub/stub" ] && [ -e "$package/kernel/_kernel$suffix" ]; then
    exit 0
fi
step "compiling the kernel extension, the stub and the monitor (a few seconds)"
(cd "$project" && "$venv/bin/python" -m minicontainer.kernel.build >/dev/null)
"$venv/bin/python" "$project/tools/launchers.py" "$venv/bin/python" "$venv/bin" \
    "$project" "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
printf '%s\n' "$inputs" >"$stamp"
