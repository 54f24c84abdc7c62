"""Build the library of the fault sweeps: the same sources, where every call may be told to fail.

Owns the build only: a copy of the package beside the fault build's extension, launcher and preload
library, made anew when a source has changed, in ``.cache/faults`` of the checkout.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support import builds

HERE = Path(__file__).resolve().parent
PLACE = builds.BUILDS / "faults"
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
            "PYTHONPATH": f"{self.package}:{builds.PROJECT}",
            "LD_PRELOAD": str(self.preload),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def build() -> FaultBuild:
    """Return the fault build of the present sources, compiled when they have changed."""
    made = FaultBuild(PLACE / "src", PLACE / "preload.so", PLACE / "page")
    stamp, key = PLACE / "stamp", builds.key(HERE)
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        _make_package(made.package / "containerkit")
        flags = ["-D_GNU_SOURCE=", "-O1", "-Wall", "-Wextra", "-Werror", *DEFINES]
        builds.make_shared(flags, [HERE / "preload.c", HERE / "ck_fault.c"], made.preload)
        made.page.write_bytes(bytes(64))
        stamp.write_text(key)
    return made


def _make_package(package: Path) -> None:
    builds.copy_package(package)
    recipe = builds.recipe()
    recipe.CFLAGS = (*recipe.CFLAGS, *DEFINES)
    recipe.LAUNCHER = (*recipe.LAUNCHER, str(HERE / "ck_fault.c"))
    plain = recipe.sources
    recipe.sources = lambda patterns: [
        *plain(tuple(p for p in patterns if not p.startswith("/"))),
        *(Path(p) for p in patterns if p.startswith("/")),
    ]
    recipe.build_launcher(package / "ck-launcher")
    builds.make_extension(recipe, package, [HERE / "ck_fault.c"])


if __name__ == "__main__":
    sys.stdout.write(f"{build().package}\n")
