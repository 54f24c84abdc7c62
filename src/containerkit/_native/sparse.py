"""Sparse files in a tar stream: where their data goes, in the formats of GNU tar.

Owns: the maps of the old format and of PAX 0.0, 0.1 and 1.0, and writing by them.  Rare, and therefore
not in C.  Must not: know the applier, which feeds the generators here: each says by a yield how many
bytes of the stream it takes at most, and is sent some of them, at least one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Final, NamedTuple

BLOCK: Final = 512
NUMBERS: Final = 1 << 19
"""That a map may have."""

BAD_MAP: Final = "its sparse map is no map of its data, or too long"
BAD_NUMBER: Final = "a number of its header does not fit, or is not a number"

_MOST: Final = (1 << 63) - 1
_NUMBER: Final = re.compile(rb"([0-9]{1,18})[,\n\0]")
_CUT: Final = re.compile(rb"[0-9]{0,18}")

Taking = Generator[int, memoryview, None]


class BadMap(Exception):
    """A sparse file's map is none, or does not fit its data."""


class SparseMap(NamedTuple):
    """Where the data of a file goes.

    Args:
        size: bytes of the file, holes included.
        segments: offset and length of each piece of its data, in order.
    """

    size: int
    segments: list[tuple[int, int]]


def read_map(header: bytes, records: bytes, size: int) -> Generator[int, memoryview, SparseMap]:
    """Read the map of an entry, which may go on in the stream.

    Args:
        header: its block.
        records: of its PAX header, as C leaves them: each "length key" NUL "value" NUL.
        size: bytes that it has in the stream, without the blocks that continue an old map.

    Raises:
        BadMap: there is none that fits its data; the message says why.
    """
    if header[156:157] == b"S":
        real = _field(header[483:495])
        numbers = yield from _old_map(header)
    else:
        real, major, numbers = _read_records(records)
        if real < 0:  # no sparse file, whatever else is said of it
            return SparseMap(size, [(0, size)])
        if major:
            numbers, size = yield from _map_in_data(size)
    segments = list(zip(numbers[::2], numbers[1::2], strict=False))
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            raise BadMap(BAD_MAP)
        end = offset + length
    taken = sum(length for _, length in segments)
    if len(numbers) % 2 or len(numbers) > NUMBERS or end > real or taken != size:
        raise BadMap(BAD_MAP)
    return SparseMap(real, segments)


def write(file: int, found: SparseMap) -> Taking:
    """Write the data to an empty file; -1: only take it.

    Raises:
        OSError: the file system refused.
    """
    for at, length in found.segments:
        left = length
        while left:
            piece = yield left
            while piece:
                done = os.pwrite(file, piece, at + length - left) if file >= 0 else len(piece)
                left -= done
                piece = piece[done:]
    if file >= 0:
        os.ftruncate(file, found.size)


def skip(size: int) -> Taking:
    """Take so many bytes."""
    while size > 0:
        size -= len((yield size))


# ---- the formats -------------------------------------------------------------------------------


def _block() -> Generator[int, memoryview, bytes]:
    got = b""
    while len(got) < BLOCK:
        got += yield BLOCK - len(got)
    return got


def _old_map(block: bytes) -> Generator[int, memoryview, list[int]]:
    """Pairs of 12-byte numbers, in the header and in the blocks right after it."""
    numbers: list[int] = []
    first, after = 386, 482
    while len(numbers) <= NUMBERS:
        known = len(numbers)
        for at in range(first, after, 12):
            if not block[at]:
                break
            numbers.append(_field(block[at : at + 12]))
        if not block[after]:
            break
        if not first and len(numbers) == known:
            raise BadMap(BAD_MAP)  # there is no end to what says nothing
        block = yield from _block()
        first, after = 0, 504
    return numbers


def _map_in_data(size: int) -> Generator[int, memoryview, tuple[list[int], int]]:
    """Format 1.0: at the head of the data, in whole blocks; first the count of segments."""
    numbers: list[int] = []
    text = b""
    while len(numbers) <= NUMBERS and size >= BLOCK:
        text += yield from _block()
        size -= BLOCK
        at = 0
        while found := _NUMBER.match(text, at):
            numbers.append(int(found[1]))
            at = found.end()
            if len(numbers) == 1 + 2 * numbers[0]:
                return numbers[1:], size
        text = text[at:]
        if not _CUT.fullmatch(text):
            break
    raise BadMap(BAD_MAP)


def _read_records(records: bytes) -> tuple[int, int, list[int]]:
    """Return the size of the file, -1: not said; the version; the numbers of formats 0.0 and 0.1."""
    real, major, at = -1, 0, 0
    numbers: list[int] = []
    while at < len(records):
        space = records.index(b" ", at)
        end = at + int(records[at:space].lstrip(b"0"))  # which Python counts as digits
        key, _, value = records[space + 1 : end - 1].partition(b"\0")
        at = end
        if key in {b"GNU.sparse.size", b"GNU.sparse.realsize"}:
            real = _decimal(value, -1, _MOST)
        elif key == b"GNU.sparse.major":
            major = _decimal(value, 0, 1)
        elif key in {b"GNU.sparse.map", b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            _add_numbers(value + b"\0", numbers)
    return real, major, numbers


def _add_numbers(text: bytes, numbers: list[int]) -> None:
    at = 0
    while at < len(text):
        found = _NUMBER.match(text, at)
        if not found or len(numbers) >= NUMBERS:
            raise BadMap(BAD_MAP)
        numbers.append(int(found[1]))
        at = found.end()


def _decimal(text: bytes, least: int, most: int) -> int:
    if not re.fullmatch(rb"-?[0-9]{1,30}", text) or not least <= int(text) <= most:
        raise BadMap(BAD_NUMBER)
    return int(text)


def _field(raw: bytes) -> int:
    """Read a number of a header: octal text between spaces or NULs, or two's complement with a mark."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ~(0x80 << 88)
        value -= (1 << 95) if raw[0] & 0x40 else 0
        if not -_MOST - 1 <= value <= _MOST:
            raise BadMap(BAD_MAP)
        return value
    digits = raw.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise BadMap(BAD_MAP)
    return int(digits or b"0", 8)
