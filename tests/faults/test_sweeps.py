"""A sample of each sweep; `make sweep-faults`, `sweep-kills` and `sweep-crowd` run them at size."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.faults import sweep_faults, sweep_kills
from tests.faults.build import FaultBuild, build
from tests.faults.operations import OPERATIONS

EACH = int(os.environ.get("CONTAINERKIT_FAULT_POINTS", "6"))
"""Points of each operation: so many, on a fast machine and on a slow one."""
POINTS = int(os.environ.get("CONTAINERKIT_KILL_POINTS", "24"))


@pytest.fixture(scope="module")
def fault_build() -> FaultBuild:
    if shutil.which("cc") is None:
        pytest.skip("needs the program cc (tools/debian-packages test installs it)")
    return build()


@pytest.mark.slow
@pytest.mark.timeout(EACH * 200)
def test_every_failing_call_is_told(busybox: str, fault_build: FaultBuild) -> None:
    done = sweep_faults.sweep(
        image=busybox, seconds=None, seed=1, only=[], fault_build=fault_build, most=EACH
    )
    assert not done.findings, "\n".join(done.findings)
    assert done.points >= len(OPERATIONS), "hardly a call failed: is the build at work?"


@pytest.mark.slow
@pytest.mark.timeout(POINTS * 50)
def test_a_killed_process_leaves_nothing(busybox: str, fault_build: FaultBuild) -> None:
    done = sweep_kills.sweep(image=busybox, points=POINTS, seed=1, fault_build=fault_build)
    assert not done.findings, "\n".join(done.findings)
    assert done.points == POINTS
