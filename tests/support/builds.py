"""Second builds of the library: the same sources, with other flags, beside a copy of the package."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = PROJECT / "src" / "_native"
BUILDS = PROJECT / ".cache"


def key(own: Path) -> str:
    """Return what changes when a source of the library, or of the build in *own*, does."""
    found = hashlib.sha256()
    for path in _files(own):
        found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _files(own: Path) -> Iterator[Path]:
    yield from sorted(SOURCES.glob("*.[ch]"))
    yield from sorted(own.glob("*.[ch]"))
    yield from sorted(own.glob("build.py"))
    yield from sorted((PROJECT / "src" / "containerkit").rglob("*.py"))
    yield SOURCES / "build_native.py"


def recipe() -> Any:
    """Return ``build_native.py`` as a module of one's own, to be changed."""
    spec = importlib.util.spec_from_file_location("build_native", SOURCES / "build_native.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_package(package: Path) -> None:
    """Copy what is Python of the package."""
    ignored = shutil.ignore_patterns("*.so", "ck-launcher", "__pycache__")
    shutil.copytree(PROJECT / "src" / "containerkit", package, ignore=ignored)


def make_extension(recipe: Any, package: Path, extra: Sequence[Path] = ()) -> None:
    """Compile what CFFI generates, as setuptools would."""
    generated = package.parent / "_ck.c"
    recipe.make_ffibuilder().emit_c_code(str(generated))
    files = [generated, *extra, *recipe.sources(recipe.EXTENSION)]
    include = [f"-I{sysconfig.get_path('include')}", f"-I{SOURCES}"]
    output = package / "_ck.abi3.so"
    make_shared([*recipe.CFLAGS, *include, "-DPy_LIMITED_API=0x030b0000"], files, output)


def make_shared(flags: Sequence[str], files: Sequence[Path], output: Path) -> None:
    subprocess.run(
        ["cc", "-shared", "-fPIC", *flags, "-o", str(output), *map(str, files), "-ldl"], check=True
    )
