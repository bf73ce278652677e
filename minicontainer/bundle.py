"""The modules of the package from one file: what `make install` puts beside them, and the launchers import from.

A start imports some 80 small modules. Found, checked and read one by one they cost 11 ms of CPU, from one file 5.
The file holds each module's marshalled code; a module that it lacks is imported as ever.

    the interpreter's version, a line | length of the index, 4 bytes | index: {name: (package?, offset, size)} | code … code …
"""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, BinaryIO

NAME = "modules.bundle"
_LENGTH = 4
_FIRST_READ = 1 << 15  # more than the index


class Bundle:
    """A finder and loader (importlib.abc) of the modules in a bundle: where the code of each is, by module name."""

    def __init__(self, index: dict[str, tuple[bool, int, int]], file: BinaryIO, folder: str) -> None:
        self._index = index
        self._file = file
        self._above = folder.rpartition("/")[0]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a module in the bundle, else None."""
        found = self._index.get(name)
        if found is None:
            return None
        base = f"{self._above}/{name.replace('.', '/')}"
        origin = f"{base}/__init__.py" if found[0] else f"{base}.py"
        spec = sys.__spec__.__class__(name, self, origin=origin)  # type: ignore[arg-type]  # ModuleSpec, without importlib
        if found[0]:
            spec.submodule_search_locations = [base]
        return spec

    def create_module(self, spec: Any) -> None:
        """An ordinary module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module's code."""
        module.__file__ = module.__spec__.origin  # type: ignore[union-attr]  # find_spec set it
        _, offset, size = self._index[module.__name__]
        self._file.seek(offset)
        exec(marshal.loads(self._file.read(size)), module.__dict__)


def use(folder: str) -> None:
    """Imports from the bundle in the package's folder, if there is one that this interpreter made."""
    try:
        file = open(f"{folder}/{NAME}", "rb", 0)
    except FileNotFoundError:
        return
    tag = _tag()
    start = len(tag) + _LENGTH
    head = file.read(_FIRST_READ)
    if head.startswith(tag):
        length = int.from_bytes(head[len(tag) : start], "little")
        head += file.read(start + length - len(head)) if start + length > len(head) else b""
        sys.meta_path.insert(0, Bundle(marshal.loads(head[start : start + length]), file, folder))


def write(folder: str) -> None:
    """Makes the bundle of the package in folder, whole or not at all; without docstrings, which nobody reads at run time."""
    import os

    modules = {}
    above = os.path.dirname(folder)
    for where, _, files in os.walk(folder):
        for path in (os.path.join(where, f) for f in files if f.endswith(".py")):
            name = os.path.relpath(path, above).removesuffix(".py").replace("/", ".")
            with open(path, "rb") as f:
                code = compile(f.read(), path, "exec", dont_inherit=True, optimize=2)
            modules[name.removesuffix(".__init__")] = (name.endswith(".__init__"), marshal.dumps(code))
    temporary = f"{folder}/{NAME}.{os.getpid()}"
    with open(temporary, "wb") as out:
        out.write(_laid_out(modules))
    os.rename(temporary, f"{folder}/{NAME}")


def _laid_out(modules: dict[str, tuple[bool, bytes]]) -> bytes:
    """The file's content. modules: (package?, marshalled code) by name."""
    tag = _tag()
    start, index = 0, b""
    for _ in range(2):  # once to know how long the index is: marshal gives every number as many bytes
        offset, places = start, {}
        for name, (package, code) in modules.items():
            places[name] = (package, offset, len(code))
            offset += len(code)
        index = marshal.dumps(places)
        start = len(tag) + _LENGTH + len(index)
    return b"".join([tag, len(index).to_bytes(_LENGTH, "little"), index, *(code for _, code in modules.values())])


def _tag() -> bytes:
    """Marshalled code is good for the very version that made it."""
    return f"{sys.implementation.cache_tag} {sys.hexversion:x}\n".encode()
