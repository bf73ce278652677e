"""The modules of the package from one file: what `make install` puts beside them, and the launchers import from.

A start imports some 80 small modules. Found, checked and read one by one they cost 11 ms of CPU, from one file 7.
The file holds each module's marshalled code by name; a module that it lacks is imported as ever.
"""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

NAME = "modules.bundle"


class Bundle:
    """A finder and loader (importlib.abc) of the modules in a bundle: marshalled code by module name."""

    def __init__(self, modules: dict[str, bytes], folder: str) -> None:
        self._modules = modules
        self._above = folder.rpartition("/")[0]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a module in the bundle, else None."""
        for package in (False, True):
            file = f"{name.replace('.', '/')}{'/__init__' if package else ''}.py"
            if file in self._modules:
                spec = sys.__spec__.__class__(name, self, origin=f"{self._above}/{file}")  # type: ignore[arg-type]  # ModuleSpec, without importlib
                if package:
                    spec.submodule_search_locations = [f"{self._above}/{name.replace('.', '/')}"]
                return spec
        return None

    def create_module(self, spec: Any) -> None:
        """An ordinary module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module's code."""
        origin = module.__spec__.origin  # type: ignore[union-attr]  # find_spec set it
        module.__file__ = origin
        exec(marshal.loads(self._modules[origin[len(self._above) + 1 :]]), module.__dict__)  # type: ignore[index]


def use(folder: str) -> None:
    """Imports from the bundle in the package's folder, if there is one that this interpreter made."""
    try:
        with open(f"{folder}/{NAME}", "rb") as f:
            content = f.read()
    except FileNotFoundError:
        return
    tag = _tag()
    if content.startswith(tag):
        sys.meta_path.insert(0, Bundle(marshal.loads(content[len(tag) :]), folder))


def write(folder: str) -> None:
    """Makes the bundle of the package in folder, whole or not at all; without docstrings, which nobody reads at run time."""
    import os

    modules = {}
    above = os.path.dirname(folder)
    for where, _, files in os.walk(folder):
        for path in (os.path.join(where, f) for f in files if f.endswith(".py")):
            with open(path, "rb") as f:
                modules[os.path.relpath(path, above)] = marshal.dumps(
                    compile(f.read(), path, "exec", dont_inherit=True, optimize=2)
                )
    temporary = f"{folder}/{NAME}.{os.getpid()}"
    with open(temporary, "wb") as out:
        out.write(_tag() + marshal.dumps(modules))
    os.rename(temporary, f"{folder}/{NAME}")


def _tag() -> bytes:
    """Marshalled code is good for the very version that made it."""
    return f"{sys.implementation.cache_tag} {sys.hexversion:x}\n".encode()
