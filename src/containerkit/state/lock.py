"""Locks between processes and threads: flock on one open file, waited for with a deadline.

Owns: taking, verifying and giving back a flock; what a forked child does with its copies.
Must not: know what a lock means.  Neighbours: `content` locks ingest files, `snapshots` layer
directories, `state.root` the sweep of the garbage collector.

Why flock and not fcntl: a flock belongs to the open file, so two threads exclude each other as two
processes do, and closing another descriptor of the same file does not drop it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from containerkit.errors import Timeout, refusals

# A waiting process asks again after 1 ms at first, then more and more rarely: a woken flock would
# need a thread or a signal of its own, and neither may be imposed on the embedding program.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class Cancelled(Exception):
    """The waiting operation was told to end; whoever told it raises an error of its own."""


class FileLock:
    """A flock on a file or directory, at most one holder unless shared.

    The file is created when missing.  A lock on a name that was removed or replaced meanwhile is
    never returned: after each flock the open file is compared with what the name shows.

    Args:
        path: of the file that carries the lock.
        shared: whether other shared holders are let in.
        directory: the path is an existing directory; it is never created.

    Blocking: only in ``acquire``; give a deadline.
    """

    __slots__ = ("__weakref__", "_directory", "_fd", "_shared", "path")

    def __init__(self, path: Path, *, shared: bool = False, directory: bool = False) -> None:
        self.path = path
        self._shared = shared
        self._directory = directory
        self._fd = -1

    @property
    def fd(self) -> int:
        """The locked descriptor, -1 when not held."""
        return self._fd

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def try_acquire(self) -> bool:
        """Take the lock if that needs no waiting.

        Raises:
            FileNotFoundError: the directory (``directory=True``) is not there.
        """
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if self._is_named(fd):
                    _held.add(self)
                    self._fd = fd
                    return True
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:  # an interrupt too: this process would lock itself out
                os.close(fd)
                raise
            os.close(fd)

    def acquire(
        self, *, deadline: float | None = None, cancelled: threading.Event | None = None
    ) -> Self:
        """Take the lock, waiting until *deadline* (``time.monotonic`` seconds; None: for ever).

        Raises:
            Timeout: the deadline passed first.
            Cancelled: *cancelled* was set first.
            FileNotFoundError: the directory (``directory=True``) is not there.
        """
        pause = _FIRST_PAUSE
        try:
            while not self.try_acquire():
                left = _LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise Timeout(
                        f"cannot lock {self.path.name}: another process or thread holds it",
                        hint="it is pulling, unpacking or collecting garbage; wait longer",
                    )
                if cancelled is None:
                    time.sleep(min(pause, left))
                elif cancelled.wait(min(pause, left)):
                    raise Cancelled
                pause = min(pause * 2, _LONGEST_PAUSE)
        except BaseException:  # interrupted when it was taken already
            self.release()
            raise
        return self

    def holding(self, *, deadline: float) -> Holding:
        """Return a context manager that takes it as `acquire` does, and releases it."""
        return Holding(self, deadline)

    def release(self, *, unlink: bool = False) -> None:
        """Give the lock back; with *unlink* remove its file first, while still holding it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            _held.discard(self)
            if unlink:
                self.path.unlink(missing_ok=True)
        finally:
            try:
                # Explicitly, not by closing alone: a child forked meanwhile may hold a copy of the
                # descriptor, and the lock lives as long as any copy does.
                fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                os.close(fd)

    def _open(self) -> int:
        kind = os.O_RDONLY | os.O_DIRECTORY if self._directory else os.O_RDWR | os.O_CREAT
        with refusals(f"open lock {self.path}"):
            return os.open(self.path, kind | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _is_named(self, fd: int) -> bool:
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(fd), named)

    def _abandon(self) -> None:
        """Close the descriptor without unlocking: the lock is the parent's, not this child's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        try:
            return self if self.held else self.acquire()
        except BaseException:
            self.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.release()


class Holding:
    """A lock held within a ``with`` block.

    A class, since an interrupt may come between a generator's yield and the block: then a lock taken
    in it is held as long as anybody looks at the exception, so that undoing would wait for it.
    """

    __slots__ = ("_deadline", "_lock")

    def __init__(self, lock: FileLock, deadline: float) -> None:
        self._lock = lock
        self._deadline = deadline

    def __enter__(self) -> None:
        try:
            self._lock.acquire(deadline=self._deadline)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _abandon_all() -> None:
    for lock in list(_held):
        lock._abandon()
    _held.clear()


# Without this, a forked worker that outlives its parent would go on holding the parent's locks.
os.register_at_fork(after_in_child=_abandon_all)
