"""The events of a root: a file of JSON lines that every process of it appends to.

Owns the format of a line, appending, rotation and reading.  Must not: wait for more
(`stdio.events` does), know what an event is good for.

Atomicity: an event is one write of one line to a file opened for appending, so writers never mix
(write(2), O_APPEND) and need no lock among themselves.  Python's hold the file's lock shared while
they write; who renames the full file holds it alone, so that no event is written into a file that
is not read to its end again.  Nobody waits for that lock: a stopped process may hold it.  Launchers
take none: they open, write and close; a line that comes in that instant lands at the end of the
older file, which followers look at once more.

A line begins with ``{"t":``.  What a full disk has torn has no newline, so that the next event comes
to stand behind it: it is found by that beginning, and only the torn one is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from containerkit.errors import refusals
from containerkit.state.atomic import open_regular

NAME: Final = "events"
OLDER: Final = "events.1"
ROTATE_BYTES: Final = 8 << 20
LINE_MAX: Final = 16 << 10
"""Bytes of one event; a longer one loses its attributes."""

_START: Final = b'{"t":'
_CHUNK: Final = 256 << 10
_TRIES: Final = 64
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Record(NamedTuple):
    """One line, read.

    Attributes:
        ns: when, nanoseconds of CLOCK_REALTIME.
        kind: what.
        id: of what.
        fields: all the others, as they were written.
    """

    ns: int
    kind: str
    id: str
    fields: dict[str, Any]


def append(root: Path, kind: str, identity: str, **fields: Any) -> bool:
    """Append one event, dated now.

    Args:
        root: the engine's root directory.
        kind: what happened.
        identity: the id of what it happened to.
        fields: what else is to be told, as JSON takes it; those that are None are left out.

    Returns:
        False when the disk refused: an event is never worth failing for.
    """
    line = encode(time.time_ns(), kind, identity, fields)
    with contextlib.suppress(OSError):
        fd, size = _open_locked(root)
        try:
            full = size >= ROTATE_BYTES
            written = os.write(fd, line) == len(line)
        finally:
            os.close(fd)  # and the lock with it
        if full:
            with contextlib.suppress(OSError):
                rotate(root)
        return written
    return False


def encode(ns: int, kind: str, identity: str, fields: dict[str, Any]) -> bytes:
    """Return the line of an event."""
    told = {name: value for name, value in fields.items() if value is not None}
    line = _line({"t": ns, "kind": kind, "id": identity, **told})
    if len(line) > LINE_MAX:
        line = _line({"t": ns, "kind": kind, "id": identity, "shortened": True})
    return line


def _line(event: dict[str, Any]) -> bytes:
    return _encode(event).encode("ascii") + b"\n"


def decode(line: bytes) -> Record | None:
    """Return the event of a line, without its newline; None where there is none.

    Never raises: the end of a torn line, and what a later version writes, are no events.
    """
    start = line.find(_START)
    for _ in range(_TRIES):
        if start < 0:
            return None
        record = _decode(line[start:])
        if record is not None:
            return record
        start = line.find(_START, start + 1)
    return None


def _decode(text: bytes) -> Record | None:
    try:
        event = json.loads(text)
        ns, kind, identity = event.pop("t"), event.pop("kind"), event.pop("id")
    except (ValueError, KeyError, RecursionError):
        return None
    if type(ns) is not int or not isinstance(kind, str) or not isinstance(identity, str):
        return None
    return Record(ns, kind, identity, event)


def _open_locked(root: Path) -> tuple[int, int]:
    """Open the file for appending, if possible with its lock held shared; it is the one so named.

    Returns:
        A descriptor, and how many bytes it had.
    """
    path = f"{root}/{NAME}"
    for _ in range(_TRIES):
        fd = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if os.path.samestat(status, os.stat(path)):
                return fd, status.st_size
        except (BlockingIOError, FileNotFoundError):  # somebody renames it at this moment
            os.sched_yield()
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 0


def rotate(root: Path, *, least: int = ROTATE_BYTES) -> bool:
    """Make the file the older one when it has at least so many bytes.

    Returns:
        False when it has not, or somebody is in the middle of a write: the next one will do it.
    """
    path = root / NAME
    fd = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        # Somebody else has done it meanwhile, or it is not full.
        if status.st_size < least or not os.path.samestat(status, os.stat(path)):
            return False
        os.rename(path, root / OLDER)
        return True
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(fd)


class Lines:
    """What is appended to one open file, cut into lines; a line comes once it is whole.

    Args:
        fd: of the file, the caller's to close; read from *offset* on.
        offset: bytes to leave out.
    """

    __slots__ = ("_held", "fd", "offset")

    def __init__(self, fd: int, offset: int = 0) -> None:
        self.fd = fd
        self.offset = offset
        self._held = b""

    def read(self) -> Iterator[Record]:
        """Yield the events that are there by now and were not before."""
        while chunk := os.pread(self.fd, _CHUNK, self.offset):
            self.offset += len(chunk)
            *lines, self._held = (self._held + chunk).split(b"\n")
            for line in lines:
                record = decode(line)
                if record is not None:
                    yield record
            # The beginning of an absurdly long line is not kept: it is no event.
            self._held = self._held[-2 * LINE_MAX :]


@refusals("open the events")
def open_file(root: Path, name: str = NAME, *, create: bool = False) -> int:
    """Return a descriptor for reading one of the two files, -1 where it is not there."""
    try:
        return open_regular(root / name, os.O_RDONLY | (os.O_CREAT if create else 0))
    except FileNotFoundError:
        return -1


def read(root: Path, *, since: int | None = None, until: int | None = None) -> Iterator[Record]:
    """Yield the events of a root, in the order they were written.

    Args:
        root: the engine's root directory.
        since: nanoseconds of CLOCK_REALTIME, from then on; None: all that are kept.
        until: up to and including then.
    """
    # The present file first: if it is renamed before the older one is opened, it is read as both,
    # which its inode tells, and nothing is missing in between.
    present = open_file(root)
    older = open_file(root, OLDER)
    try:
        both = present >= 0 and older >= 0 and os.path.sameopenfile(present, older)
        for fd in (older, -1 if both else present):
            if fd < 0:
                continue
            for record in Lines(fd).read():
                if (since is None or record.ns >= since) and (until is None or record.ns <= until):
                    yield record
    finally:
        for fd in (present, older):
            if fd >= 0:
                os.close(fd)
