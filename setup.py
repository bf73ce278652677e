"""Builds the compiled parts into the wheel: the cffi extension and the static programs stub and monitor."""

from __future__ import annotations

import os
import runpy

from setuptools import setup
from setuptools.command.build_py import build_py

BUILD = os.path.join("minicontainer", "kernel", "build.py")


class BuildWithStatic(build_py):
    """build_py, and after it the static programs next to the modules that run them."""

    def run(self) -> None:
        super().run()
        runpy.run_path(BUILD)["build_static"](os.path.join(self.build_lib, "minicontainer", "stub"))


setup(cffi_modules=[f"{BUILD}:ffi"], cmdclass={"build_py": BuildWithStatic})
