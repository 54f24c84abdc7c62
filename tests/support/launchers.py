"""Other launchers for the controls of tests: the C core with lines of it as they were, or worse.

Owns: building a launcher from a changed copy of the sources, and having this process start it.  Must
not: change the tree.  A line that is not there any more is an error, so that no control goes stale.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from containerkit.runtime import launcher

NATIVE = Path(__file__).parents[2] / "src" / "_native"

Change = tuple[str, str, str]
"""A file of the C core, a text in it that is there once, and what to put in its place."""


def build(folder: Path, changes: Sequence[Change]) -> Path:
    """Return the launcher made of the sources with these changes."""
    sources = folder / "_native"
    shutil.copytree(NATIVE, sources)
    for name, old, new in changes:
        text = (sources / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has {text.count(old)} times: {old}"
        (sources / name).write_text(text.replace(old, new), encoding="utf-8")
    program = folder / "ck-launcher"
    command = [sys.executable, str(sources / "build_native.py"), "launcher", str(program)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return program


@contextmanager
def used(program: Path) -> Iterator[None]:
    """Launchers that this process starts meanwhile are this program."""
    with mock.patch.object(launcher, "PROGRAM", program):
        _forget_the_copy()
        try:
            yield
        finally:
            _forget_the_copy()


def _forget_the_copy() -> None:
    with launcher._program_lock:
        if launcher._program_fd >= 0:
            os.close(launcher._program_fd)
        launcher._program_fd = -1
