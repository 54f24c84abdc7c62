"""Whether a launcher rests: processor time, which a loop that is woken for nothing uses up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import containerkit as ck

MOST: Final = 0.06
"""Seconds that two execs cost a launcher at most, on a slow machine; a spinning one takes all it gets."""


def launcher_of(box: ck.Container) -> int:
    """Return the launcher of a running container as this process sees it."""
    status = Path(f"/proc/{box.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("\nPPid:")[2].split()[0])


def processor_time(pid: int) -> float:
    """Return what a process has used so far, in seconds (proc_pid_schedstat(5))."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


@contextmanager
def rests(box: ck.Container) -> Iterator[None]:
    """Check that the launcher of a container does next to nothing meanwhile."""
    launcher = launcher_of(box)
    before = processor_time(launcher)
    yield
    used = processor_time(launcher) - before
    assert used < MOST, f"the launcher used {used:.3f} s"
