"""A kernel that lacks a call which containers need: the error names it, and the oldest that has all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLOSE_RANGE, MOUNT_SETATTR = 436, 442
"""On every architecture (linux/unistd.h)."""

PROGRAM = """
import sys
import containerkit as ck
from containerkit.care import kernel
from tests.no_openat2 import plugin

assert kernel.mount_attributes().known and kernel.close_range().known
plugin.refuse(int(sys.argv[2]))
print(kernel.mount_attributes().known, kernel.close_range().known)
try:
    ck.Engine.open(sys.argv[1]).run(None, ["true"])
except ck.MissingFeature as error:
    print(error.feature)
    print(error)
"""


@pytest.mark.needs("host root")
@pytest.mark.parametrize(
    ("call", "asked", "attempt"),
    [
        (MOUNT_SETATTR, "False True", "cannot set up the launcher"),
        (CLOSE_RANGE, "True False", "cannot start the launcher"),
    ],
)
def test_the_error_names_the_oldest(engine_root: Path, call: int, asked: str, attempt: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine_root, str(call)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    known, feature, *text = done.stdout.splitlines() or ["", "", done.stderr]
    assert (known, feature) == (asked, "kernel"), done
    assert text[0].startswith(attempt)
    assert "5.12 is the oldest" in text[0]
