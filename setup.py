"""Build what is not Python: the CFFI extension and the static launcher program.

Everything declarative is in pyproject.toml.  This file owns two things: the extension is one
abi3 file for every Python from 3.11 on, and `ck-launcher` is compiled, statically, beside it.
The lists of C files and the compiler flags are those of `src/_native/build_native.py`.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "src" / "_native"))

import build_native  # noqa: E402  (found through the line above)

ABI3 = not sysconfig.get_config_var("Py_GIL_DISABLED")


class BuildExt(build_ext):
    """build_ext that compiles the launcher too, into the tree or beside the extension."""

    def run(self) -> None:
        """Build the extension, then the launcher; a wheel takes what lies in build_lib."""
        super().run()
        package = HERE / "src" if self.inplace else Path(self.build_lib)
        build_native.build_launcher(package / "containerkit" / "ck-launcher")


setup(
    cffi_modules=["src/_native/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
