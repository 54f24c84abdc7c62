"""The format of a log: what was encoded is parsed, forwards and backwards, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from containerkit.stdio.records import (
    DATA_MAX,
    HEADER,
    MAGIC,
    OVERHEAD,
    BrokenLog,
    Record,
    encode,
    parse,
    step_back,
)

RECORDS = [Record(1, 1, b"one\n"), Record(2, 2, b"\0\xff"), Record(3, 1, b"x" * DATA_MAX)]
DATA = b"".join(map(encode, RECORDS))


def test_there_and_back() -> None:
    assert parse(DATA) == (RECORDS, len(DATA))
    assert parse(b"") == ([], 0)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 100, DATA_MAX, DATA_MAX + OVERHEAD - 1])
def test_a_torn_record_is_left_over(cut: int) -> None:
    whole = len(DATA) - DATA_MAX - OVERHEAD
    assert parse(DATA[:-cut]) == (RECORDS[:2], whole)


def test_from_the_end() -> None:
    at: int | None = len(DATA)
    found = []
    while at:
        at = step_back(DATA, at)
        assert at is not None
        found.append(parse(DATA, at)[0][0])
    assert found == RECORDS[::-1]


def test_a_record_that_begins_before_what_is_at_hand() -> None:
    assert step_back(DATA[10:], 14) is None
    assert step_back(b"abc", 3) is None


@pytest.mark.parametrize(
    "broken",
    [
        b"\0" * 30,
        HEADER.pack(0, 1, 0, MAGIC, 1) + b"\0" * 4,
        HEADER.pack(1, 3, 0, MAGIC, 1) + b"x\1\0\0\0",
        HEADER.pack(1, 1, 2, MAGIC, 1) + b"x\1\0\0\0",
        HEADER.pack(1, 1, 0, 7, 1) + b"x\1\0\0\0",
        HEADER.pack(DATA_MAX + 1, 1, 0, MAGIC, 1) + b"x",
    ],
)
def test_something_else(broken: bytes) -> None:
    with pytest.raises(BrokenLog):
        parse(encode(RECORDS[0]) + broken, len(encode(RECORDS[0])))


@pytest.mark.parametrize("end", [b"", b"\1\0\0\0", b"\4\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_nothing_ends_where_no_record_does(end: bytes) -> None:
    data = encode(RECORDS[0]) + b"torn away" * 4 + end
    with pytest.raises(BrokenLog):
        step_back(data, len(data))


def test_the_launcher_has_the_same_numbers() -> None:
    header = Path(__file__).parents[3] / "src/_native/ck_launcher.h"
    text = header.read_text(encoding="utf-8")
    assert re.search(r"CK_RECORD_DATA = 64 << 10\b", text)
    assert DATA_MAX == 64 << 10
    assert re.search(rf"CK_RECORD_MAGIC = {MAGIC:#x}\b", text)
    assert HEADER.size == 16
