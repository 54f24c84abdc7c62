"""The events of a root: whole lines, whoever writes them, and two files of bounded size."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import pytest

from containerkit.state import events


def kinds(root: Path) -> list[str]:
    return [record.kind for record in events.read(root)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert events.append(tmp_path, "create", "a" * 64, name="web", labels={"k": "ü"}, image=None)
    [record] = events.read(tmp_path)
    assert (record.kind, record.id) == ("create", "a" * 64)
    assert record.fields == {"name": "web", "labels": {"k": "ü"}}


def test_a_root_without_events(tmp_path: Path) -> None:
    assert not list(events.read(tmp_path))


def test_since_and_until(tmp_path: Path) -> None:
    lines = [events.encode(ns, f"k{ns}", "x", {}) for ns in (10, 20, 30)]
    (tmp_path / events.NAME).write_bytes(b"".join(lines))
    read = [r.kind for r in events.read(tmp_path, since=20)]
    assert read == ["k20", "k30"]
    assert [r.kind for r in events.read(tmp_path, since=11, until=29)] == ["k20"]


def test_a_full_disk_is_not_an_error(tmp_path: Path) -> None:
    assert not events.append(tmp_path / "missing", "die", "x")


def test_a_torn_line_costs_one_event(tmp_path: Path) -> None:
    whole = events.encode(1, "die", "x", {"quote": '{"t":'})
    (tmp_path / events.NAME).write_bytes(whole + whole[:20] + whole + b"nonsense\n" + whole[:-1])
    assert kinds(tmp_path) == ["die", "die"]
    events.append(tmp_path, "start", "y")  # joined to what has no end
    assert kinds(tmp_path) == ["die", "die", "start"]


def test_a_long_event_loses_its_fields_only(tmp_path: Path) -> None:
    events.append(tmp_path, "create", "x", labels={"k": "v" * events.LINE_MAX})
    [record] = events.read(tmp_path)
    assert (record.kind, record.fields) == ("create", {"shortened": True})


def test_rotation_keeps_both_halves(tmp_path: Path) -> None:
    events.append(tmp_path, "one", "x")
    assert not events.rotate(tmp_path)
    assert events.rotate(tmp_path, least=1)
    events.append(tmp_path, "two", "x")
    assert kinds(tmp_path) == ["one", "two"]
    assert events.rotate(tmp_path, least=1)
    assert kinds(tmp_path) == ["two"]


def test_a_full_file_is_rotated_by_who_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ROTATE_BYTES", 200)
    for _ in range(6):
        events.append(tmp_path, "kind", "x" * 64)
    events.rotate(tmp_path, least=200)
    assert (tmp_path / events.OLDER).exists()


def test_events_renamed_between_two_opens_come_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.append(tmp_path, "one", "x")
    opened = events.open_file

    def rotating(root: Path, name: str = events.NAME, *, create: bool = False) -> int:
        if name == events.OLDER:
            events.rotate(root, least=1)
        return opened(root, name, create=create)

    monkeypatch.setattr(events, "open_file", rotating)
    assert kinds(tmp_path) == ["one"]


@pytest.mark.parametrize("lock", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_stopped_writer_or_renamer_holds_nobody_up(tmp_path: Path, lock: int) -> None:
    events.append(tmp_path, "one", "x")
    with (tmp_path / events.NAME).open("ab") as stopped:
        fcntl.flock(stopped, lock)
        assert not events.rotate(tmp_path, least=1)
        assert events.append(tmp_path, "two", "x")
    assert kinds(tmp_path) == ["one", "two"]


def test_nobody_rotates_while_a_writer_has_it_open(tmp_path: Path) -> None:
    """Its line would be in the older file after all that comes later."""
    events.append(tmp_path, "one", "x")
    fd, _ = events._open_locked(tmp_path)
    try:
        assert not events.rotate(tmp_path, least=1)
    finally:
        os.close(fd)
    assert events.rotate(tmp_path, least=1)


def test_a_rotation_that_came_second_renames_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have opened the full file: the new one, which has little in it, stays."""
    events.append(tmp_path, "one", "x")
    opened = events.__dict__["open_regular"]

    def overtaken(path: str | Path, flags: int) -> int:
        fd: int = opened(path, flags)
        with monkeypatch.context() as plain:
            plain.setattr(events, "open_regular", opened)
            assert events.rotate(tmp_path, least=1)
            events.append(tmp_path, "two", "x")
        return fd

    with monkeypatch.context() as patch:
        patch.setattr(events, "open_regular", overtaken)
        assert not events.rotate(tmp_path, least=1)
    assert kinds(tmp_path) == ["one", "two"]


def write_many(root: Path, writer: int, count: int) -> None:
    for number in range(count):
        events.append(root, f"w{writer}", str(number))
        if number % 50 == 25:
            events.rotate(root, least=1 << 40)


WRITERS, EACH = 8, 200


def test_eight_writers_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=write_many, args=(tmp_path, writer, EACH))
        for writer in range(WRITERS)
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert Counter(kinds(tmp_path)) == {f"w{writer}": EACH for writer in range(WRITERS)}
    order = [int(record.id) for record in events.read(tmp_path) if record.kind == "w3"]
    assert order == list(range(EACH))


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    events.append(tmp_path, "one", "x")
    assert os.stat(tmp_path / events.NAME).st_mode & 0o777 == 0o600
