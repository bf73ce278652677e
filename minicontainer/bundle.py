"""The modules of the package from one file: what `make install` puts beside them, and its launchers import from.

A start imports some 80 small modules. Found, checked and read one by one they cost 11 ms of CPU, from one file 5.
The file holds each module's marshalled code (tools/bundle.py writes it); a module that it lacks is imported as ever.

    head, marshalled: (this module's code, places of modules, paths of extension modules) | code … code …

The launcher runs this module's code, out of the head: to import it would first cost a scan of every folder of sys.path.
"""

from __future__ import annotations

import marshal
import sys

# importlib, where it is meant to be had from, takes 1 ms to import
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader
from posix import pread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, BinaryIO


class Bundle:
    """A finder and loader (importlib.abc) of the modules in a bundle.

    places: (package?, offset, size) of a module's code by its name; extensions: paths of the extension modules that a start
    needs, by name, because to look for four of them costs 0.3 ms; file: the bundle; folder: the package's.
    """

    def __init__(self, file: BinaryIO, folder: str, places: dict[str, tuple[bool, int, int]], extensions: dict[str, str]) -> None:
        self._places = places
        self._extensions = extensions
        self._file = file
        self._above = folder.rpartition("/")[0]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module in the bundle, else None."""
        found = self._places.get(name)
        if found is None:
            extension = self._extensions.get(name)
            return ModuleSpec(name, ExtensionFileLoader(name, extension), origin=extension) if extension else None
        base = f"{self._above}/{name.replace('.', '/')}"
        spec = ModuleSpec(name, self, origin=f"{base}/__init__.py" if found[0] else f"{base}.py")  # type: ignore[arg-type]
        if found[0]:
            spec.submodule_search_locations = [base]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module's code."""
        module.__file__ = module.__spec__.origin  # type: ignore[union-attr]  # find_spec set it
        _, offset, size = self._places[module.__name__]
        exec(marshal.loads(pread(self._file.fileno(), size, offset)), module.__dict__)


def use(file: BinaryIO, folder: str, places: dict[str, tuple[bool, int, int]], extensions: dict[str, str]) -> None:
    """Imports from a bundle; the arguments are Bundle's."""
    sys.meta_path.insert(0, Bundle(file, folder, places, extensions))
