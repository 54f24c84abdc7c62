"""Leases of a shared container: one FIFO that everybody who uses it holds open.

``containers/ID/users`` is a FIFO.  Each user has it open for writing and holds its flock, shared;
the container's launcher has it open for reading, and nothing else.  The kernel tells the launcher
when the last user has closed it, however that came about: leaving, exit, SIGKILL.  A forked child's
copies are closed at once (`FileLock`).

Owns the FIFO.  Must not: know containers.  Neighbours: `shared` takes and gives back, `supervise`
hands the reading end to the launcher.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from containerkit.errors import refusals
from containerkit.state.lock import FileLock

NAME: Final = "users"


def make(directory: Path) -> None:
    """Make the FIFO of a container that is about to be shared."""
    os.mkfifo(directory / NAME, 0o600)


def take(directory: Path) -> FileLock | None:
    """Become a user; releasing the lock is leaving.  None: the container was removed.

    A lock opens its file for reading and writing, which never waits on a FIFO (fifo(7)).
    """
    if not _is_there(directory):
        return None
    lock = FileLock(directory / NAME, shared=True)
    try:
        lock.acquire()
    except FileNotFoundError:
        return None
    if stat.S_ISFIFO(os.fstat(lock.fd).st_mode):
        return lock
    lock.release(unlink=True)  # removed in between: this call has made a file
    return None


def is_used(directory: Path) -> bool:
    """Whether anybody uses it."""
    if not _is_there(directory):
        return False
    lock = FileLock(directory / NAME)
    try:
        free = lock.try_acquire()
    except FileNotFoundError:
        return False
    if free:
        lock.release()
    return not free


def _is_there(directory: Path) -> bool:
    try:
        return stat.S_ISFIFO(os.lstat(directory / NAME).st_mode)
    except FileNotFoundError:
        return False


@refusals("watch the leases of a container")
def open_watch(directory: Path) -> int:
    """Return the reading end: it hangs up when the last user is gone; the caller's to close."""
    return os.open(directory / NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
