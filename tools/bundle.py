"""bundle.py FOLDER: writes FOLDER/modules.bundle, from which the launchers import the package in FOLDER (minicontainer/bundle.py).

To be run by the interpreter that will read it: marshalled code is good for the very version that made it.
"""

from __future__ import annotations

import ast
import marshal
import os
import sys
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from importlib.util import find_spec
from types import CodeType

NAME = "modules.bundle"
HEAD = 1 << 15  # bytes: the launcher reads so much at once; marshal ignores what stands behind the head
KERNEL = "minicontainer.kernel._kernel"
FOREIGN = ("_cffi_backend", "_json", "mmap", "struct")  # modules of others that a start imports


def write(folder: str) -> None:
    """Makes the bundle of the package in folder, whole or not at all."""
    above = os.path.dirname(folder)
    sys.path.append(above)
    modules, extensions = {}, {}
    for where, _, files in os.walk(folder):
        for path in (os.path.join(where, f) for f in files if f.endswith(".py")):
            name = os.path.relpath(path, above).removesuffix(".py").replace("/", ".")
            modules[name.removesuffix(".__init__")] = (name.endswith(".__init__"), marshal.dumps(compiled(path)))
    for name in (KERNEL, *FOREIGN):
        spec = find_spec(name)
        if spec and spec.origin and isinstance(spec.loader, ExtensionFileLoader):
            extensions[name] = spec.origin
        elif spec and spec.origin and isinstance(spec.loader, SourceFileLoader):
            modules[name] = (False, marshal.dumps(compiled(spec.origin)))
    temporary = f"{folder}/{NAME}.{os.getpid()}"
    with open(temporary, "wb") as out:
        out.write(laid_out(compiled(os.path.join(folder, "bundle.py")), modules, extensions))
    os.rename(temporary, f"{folder}/{NAME}")


def compiled(path: str) -> CodeType:
    """A module's code without what means nothing when it runs."""
    with open(path, "rb") as f:
        tree = WithoutTypes().visit(ast.parse(f.read(), path))
    return compile(tree, path, "exec", dont_inherit=True, optimize=2)


class WithoutTypes(ast.NodeTransformer):
    """Takes away annotations, what is imported for them, and __future__, which is about them: 5 % of the code to load.

    Nothing in the package looks at its own annotations; optimize=2 takes the docstrings.
    """

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        self.generic_visit(node)
        return ast.copy_location(ast.Assign([node.target], node.value) if node.value else ast.Pass(), node)

    def visit_If(self, node: ast.If) -> ast.stmt:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse:
            return ast.copy_location(ast.Pass(), node)
        self.generic_visit(node)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node


def laid_out(finder: CodeType, modules: dict[str, tuple[bool, bytes]], extensions: dict[str, str]) -> bytes:
    """The file's content. modules: (package?, marshalled code) by name; extensions: path by name."""
    offset, places = HEAD, {}
    for name, (package, code) in modules.items():
        places[name] = (package, offset, len(code))
        offset += len(code)
    head = marshal.dumps((finder, places, extensions))
    if len(head) > HEAD:
        raise SystemExit(f"bundle.py: the head has {len(head)} bytes; make HEAD larger")
    return b"".join([head.ljust(HEAD, b"\0"), *(code for _, code in modules.values())])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(sys.argv[1])
