"""Follow a log as it grows, until nobody writes it any more.

Owns the order in which is looked and waited, so that nothing is missed: what is there, then whether
it is over, then what was written until then.  Must not: cut lines, or know launchers and statuses.
Neighbours: `logs` and `runtime.attach` follow by it; the container's handle is the `Life`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from containerkit.stdio.logfiles import LogFiles
from containerkit.stdio.records import Record
from containerkit.stdio.waiting import Waiting
from containerkit.stdio.watch import Watch


class Life(Protocol):
    """Who writes a log."""

    def over(self) -> bool:
        """Say whether nothing will be written any more; what was written is there by then."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `over` may have changed.

        Asked before each wait; -1 while only the container's directory tells.
        """

    def close(self) -> None:
        """Let go of that descriptor: the follower asks no more."""


class Follower:
    """Records of a log, those that come later included.

    Args:
        directory: the container's.
        life: who writes it; closed with this.
        until_ns: it ends when the clock has passed this time.

    Attributes:
        files: where to begin; set before the first `take`.
    """

    __slots__ = ("_life", "_over", "_until_ns", "_watch", "files")

    def __init__(self, directory: Path, life: Life, *, until_ns: int | None = None) -> None:
        self.files: LogFiles | None = None
        self._life = life
        self._until_ns = until_ns
        self._over = False
        try:
            self._watch = Watch(directory)  # before the first look, so that nothing is missed
        except BaseException:
            life.close()
            raise

    def take(self) -> Waiting[list[Record]]:
        """Return the next records, [] when there will be none any more."""
        while self.files is not None:
            found = self.files.read(grow=True)
            if found or self._over:
                return found
            self._over = self._life.over() or self._is_late()
            if not self._over:
                yield from self._watch.changed(self._life.fileno(), self._deadline())
        return []

    def _is_late(self) -> bool:
        return self._until_ns is not None and time.time_ns() > self._until_ns

    def _deadline(self) -> float | None:
        if self._until_ns is None:
            return None
        return time.monotonic() + (self._until_ns - time.time_ns()) / 1e9

    def close(self) -> None:
        """End it; harmless when repeated."""
        files, self.files = self.files, None
        if files is not None:
            files.close()
        self._watch.close()
        self._life.close()
