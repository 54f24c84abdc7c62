"""Whether a launcher lives, and who it belongs to; and which process a pidfd is of.

Its record in ``owners/`` is locked by it, shared, as long as it lives.  The first line says which
process it ends with: when that has died, the launcher is about to.

Owns the looks, and that line.  Must not: remove anything, or touch a container's own lock, which
starts wait for.  Neighbours: `recover` writes the records.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

from containerkit.errors import refusals
from containerkit.state.atomic import open_regular

_LOOKS: Final = 3
"""Others who look hold the lock for an instant."""


_OWNER: Final = "owner"


def is_alive(root: Path, launcher_id: str) -> bool:
    """Return whether a launcher of *root* lives."""
    return _look(root, launcher_id, lambda _fd: True)


def has_owner(root: Path, launcher_id: str) -> bool:
    """Return whether a launcher of *root* lives, and so does the process that it ends with, if any."""
    return _look(root, launcher_id, lambda fd: not lost_its_owner(fd))


@refusals("see whether a launcher lives")
def _look(root: Path, launcher_id: str, found: Callable[[int], bool]) -> bool:
    """Return what is found of the record of a launcher that lives; False: it does not."""
    if not launcher_id or "/" in launcher_id:
        return False
    try:
        fd = open_regular(f"{root}/owners/{launcher_id}", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):  # something else is there
            return False
        raise
    try:
        for _ in range(_LOOKS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # who has it alone has found that no launcher has it
                return False
            fcntl.flock(fd, fcntl.LOCK_UN)
        return found(fd)
    finally:
        os.close(fd)


# ---- who it belongs to


def belonging(*, owned: bool) -> str:
    """Return the first line of a launcher's record.

    Args:
        owned: it ends with this process; else with what it was given, or by itself.
    """
    word = _OWNER if owned else "alone"
    return f"{word} {os.getpid()} {_started(os.getpid())} {_namespace()}"


def lost_its_owner(record_fd: int) -> bool:
    """Whether a living launcher is about to end, because the process it belongs to is dead."""
    line = os.pread(record_fd, 100, 0).partition(b"\n")[0].decode("ascii", "replace").split()
    if len(line) != 4 or line[0] != _OWNER or line[3] != str(_namespace()):
        return False
    if not line[1].isdecimal():  # not written by us
        return False
    return _started(int(line[1])) != line[2]


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _started(pid: int) -> str | None:
    """Return when a process started, which with its pid names it for ever; None: it is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X") and _has_ended(pid):
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[19].decode()


def _has_ended(pid: int) -> bool:
    """Whether all threads of a process have ended: its first one may have before others."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)


@refusals("read the number of a process")
def pid_of(pidfd: int) -> int:
    """Return the pid behind a pidfd, as this process sees it; -1 when it has ended (pidfd_open(2))."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return int(file.read().partition("\nPid:")[2].split()[0])
