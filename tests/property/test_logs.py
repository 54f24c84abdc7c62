"""Logs of any chunks, in any files: read whole, from the end, and while they are written."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from containerkit.stdio.entry import LineCutter
from containerkit.stdio.logfiles import LogFiles
from containerkit.stdio.logs import Logs
from containerkit.stdio.records import BrokenLog, Record, encode, parse
from tests.unit.stdio.test_logs import Writer

CHUNKS = st.binary(min_size=1, max_size=60) | st.sampled_from([b"\n", b"a\nb", b"\n\n"])
# A stream, what is written to it, and so many times over; None: the file is rotated.
Step = tuple[int, bytes, int] | None
STEPS = st.lists(
    st.tuples(st.integers(1, 2), CHUNKS, st.just(1))
    | st.tuples(st.integers(1, 2), st.just(b"x"), st.sampled_from([3_000, 30_000, 60_000]))
    | st.just(None),
    max_size=30,
).filter(lambda steps: sum(step[2] for step in steps if step) < 240_000)


def lines_of(steps: list[Step], stream: int) -> list[bytes]:
    cutter = LineCutter()
    chunks = [step[1] * step[2] for step in steps if step is not None and step[0] == stream]
    return [piece for chunk in chunks for piece in cutter.feed(chunk)] + cutter.end()


@given(STEPS, st.integers(0, 40))
@example([(1, b"open", 1), (2, b"x", 30_000), (2, b"\n\n", 1)], 1)
def test_all_and_the_last(steps: list[Step], count: int) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        writer = Writer(directory, files=40)
        follower = LogFiles(directory)
        followed: list[Record] = []
        for step in steps:
            if step is None:
                writer.rotate()
            else:
                writer.write(step[1] * step[2], step[0])
            followed += follower.read(grow=True)
        while more := follower.read(grow=True):
            followed += more
        follower.close()
        assert [(r.stream, r.data) for r in followed] == [
            (step[0], step[1] * step[2]) for step in steps if step is not None
        ]
        with Logs(directory) as logs:
            entries = list(logs)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            assert [e.data for e in entries if e.stream == name] == lines_of(steps, stream)
        with Logs(directory, tail=count) as logs:
            assert list(logs) == entries[len(entries) - min(count, len(entries)) :]
    finally:
        shutil.rmtree(directory)


@given(STEPS, st.integers(2, 4), st.integers(0, 40))
@example([(1, b"a line", 1), None, (1, b" of two files\n", 1), None, (1, b"b\n", 1)], 2, 5)
def test_what_rotation_leaves_is_whole(steps: list[Step], files: int, count: int) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        writer = Writer(directory, files=files)
        for step in steps:
            if step is None:
                writer.rotate()
            else:
                writer.write(step[1] * step[2], step[0])
        with Logs(directory) as logs:
            entries = list(logs)
        for stream, name in ((1, "stdout"), (2, "stderr")):
            found, wanted = [e.data for e in entries if e.stream == name], lines_of(steps, stream)
            assert found == wanted[len(wanted) - len(found) :]
        with Logs(directory, tail=count) as logs:
            assert list(logs) == entries[len(entries) - min(count, len(entries)) :]
    finally:
        shutil.rmtree(directory)


@given(st.lists(st.tuples(st.integers(1, 2), CHUNKS), max_size=5), st.integers(0, 200))
def test_any_end_is_a_torn_one(records: list[tuple[int, bytes]], cut: int) -> None:
    encoded = [encode(Record(7, *record)) for record in records]
    data = b"".join(encoded)
    found, at = parse(data[: max(0, len(data) - cut)])
    assert [(r.stream, r.data) for r in found] == records[: len(found)]
    assert at == sum(map(len, encoded[: len(found)]))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_parsed(data: bytes) -> None:
    try:
        found, at = parse(data)
    except BrokenLog:
        return
    assert data[:at] == b"".join(map(encode, found))
