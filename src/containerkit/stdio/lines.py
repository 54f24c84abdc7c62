"""Log records become entries: whole lines, each with the time of its first record.

Owns the rule that joins the chunks of a log into lines, stream by stream, the same rule by which
`collect` cuts live output.  Must not: read files, filter.
Flow: `records` → here → `logs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from containerkit.stdio.entry import LineCutter, LogEntry, StreamName
from containerkit.stdio.records import Record

_NAMES: Final[dict[int, StreamName]] = {1: "stdout", 2: "stderr"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(time_ns: int) -> datetime:
    """Return nanoseconds since the epoch as a time in UTC, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def ns_of(moment: datetime) -> int:
    """Return a time, local when it names no zone, in nanoseconds since the epoch."""
    aware = moment if moment.tzinfo is not None else moment.astimezone()
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


class Lines:
    """Cuts the records of one log into entries; holds at most one unfinished line a stream back."""

    __slots__ = ("_cutters", "_fresh", "_since", "_skipping")

    def __init__(self) -> None:
        self._cutters = {1: LineCutter(), 2: LineCutter()}
        self._fresh: set[int] = set()  # streams of which no record was fed since `begin`
        self._skipping: set[int] = set()  # streams inside a line whose beginning is lost
        self._since: dict[int, datetime] = {}  # streams that hold something back, since when

    def begin(self) -> None:
        """Leave out a line of which what is fed next holds only the rest: it was rotated away."""
        self._fresh = set(_NAMES)

    def _without_the_rest(self, record: Record) -> bytes:
        """Return the data of *record* without the rest of a line whose beginning is lost."""
        stream = record.stream
        if record.inside and stream in self._fresh:
            self._skipping.add(stream)
        elif not record.inside:
            self._skipping.discard(stream)
        self._fresh.discard(stream)
        if stream not in self._skipping:
            return record.data
        _rest, end, following = record.data.partition(b"\n")
        if end:
            self._skipping.discard(stream)
        return following

    def feed(self, records: Iterable[Record]) -> list[LogEntry]:
        """Return the entries that *records* complete, in the order of their ends."""
        entries: list[LogEntry] = []
        for record in records:
            data = self._without_the_rest(record) if self._fresh or self._skipping else record.data
            if not data:
                continue
            time_ns, stream = record.time_ns, record.stream
            now = time_of(time_ns)
            first = self._since.get(stream, now)
            name, cutter = _NAMES[stream], self._cutters[stream]
            for piece in cutter.feed(data):
                entries.append(LogEntry(first, name, piece))
                first = now
            if cutter.holds:
                self._since[stream] = first
            else:
                self._since.pop(stream, None)
        return entries

    def end(self) -> list[LogEntry]:
        """Return what is held back, when nothing follows any more."""
        entries = []
        for stream, since in sorted(self._since.items(), key=lambda item: item[1]):
            entries += [LogEntry(since, _NAMES[stream], e) for e in self._cutters[stream].end()]
        self._since.clear()
        return entries
