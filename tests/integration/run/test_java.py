"""Java chooses its heap by the container's limit.

It looks for one only where the kernel has all controllers that it knows (/proc/cgroups), which user-mode
Linux has not: so not beside the other tests of limits.
"""

from __future__ import annotations

import shutil

import pytest

import containerkit as ck

SECURITY = {"default": ck.Security(), "strict": ck.Security.strict()}


@pytest.mark.needs("control groups")
@pytest.mark.skipif(not shutil.which("java"), reason="needs the program java")
@pytest.mark.parametrize("kind", SECURITY)
def test_half_of_the_limit(engine: ck.Engine, kind: str) -> None:
    """Where it would take half of the host's memory."""
    command = "java -XX:MaxRAMPercentage=50 -XX:+PrintFlagsFinal -version"
    result = engine.run(
        None, command, limits=ck.Limits(memory="512m"), security=SECURITY[kind], text=True
    )
    heap = [line.split()[3] for line in result.stdout.splitlines() if " MaxHeapSize " in line]
    assert heap == [str(256 << 20)], result.stderr
