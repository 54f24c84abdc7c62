"""Build the library with sanitizers, in ``.cache/sanitized`` of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support import builds

HERE = Path(__file__).resolve().parent
PLACE = builds.BUILDS / "sanitized"
REPORTS = PLACE / "reports"
PAGE_SIZE = 1 << 20

FLAGS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-O1",
    "-g",
)


class SanitizedBuild(NamedTuple):
    """What the tests run with."""

    package: Path
    """To be put before everything else in PYTHONPATH."""
    page: Path
    """What launchers and their children report."""

    def environment(self) -> dict[str, str]:
        """Return the environment of a Python with the sanitized library.

        Its memory comes from malloc, so that the sanitizer knows the bounds of each object.
        """
        log = f"log_path={REPORTS}/python"
        return {
            **os.environ,
            "PYTHONPATH": f"{self.package}:{builds.PROJECT}",
            "PYTHONMALLOC": "malloc",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_PRELOAD": _runtime("libasan.so"),
            "ASAN_OPTIONS": f"{log}:detect_leaks=1:leak_check_at_exit=0:allow_addr2line=1",
            "UBSAN_OPTIONS": f"{log}:print_stacktrace=1",
        }


def _runtime(name: str) -> str:
    found = subprocess.run(
        ["cc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
    )
    return os.path.realpath(found.stdout.strip())


def build() -> SanitizedBuild:
    """Return the build of the present sources, compiled when they have changed, with no reports."""
    made = SanitizedBuild(PLACE / "src", REPORTS / "page")
    stamp, key = PLACE / "stamp", builds.key(HERE)
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        package = made.package / "containerkit"
        builds.copy_package(package)
        recipe = builds.recipe()
        recipe.CFLAGS = (*recipe.CFLAGS, *FLAGS)
        builds.make_extension(recipe, package)
        _make_launcher(recipe.CFLAGS, recipe.sources(recipe.LAUNCHER), package / "ck-launcher")
        stamp.write_text(key)
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    with made.page.open("wb") as page:
        page.truncate(PAGE_SIZE)
    return made


def _make_launcher(flags: tuple[str, ...], files: list[Path], output: Path) -> None:
    """Compile the launcher, which is not static here: the sanitizer's runtime can not be."""
    define = f'-DCK_REPORTS="{REPORTS}/page"'
    runtime = ["-static-libasan", "-static-libubsan"]
    sources = map(str, [*files, HERE / "reports.c"])
    subprocess.run(["cc", *flags, define, *runtime, "-o", str(output), *sources], check=True)
