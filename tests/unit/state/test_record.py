"""The record of a container: its layout, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerkit.state import record
from containerkit.state.record import State

STATE = State(
    record.RUNNING, "0123456789abcdef", 1, 2, 3, 4, 5, 6, 7, 2, 9, -1, 1, 10, 11, 12, 13, 14
)


def test_a_record_comes_back(tmp_path: Path) -> None:
    (tmp_path / record.NAME).touch()
    record.write(tmp_path / record.NAME, STATE)
    assert record.read(tmp_path) == STATE
    assert (tmp_path / record.NAME).stat().st_size == record.SIZE
    record.write(tmp_path / record.NAME, None)
    assert record.read(tmp_path) is None


def test_none_of_its_bytes_may_be_another() -> None:
    data = record.encode(STATE)
    assert record.parse(data) == STATE
    for at in range(len(data)):
        assert record.parse(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) != STATE


@pytest.mark.parametrize("data", [b"", b"x", bytes(128), record.encode(STATE)[:-1]])
def test_what_is_no_record(tmp_path: Path, data: bytes) -> None:
    (tmp_path / record.NAME).write_bytes(data)
    assert record.read(tmp_path) is None


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    assert record.read(tmp_path / "nothing") is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(record.encode(STATE))
    (tmp_path / record.NAME).symlink_to("other")
    assert record.read(tmp_path) is None


def test_lost_says_that_nobody_saw_its_end() -> None:
    found = record.lost(STATE, 99)
    assert (found.status, found.finished_ns, found.restarts) == (record.STOPPED, 99, 7)
    assert not found.is_live
