"""Wait until something changes in a container's directory: its log grows, its record is written.

Owns one inotify instance.  Closing one costs the kernel some 10 ms (a grace period), so only what
follows a log makes one.  Where the user has no instance left (fs.inotify.max_user_instances), the
directory is looked at again every `_POLL_SECONDS`.
Must not: know what the files are.  Neighbours: `logs` follows by it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from containerkit.errors import HostError
from containerkit.stdio.waiting import READ, Interest, Wait, Waiting

_POLL_SECONDS: Final = 0.05
_EVENTS: Final = 64 << 10


class Watch:
    """What changes in one directory, from now on.

    Args:
        directory: is watched; its own removal is a change, too.

    Raises:
        HostError: there is no such directory.
    """

    __slots__ = ("_fd", "_interest")

    def __init__(self, directory: Path) -> None:
        from containerkit import _native

        self._interest: Interest = ()
        try:
            self._fd = _native.watch_directory(directory)
        except HostError as error:
            if error.errno not in (errno.EMFILE, errno.ENOSPC, errno.ENOMEM):
                raise
            self._fd = -1

    def changed(self, also: int = -1, deadline: float | None = None) -> Waiting[None]:
        """Wait until something has changed, or *also* is readable, or the deadline has passed.

        What changed since the last time counts: whoever looks only afterwards misses nothing.
        """
        waited = tuple((fd, READ) for fd in (self._fd, also) if fd >= 0)
        if waited != self._interest:
            self._interest = waited
        if self._fd < 0:
            soon = time.monotonic() + _POLL_SECONDS
            deadline = soon if deadline is None else min(soon, deadline)
        yield Wait(self._interest, deadline)
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0 and os.read(self._fd, _EVENTS):
                continue

    def close(self) -> None:
        """Stop watching; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
