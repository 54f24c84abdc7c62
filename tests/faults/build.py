"""Build the library of the fault sweeps: the same sources, where every call may be told to fail.

Owns the build only: a copy of the package beside the fault build's extension, launcher and preload
library, made anew when a source has changed, in ``.cache/faults`` of the checkout.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SOURCES = PROJECT / "src" / "_native"
PLACE = PROJECT / ".cache" / "faults"
DEFINES = ["-DCK_FAULT=1", f'-DCK_FAULT_PAGE="{PLACE}/page"', f"-I{HERE}"]


class FaultBuild(NamedTuple):
    """What a victim runs with."""

    package: Path
    """To be put before everything else in PYTHONPATH."""
    preload: Path
    page: Path

    def environment(self) -> dict[str, str]:
        """Return the environment of a victim process."""
        return {
            **os.environ,
            "PYTHONPATH": f"{self.package}:{PROJECT}",
            "LD_PRELOAD": str(self.preload),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def build() -> FaultBuild:
    """Return the fault build of the present sources, compiled when they have changed."""
    made = FaultBuild(PLACE / "src", PLACE / "preload.so", PLACE / "page")
    stamp, key = PLACE / "stamp", _key()
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        _make_package(made.package / "containerkit")
        _make_preload(made.preload)
        made.page.write_bytes(bytes(64))
        stamp.write_text(key)
    return made


def _files() -> Iterator[Path]:
    yield from sorted(SOURCES.glob("*.[ch]"))
    yield from sorted(HERE.glob("*.[ch]"))
    yield from sorted((PROJECT / "src" / "containerkit").rglob("*.py"))
    yield SOURCES / "build_native.py"


def _key() -> str:
    found = hashlib.sha256()
    for path in _files():
        found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _recipe() -> Any:
    spec = importlib.util.spec_from_file_location("build_native", SOURCES / "build_native.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _make_package(package: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "ck-launcher", "__pycache__")
    shutil.copytree(PROJECT / "src" / "containerkit", package, ignore=ignored)
    recipe = _recipe()
    recipe.CFLAGS = (*recipe.CFLAGS, *DEFINES)
    recipe.LAUNCHER = (*recipe.LAUNCHER, str(HERE / "ck_fault.c"))
    plain = recipe.sources
    recipe.sources = lambda patterns: [
        *plain(tuple(p for p in patterns if not p.startswith("/"))),
        *(Path(p) for p in patterns if p.startswith("/")),
    ]
    recipe.build_launcher(package / "ck-launcher")
    _make_extension(recipe, package)


def _make_extension(recipe: Any, package: Path) -> None:
    """Compile what CFFI generates, as setuptools would."""
    generated = PLACE / "_ck.c"
    recipe.make_ffibuilder().emit_c_code(str(generated))
    files = [generated, HERE / "ck_fault.c", *recipe.sources(recipe.EXTENSION)]
    include = [f"-I{sysconfig.get_path('include')}", f"-I{SOURCES}"]
    output = package / "_ck.abi3.so"
    _compile([*recipe.CFLAGS, *include, "-DPy_LIMITED_API=0x030b0000"], files, output)


def _make_preload(output: Path) -> None:
    flags = ["-D_GNU_SOURCE=", "-O1", "-Wall", "-Wextra", "-Werror", *DEFINES]
    _compile(flags, [HERE / "preload.c", HERE / "ck_fault.c"], output)


def _compile(flags: list[str], files: list[Path], output: Path) -> None:
    subprocess.run(
        ["cc", "-shared", "-fPIC", *flags, "-o", str(output), *map(str, files), "-ldl"], check=True
    )


if __name__ == "__main__":
    sys.stdout.write(f"{build().package}\n")
