"""The page that says which call fails; the layout of ck_fault.h."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple, Self

_FORMAT: Final = struct.Struct("<IIiIIII4x32s")

CLASSES: Final = {
    "open": 1,
    "write": 2,
    "fsync": 4,
    "rename": 8,
    "mkdir": 16,
    "mount": 32,
    "clone": 64,
    "mmap": 128,
    "socket": 256,
}
EVERY: Final = sum(CLASSES.values())

ERRORS: Final = {
    "open": (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EINTR, errno.EPERM),
    "write": (errno.ENOSPC, errno.EIO, errno.EINTR),
    "fsync": (errno.ENOSPC, errno.EIO),
    "rename": (errno.ENOSPC, errno.EIO, errno.EPERM),
    "mkdir": (errno.ENOSPC, errno.EIO, errno.ENOMEM, errno.EPERM),
    "mount": (errno.ENOSPC, errno.EIO, errno.ENOMEM, errno.EPERM),
    "clone": (errno.ENOMEM, errno.EMFILE, errno.EPERM),
    "mmap": (errno.ENOMEM,),
    "socket": (errno.EMFILE, errno.ENOMEM, errno.EINTR, errno.EPERM),
}
"""What each class of calls may say, of those the man pages know."""


NEVER: Final = 1 << 30
"""A call that no operation comes to: it is only counted."""


class Fault(NamedTuple):
    """What happened at the chosen call."""

    counted: int
    """Calls counted so far."""
    hit: bool
    name: str


class Page:
    """The shared page, mapped."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORMAT.size)

    def arm(self, classes: int, error: int, nth: int) -> None:
        """From now on count calls of these classes; the nth says *error* (0: it waits)."""
        self._map[:] = _FORMAT.pack(0, classes, error, nth, 0, 0, 0, b"")
        self._map[0] = 1

    def disarm(self) -> Fault:
        """Stop counting and tell what there was."""
        self._map[0] = 0
        return self.look()

    def look(self) -> Fault:
        """Tell what there was so far."""
        _, _, _, _, count, hit, _, name = _FORMAT.unpack(self._map[:])
        return Fault(count, bool(hit), os.fsdecode(name.rstrip(b"\0")))

    def close(self) -> None:
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
