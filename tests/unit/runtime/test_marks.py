"""Marks: what a container's directory hangs on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containerkit.runtime import marks


def test_a_mark_is_written_replaced_and_dropped(tmp_path: Path) -> None:
    assert marks.read(tmp_path) is None
    marks.write(tmp_path, marks.DETACHED)
    assert marks.read(tmp_path) == "detached"
    marks.write(tmp_path, marks.owner_mark("abc"))
    assert os.listdir(tmp_path) == [marks.NAME]
    found = marks.read(tmp_path)
    assert found is not None
    assert marks.owner_of(found) == "abc"
    assert marks.drop(tmp_path)
    assert not marks.drop(tmp_path)
    assert marks.read(tmp_path) is None


def test_a_detached_one_has_no_owner() -> None:
    assert marks.owner_of(marks.DETACHED) is None


def test_a_detached_one_of_an_earlier_boot_may_lack_its_row() -> None:
    assert marks.owner_of(marks.detached_mark()) is None
    assert not marks.may_lack_row(marks.detached_mark())
    assert not marks.may_lack_row(marks.DETACHED)
    assert not marks.may_lack_row(marks.owner_mark("abc"))
    assert marks.may_lack_row(f"{marks.DETACHED}:another")


def test_where_nothing_is(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert marks.read(gone) is None
    assert not marks.drop(gone)
    with pytest.raises(FileNotFoundError):
        marks.write(gone, marks.DETACHED)


def test_what_is_no_link_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / marks.NAME).touch()
    assert marks.read(tmp_path) is None
    assert marks.read(tmp_path / marks.NAME) is None
