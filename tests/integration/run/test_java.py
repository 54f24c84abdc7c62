"""Java chooses its heap by the container's limit.

It looks for one only where the kernel has all controllers that it knows (/proc/cgroups).  User-mode Linux
lacks one: there a privileged container tells Java of it.

    tests/kernel/run -q tests/integration/run/test_java.py      (control groups of version 2)
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import containerkit as ck

SECURITY = {"default": ck.Security(), "strict": ck.Security.strict()}

JAVA = "java -XX:MaxRAMPercentage=50 -XX:+PrintFlagsFinal -version"
TELL = """
(cat /proc/cgroups; printf 'cpuset\\t0\\t1\\t1\\n') > /dev/shm/cgroups
mount --bind /dev/shm/cgroups /proc/cgroups
"""


@pytest.mark.needs("control groups")
@pytest.mark.skipif(not shutil.which("java"), reason="needs the program java")
@pytest.mark.parametrize("kind", SECURITY)
def test_half_of_the_limit(engine: ck.Engine, kind: str) -> None:
    """Where it would take half of the host's memory."""
    command, security = JAVA, SECURITY[kind]
    if "cpuset" not in Path("/proc/cgroups").read_text(encoding="ascii"):
        command, security = f"{TELL}{JAVA}", ck.Security.privileged()
    result = engine.run(
        None, command, limits=ck.Limits(memory="512m"), security=security, text=True
    )
    heap = [line.split()[3] for line in result.stdout.splitlines() if " MaxHeapSize " in line]
    assert heap == [str(256 << 20)], result.stderr
