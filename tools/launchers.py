"""launchers.py PYTHON BIN_DIR PATH...: writes the commands `minicontainer` and `minicontainer-oci` into BIN_DIR.

Start-up is a feature: the interpreter runs isolated and without `site` (-IS), which saves half of its start.
The PATHs, where the package and its dependencies are, are all that is added to sys.path. If the package in the first of
them has a bundle (bundle.py), its modules are imported from that.
"""

from __future__ import annotations

import os
import sys

from bundle import HEAD, NAME  # type: ignore[import-not-found]  # beside this script

COMMANDS = {"minicontainer": "minicontainer.cli.main", "minicontainer-oci": "minicontainer.cli.oci"}

# Appended: the standard library comes first, so that nothing can shadow it.
TEMPLATE = """\
#!{python} -IS
import sys
sys.path += {paths!r}
{bundle}from {module} import main
sys.exit(main())
"""
# Nothing is looked for on sys.path before the bundle is in use: that scan of folders costs 0.4 ms.
BUNDLE = """\
if sys.hexversion == {version}:  # which the bundle was made by
    import marshal
    file = open({file!r}, "rb", 0)
    code, *index = marshal.loads(file.read({head}))
    scope = {{"__name__": "minicontainer.bundle"}}
    exec(code, scope)
    scope["use"](file, {folder!r}, *index)
"""

LONGEST_SHEBANG = 255  # BINPRM_BUF_SIZE - 1, execve(2)


def write(python: str, bin_dir: str, paths: list[str]) -> None:
    """Writes both launchers, each to a temporary name and then renamed: a running one is never half a file."""
    if len(f"#!{python} -IS") > LONGEST_SHEBANG:
        raise SystemExit(f"launchers.py: {python} is too long for the first line of a script; use a shorter folder")
    os.makedirs(bin_dir, exist_ok=True)
    folder = os.path.join(paths[0], "minicontainer")
    file = os.path.join(folder, NAME)
    bundle = BUNDLE.format(version=sys.hexversion, file=file, head=HEAD, folder=folder) if os.path.exists(file) else ""
    for command, module in COMMANDS.items():
        path = os.path.join(bin_dir, command)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as f:
            f.write(TEMPLATE.format(python=python, paths=paths, module=module, bundle=bundle))
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    write(sys.argv[1], sys.argv[2], sys.argv[3:])
