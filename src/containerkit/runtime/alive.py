"""Whether a launcher lives: its record in ``owners/`` is locked by it, shared, as long as it does.

Owns the look.  Must not: remove anything, or touch a container's own lock, which starts wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

_LOOKS: Final = 2
"""Another process that looks at a dead one's record holds the lock for an instant."""


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
