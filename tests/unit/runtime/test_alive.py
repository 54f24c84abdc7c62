"""Whether a launcher lives, whoever else looks at its record at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.runtime.alive import is_alive

ID = "ab" * 12


@pytest.fixture
def record(tmp_path: Path) -> Iterator[int]:
    """The record of a launcher of the root, as somebody else has it open."""
    (tmp_path / "owners").mkdir()
    fd = os.open(tmp_path / "owners" / ID, os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_no_record_is_of_no_launcher(tmp_path: Path) -> None:
    (tmp_path / "owners").mkdir()
    assert not is_alive(tmp_path, ID)
    assert not is_alive(tmp_path, "")
    assert not is_alive(tmp_path, "../owners")


def test_it_lives_as_long_as_it_has_its_lock(tmp_path: Path, record: int) -> None:
    assert not is_alive(tmp_path, ID)
    fcntl.flock(record, fcntl.LOCK_SH)
    assert is_alive(tmp_path, ID)
    assert is_alive(tmp_path, ID)
    fcntl.flock(record, fcntl.LOCK_UN)
    assert not is_alive(tmp_path, ID)


def test_one_that_is_being_buried_is_dead(tmp_path: Path, record: int) -> None:
    """However long that takes."""
    fcntl.flock(record, fcntl.LOCK_EX)
    assert not is_alive(tmp_path, ID)
