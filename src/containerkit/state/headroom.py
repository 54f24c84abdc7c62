"""Space set aside so that a full disk can still be opened, and something on it removed.

Owns: the files that hold it.  Must not: decide when the catalog is worth it (`catalog` does).

SQLite makes two files when the first process opens the catalog, the second of 32 KiB: a disk without
a free byte or a free file would let nobody in, not even to remove something.  So a bit is given up for
an opening, and all of it for a removal; it is set aside again once there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_FOR_REMOVAL: Final = ".headroom"
_FOR_OPENING: Final = (".headroom-1", ".headroom-2", ".headroom-3", ".headroom-4")
_SIZES: Final = {_FOR_REMOVAL: 512 * 1024, **dict.fromkeys(_FOR_OPENING, 32 * 1024)}
_SCARCE: Final = sum(_SIZES.values())
_FEW_FILES: Final = 2 * len(_SIZES)


class Headroom:
    """The space set aside in one root.

    Args:
        root: its directory.
    """

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def is_wanted(self, times: int = 1) -> bool:
        """Whether the disk has less left, in bytes or in files, than *times* what is set aside."""
        try:
            status = os.statvfs(self._root)
        except FileNotFoundError:  # the root is gone: let others tell
            return False
        # A file system that counts no files says 0.
        few = bool(status.f_files) and status.f_favail < times * _FEW_FILES
        return few or status.f_bavail * status.f_frsize < times * _SCARCE

    def give(self) -> bool:
        """Give a bit of it up, for an opening; False when there is none."""
        for name in (*_FOR_OPENING, _FOR_REMOVAL):
            with contextlib.suppress(FileNotFoundError):
                (self._root / name).unlink()
                return True
        return False

    def give_all(self) -> None:
        """Give it up, for a removal."""
        while self.give():
            continue

    def keep(self) -> None:
        """Set it aside, if there is room enough."""
        with contextlib.suppress(OSError):
            missing = [name for name in _SIZES if not (self._root / name).exists()]
            if not missing or self.is_wanted(times=2):
                return
            for name in missing:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(self._root / name, flags, 0o600)
                try:
                    os.posix_fallocate(fd, 0, _SIZES[name])
                finally:
                    os.close(fd)
