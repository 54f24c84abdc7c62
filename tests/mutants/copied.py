"""The copy of the checkout in which mutants live, and its builds of the C core.

Owns ``.cache/mutants/tree``; writes nowhere else.  It stays from run to run, so that only what has
changed is copied and compiled.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import builds

PLACE = builds.BUILDS / "mutants"
TREE = PLACE / "tree"
COPIED = ("src", "tests", "examples", "benchmarks", "docs", "tools")
LEFT_OUT = ("__pycache__", ".so", ".o", ".pyc", ".egg-info", "ck-launcher", "_ck.c")
NATIVE = "src/_native"
EXTENSION = (
    "from setuptools import setup; setup(cffi_modules=['src/_native/build_native.py:ffibuilder'])"
)
"""As in setup.py, which compiles the whole launcher beside it."""


class BuildFailed(Exception):
    """The compiler refused it."""


def _files() -> Iterator[str]:
    for name in sorted(os.listdir(builds.PROJECT)):
        if (builds.PROJECT / name).is_file():
            yield name
    for top in COPIED:
        for folder, folders, files in os.walk(builds.PROJECT / top):
            folders[:] = [name for name in folders if not name.endswith(LEFT_OUT)]
            for name in files:
                if not name.endswith(LEFT_OUT):
                    yield os.path.relpath(Path(folder, name), builds.PROJECT)


@contextmanager
def copy() -> Iterator[None]:
    """Bring the copy up to date, built, for us alone."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = set(_files())
        for name in wanted:
            _copy_file(name)
        for folder, _, files in os.walk(TREE):
            for file in files:
                path = Path(folder, file)
                if str(path.relative_to(TREE)) not in wanted and not file.endswith(LEFT_OUT):
                    path.unlink()
        build(everything=True)
        yield


def _copy_file(name: str) -> None:
    source, target = builds.PROJECT / name, TREE / name
    if target.is_symlink() or not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
    target.chmod(source.stat().st_mode & 0o777)


@contextmanager
def replaced(file: str, text: str) -> Iterator[None]:
    """Have a file of the copy with another text meanwhile, compiled where it is C.

    Raises:
        BuildFailed: it cannot be compiled.
    """
    path = TREE / file
    plain = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        build()  # also what the mutant before has left
        yield
    finally:
        path.write_text(plain, encoding="utf-8")


def build(*, everything: bool = False) -> None:
    """Compile what has changed: each file of the launcher by itself, the extension as a whole.

    Raises:
        BuildFailed: the compiler refused it.
    """
    native, package = TREE / NATIVE, TREE / "src" / "containerkit"
    recipe = builds.recipe()
    headers = b"".join(path.read_bytes() for path in sorted(native.glob("*.h")))
    objects = PLACE / "objects"
    objects.mkdir(exist_ok=True)
    flags = [*recipe.CFLAGS, "-ffunction-sections", "-fdata-sections"]
    compiler = recipe.launcher_compiler()
    names = [path.name for path in recipe.sources(recipe.LAUNCHER)]
    made = False
    for name in names:
        source = native / name
        key = repr((compiler, flags)).encode() + headers + source.read_bytes()
        made |= _once(
            objects / f"{name}.key",
            key,
            [*compiler, *flags, "-c", "-o", objects / f"{name}.o", source],
        )
    output = package / "ck-launcher"
    if made or not output.exists():
        linked = [objects / f"{name}.o" for name in names]
        sections = ["-static", "-Wl,--gc-sections", "-s", *recipe.LDFLAGS]
        _run([*compiler, *flags, *sections, "-o", output, *linked])
    shared = b"".join(path.read_bytes() for path in recipe_files(recipe, native))
    if everything and not list(package.glob("_ck*.so")):
        (objects / "extension.key").unlink(missing_ok=True)
    extension = [sys.executable, "-c", EXTENSION, "--quiet", "build_ext", "--inplace", "--force"]
    _once(objects / "extension.key", headers + shared, extension)


def recipe_files(recipe: object, native: Path) -> list[Path]:
    """Return the copies of the extension's C files."""
    names = [path.name for path in recipe.sources(recipe.EXTENSION)]  # type: ignore[attr-defined]
    return [native / "build_native.py", *(native / name for name in names)]


def _once(stamp: Path, key: bytes, command: Sequence[object]) -> bool:
    if stamp.exists() and stamp.read_bytes() == key:
        return False
    stamp.unlink(missing_ok=True)
    _run(command)
    stamp.write_bytes(key)
    return True


def _run(command: Sequence[object]) -> None:
    done = subprocess.run(
        list(map(str, command)),
        cwd=TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildFailed(done.stdout)
