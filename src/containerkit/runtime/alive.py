"""Whether a launcher lives: its record in ``owners/`` is locked by it, shared, as long as it does.
And which process a pidfd is of.

Owns the look.  Must not: remove anything, or touch a container's own lock, which starts wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from containerkit.errors import refusals

_LOOKS: Final = 2
"""Another process that looks at a dead one's record holds the lock for an instant."""


@refusals("see whether a launcher lives")
def is_alive(root: Path, launcher_id: str) -> bool:
    """Return whether a launcher of *root* lives."""
    if not launcher_id or "/" in launcher_id:
        return False
    try:
        fd = os.open(f"{root}/owners/{launcher_id}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        for _ in range(_LOOKS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
    finally:
        os.close(fd)
    return True


@refusals("read the number of a process")
def pid_of(pidfd: int) -> int:
    """Return the pid behind a pidfd, as this process sees it; -1 when it has ended (pidfd_open(2))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return int(file.read().partition("\nPid:")[2].split()[0])
