"""The control group of a run that has ended serves the next container, which has nothing of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.limits.support import VERSION, groups, value

pytestmark = [
    pytest.mark.needs("control groups"),
    pytest.mark.skipif(VERSION == "v2", reason="version 2 makes a group for each"),
]

LIMITS = ck.Limits(memory="32m", memory_swap="32m", cpus=0.5, pids=7)
RUNS = 20


def test_limits_are_put_back(engine: ck.Engine, busybox: str) -> None:
    for _ in range(RUNS):
        assert engine.run(busybox, ["true"], limits=LIMITS).exit.ok
    with engine.start(busybox, ["sleep", "1000"]) as container:
        assert int(groups(container)["memory"].name) < RUNS, "none was used again"
        assert int(value(container, "memory.limit_in_bytes")) > 1 << 60
        assert int(value(container, "memory.memsw.limit_in_bytes")) > 1 << 60
        assert value(container, "cpu.cfs_quota_us") == "-1"
        assert value(container, "pids.max") == "2048"


@pytest.fixture
def memory_of_the_host() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield path


def test_what_is_still_charged_counts_against_nobody_else(
    engine: ck.Engine, busybox: str, memory_of_the_host: str
) -> None:
    """A file in memory of the host outlives who wrote it, and is charged to its group."""
    mounts = [ck.Mount.bind(memory_of_the_host, "/memory")]
    for number in range(3):
        script = ["dd", "if=/dev/zero", f"of=/memory/{number}", "bs=1M", "count=40"]
        assert engine.run(busybox, script, mounts=mounts).exit.ok
        assert engine.run(busybox, ["true"], limits=LIMITS).exit.ok
        assert Path(memory_of_the_host, str(number)).stat().st_size == 40 << 20
