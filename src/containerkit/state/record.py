"""The record of a container's life: 128 bytes in the file whose lock says that it is supervised.

Owns: the layout of ``containers/ID/lock`` and the one change that Python makes to it, "lost".
Must not: take the lock, or decide what a record means beside its launcher's (``runtime.status``).
Neighbours: the launcher writes it, in one write, on every change; every process reads it.

The checksum tells a whole record from one that is being written: then it is read again.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from containerkit.errors import refusals
from containerkit.state.atomic import open_regular

NAME: Final = "lock"
"""The file in a container's directory."""

SIZE: Final = 128
_MAGIC: Final = 0x57504B43
_VERSION: Final = 1
_STRUCT: Final = struct.Struct("<IHH32siiIIQQIHHiIQQQQII")
_CHECKED: Final = SIZE - 4
_TRIES: Final = 5

RUNNING: Final = 1
STOPPED: Final = 2
RESTARTING: Final = 3
PAUSED: Final = 4
_LOST: Final = 7

STOP_ASKED: Final = 1
"""Flag: somebody asked it to stop, so that it is not started again by its restart policy."""

HEALTH: Final = (None, "starting", "healthy", "unhealthy")


class State(NamedTuple):
    """What a record says; times are nanoseconds since the epoch.

    Attributes:
        status: `RUNNING`, `STOPPED`, `RESTARTING` or `PAUSED`.
        launcher: id of the launcher that runs it, or ran it last.
        cause: number of an ``enum ck_cause``.
        pid: of its first process, in the launcher's pid namespace.
        health: index into `HEALTH`.
        failing: health probes that failed in a row.
        dropped: bytes of output that the log could not take.
        group: names its control groups, in those of its launcher; 0: not told.
    """

    status: int
    launcher: str
    code: int = 0
    signal: int = 0
    cause: int = 0
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    restarts: int = 0
    health: int = 0
    failing: int = 0
    probe_code: int = 0
    flags: int = 0
    dropped: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0
    group: int = 0

    @property
    def is_live(self) -> bool:
        """Whether it is supervised, provided that its launcher lives."""
        return self.status != STOPPED


def encode(state: State) -> bytes:
    """Return the bytes of a record."""
    status, launcher, *rest = state
    data = _STRUCT.pack(_MAGIC, _VERSION, status, launcher.encode("ascii"), *rest, 0)
    return data[:_CHECKED] + struct.pack("<I", zlib.adler32(data[:_CHECKED]))


@lru_cache(maxsize=2048)  # most are what they were when they were read before
def parse(data: bytes) -> State | None:
    """Return the record in *data*; None when there is none, or none that is whole."""
    if len(data) != SIZE:
        return None
    magic, version, status, launcher, *rest, checksum = _STRUCT.unpack(data)
    if magic != _MAGIC or version != _VERSION or not RUNNING <= status <= PAUSED:
        return None
    if zlib.adler32(data[:_CHECKED]) != checksum or not launcher.isascii():
        return None
    state = State(status, launcher.rstrip(b"\0").decode("ascii"), *rest)
    return state if state.health < len(HEALTH) else None


@refusals("read the record of a container")
def read(
    directory: str | os.PathLike[str], *, damaged: Callable[[], State | None] = lambda: None
) -> State | None:
    """Return the record of the container in *directory*; None for one that never ran.

    Args:
        directory: of the container.
        damaged: says what to return for a record that is not whole.
    """
    try:
        fd = open_regular(f"{os.fspath(directory)}/{NAME}", os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):  # something else is there: no record
            return None
        raise
    try:
        for _ in range(_TRIES):
            data = os.pread(fd, SIZE, 0)
            state = parse(data)
            if state is not None or not data:
                return state
    finally:
        os.close(fd)
    return damaged()


def unknown(launcher: str = "") -> State:
    """Return what stands for a record that is damaged: it runs, if that launcher lives."""
    return State(RUNNING, launcher)


def lost(state: State, now_ns: int) -> State:
    """Return the record of a container that ended while nothing supervised it."""
    return state._replace(
        status=STOPPED, code=0, signal=0, cause=_LOST, pid=0, finished_ns=now_ns, health=0
    )


@refusals("write the record of a container")
def write(path: Path, state: State | None) -> None:
    """Replace a record, in one write; None: by none, as before the first start.

    The caller knows that nothing supervises the container.
    """
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if state is None:
            os.ftruncate(fd, 0)
        else:
            os.pwrite(fd, encode(state), 0)
    finally:
        os.close(fd)
