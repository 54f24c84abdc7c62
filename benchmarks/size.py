"""Section size: how small the C core is, and that the launcher builds with glibc too."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.command import BenchmarkError, call
from benchmarks.options import Options
from benchmarks.results import Bar, Line, Section, Series

_NATIVE = Path(__file__).resolve().parent.parent / "src" / "_native"
_KIB = 200.0

_METHOD = [
    (
        "Lines of all `.c` and `.h` files in `src/_native`, those that hold code and all of them; "
        "bytes of the launcher as it is shipped: static, stripped."
    )
]


def _launcher(directory: Path, compiler: str | None) -> float:
    """Build the launcher as setup.py does, with a compiler of choice; return its KiB."""
    output = directory / "ck-launcher"
    environment = dict(os.environ)
    if compiler:
        environment["CK_LAUNCHER_CC"] = compiler
    call([sys.executable, _NATIVE / "build_native.py", "launcher", output], env=environment)
    if not output.exists():
        raise BenchmarkError("the launcher has no source files yet")
    return output.stat().st_size / 1024


def _code_lines(text: str) -> int:
    """Count the lines of C that are neither blank nor comment."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return sum(1 for line in bare.splitlines() if line.strip())


def run(options: Options) -> Section:
    """Measure the section."""
    section = Section("size", "How small the C core is", list(_METHOD))
    files = sorted([*_NATIVE.glob("*.c"), *_NATIVE.glob("*.h")])
    texts = [path.read_text(encoding="utf-8") for path in files]
    code = Series("code", (float(sum(map(_code_lines, texts))),), "lines")
    everything = Series("lines", (float(sum(text.count("\n") for text in texts)),), "lines")
    section.lines += [
        Line(f"C core, {len(files)} files: code", code),
        Line("C core: with comments and blank lines", everything),
    ]
    builds: list[tuple[str, str | None, Bar | None]] = [
        ("static glibc", shutil.which("cc"), None),
    ]
    if shutil.which("musl-gcc"):
        builds.insert(0, ("static musl", None, Bar("at most", _KIB)))
    for name, compiler, limit in builds:
        with tempfile.TemporaryDirectory() as directory:
            try:
                size = _launcher(Path(directory), compiler)
            except BenchmarkError as error:
                section.notes.append(f"launcher, {name}: does not build: {error}")
                continue
        series = Series(name, (size,), "KiB")
        section.lines.append(Line(f"launcher, {name}, stripped", series, None, limit, "value"))
    return section
