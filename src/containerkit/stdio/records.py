"""The records of a container's log file, as the launcher writes them (``ck_launcher_log.c``).

A log is a row of records, each one chunk of one stream: header {u32 size of the data, u8 stream
(1 standard output, 2 standard error), u8 1 when it goes on with a line, u16 magic, u64 CLOCK_REALTIME in ns}, the data, and the
data's size once more, so that a log can also be read from its end.  A record that a crash tore in
two is the last of its file and is ignored.

Owns the format.  Must not: open or read files, cut lines.
Neighbours: `lines` makes entries of records; `logs` reads the files.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

MAGIC: Final = 0x4C43
DATA_MAX: Final = 64 << 10
"""Bytes of one record's data: one read of a full pipe."""

HEADER: Final = struct.Struct("<IBBHQ")
_SIZE: Final = struct.Struct("<I")
OVERHEAD: Final = HEADER.size + _SIZE.size
RECORD_MAX: Final = DATA_MAX + OVERHEAD


class Record(NamedTuple):
    """One chunk of output.

    Attributes:
        time_ns: when the launcher read it, since the epoch.
        stream: 1 standard output, 2 standard error.
        data: at least one byte.
        inside: whether it goes on with a line that the stream's last record has begun.
    """

    time_ns: int
    stream: int
    data: bytes
    inside: bool = False


class BrokenLog(ValueError):
    """Something else than a record stands where one must begin."""


def encode(record: Record) -> bytes:
    """Return a record as the launcher writes it."""
    size = len(record.data)
    header = HEADER.pack(size, record.stream, record.inside, MAGIC, record.time_ns)
    return header + record.data + _SIZE.pack(size)


def _is_known(stream: int, inside: int) -> bool:
    return stream in (1, 2) and inside in (0, 1)


def parse(data: bytes, at: int = 0) -> tuple[list[Record], int]:
    """Return the whole records of *data* from *at* on, and where the first that is not whole begins.

    Raises:
        BrokenLog: there is something else than a record.
    """
    found: list[Record] = []
    while at + HEADER.size <= len(data):
        size, stream, inside, magic, time_ns = HEADER.unpack_from(data, at)
        if magic != MAGIC or not _is_known(stream, inside) or not 0 < size <= DATA_MAX:
            raise BrokenLog(f"no record at byte {at}")
        start, end = at + HEADER.size, at + OVERHEAD + size
        if end > len(data):
            break
        found.append(Record(time_ns, stream, data[start : start + size], bool(inside)))
        at = end
    return found, at


def step_back(data: bytes, end: int) -> int | None:
    """Return where the record that ends at *end* begins; None when it is not all in *data*.

    Raises:
        BrokenLog: no whole record ends there.
    """
    if end < _SIZE.size:
        return None
    size: int = _SIZE.unpack_from(data, end - _SIZE.size)[0]
    if not 0 < size <= DATA_MAX:
        raise BrokenLog(f"no record ends at byte {end}")
    at = end - OVERHEAD - size
    if at < 0:
        return None
    again, stream, inside, magic, _time = HEADER.unpack_from(data, at)
    if magic != MAGIC or again != size or not _is_known(stream, inside):
        raise BrokenLog(f"no record ends at byte {end}")
    return at
