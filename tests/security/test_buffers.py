"""What the kernel holds for a container's sockets counts as its memory.

Version 1 of control groups counts TCP and UDP apart, and only where that is limited too: connections
to itself, full and never read, take gigabytes, and in the end those that all of the host has.
"""

from __future__ import annotations

import re

import pytest

import containerkit as ck

MEMORY = 16 << 20
PAIRS = 40


def taken(engine: ck.Engine, hostile: str, limits: ck.Limits) -> int:
    command = ["/attacks/buffers", str(PAIRS)]
    with engine.start(hostile, command, limits=limits, ready=ck.Ready(log="end")) as box:
        found = re.search(r"(\d+) end", box.log_text())
    assert found is not None
    return int(found[1])


@pytest.mark.needs("control groups")
def test_they_count_as_memory(engine: ck.Engine, hostile: str) -> None:
    limited = taken(engine, hostile, ck.Limits(memory=MEMORY))
    assert limited < 3 * MEMORY  # the kernel leaves each socket a little, whatever the limit
    free = taken(engine, hostile, ck.Limits())  # the control
    assert free > 4 * MEMORY
