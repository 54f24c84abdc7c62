"""Whether a launcher lives: its record in ``owners/`` is locked by it, shared, as long as it does.

Owns the look.  Must not: remove anything, or touch a container's own lock, which starts wait for.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_alive(root: Path, launcher_id: str) -> bool:
    """Return whether a launcher of *root* lives."""
    if not launcher_id or "/" in launcher_id:
        return False
    try:
        fd = os.open(f"{root}/owners/{launcher_id}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
