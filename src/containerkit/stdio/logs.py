"""A container's log as entries: since, until, the last n, both streams or one, and as it grows.

A reader needs the container's directory only: any process reads it, while the container runs and
after.  To follow, it must also be told who writes (`follow.Life`).

Owns what is left out and in which order.  Must not: know launchers or statuses.
Flow: `logfiles`, `follow` → `lines` → here → `Container.logs`, the messages of errors, the event loop's face.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from containerkit.errors import ConfigError
from containerkit.stdio.ending import Ending
from containerkit.stdio.entry import LogEntry
from containerkit.stdio.follow import Follower, Life
from containerkit.stdio.lines import Lines, ns_of, time_of
from containerkit.stdio.logfiles import LogFiles
from containerkit.stdio.waiting import Waiting, deadline_of, drive

if TYPE_CHECKING:
    from types import TracebackType

Moment = datetime | float | timedelta
"""A time: a `datetime` (without a zone: local), seconds since the epoch, or so long ago."""

_LINE_GUESS: Final = 128
_TAIL_LEAST: Final = 16 << 10
_TAIL_MOST: Final = 256 << 10
"""Bytes from the end that are searched for a line which one stream began and has not ended."""


def moment_ns(value: Moment | None, what: str) -> int | None:
    """Return a time in ns since the epoch.

    Raises:
        ConfigError: it is none.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        return time.time_ns() - int(value.total_seconds() * 1e9)
    if isinstance(value, datetime):
        return ns_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            f"{what} {value!r} is no time",
            hint="a datetime, seconds since 1970, or a timedelta ago",
        )
    return int(value * 1e9)


def _check_count(tail: object) -> None:
    if tail is None or (isinstance(tail, int) and not isinstance(tail, bool) and tail >= 0):
        return
    raise ConfigError(f"tail {tail!r} is not a number of lines")


class LogReader:
    """Entries of one log, taken one by one; see `Logs` for the arguments."""

    __slots__ = ("_files", "_follower", "_lines", "_since", "_streams", "_until_ns", "ready")

    def __init__(
        self,
        directory: Path,
        *,
        follow: Life | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> None:
        _check_count(tail)
        since_ns, until_ns = moment_ns(since, "since"), moment_ns(until, "until")
        self._since = None if since_ns is None else time_of(since_ns)
        # A moment is a whole microsecond, and within.
        self._until_ns = None if until_ns is None else until_ns // 1000 * 1000 + 999
        wanted = (("stdout", stdout), ("stderr", stderr))
        self._streams = frozenset(name for name, wish in wanted if wish)
        self.ready: deque[LogEntry] = deque()
        """Entries that can be taken without waiting."""
        self._lines = Lines()
        self._lines.begin()
        self._follower: Follower | None = None
        if follow is not None:
            self._follower = Follower(directory, follow, until_ns=self._until_ns)
        try:
            self._files: LogFiles | None = (
                LogFiles(directory, since_ns=since_ns)
                if tail is None
                else self._last(directory, tail)
            )
        except BaseException:
            if self._follower is not None:
                self._follower.close()
            raise
        if self._follower is not None:
            self._follower.files = self._files

    # ---- the end of a log

    def _last(self, directory: Path, count: int) -> LogFiles:
        """Make the last *count* entries of what is there ready, without reading all of it."""
        want = max(_TAIL_LEAST, count * _LINE_GUESS) if count else 0
        while True:
            files = LogFiles(directory, tail=want)
            try:
                if self._take_last(files, count, search=0 < want < _TAIL_MOST):
                    return files
            except BaseException:
                files.close()
                raise
            files.close()
            want = 4 * max(want, _TAIL_LEAST)

    def _take_last(self, files: LogFiles, count: int, *, search: bool) -> bool:
        """Read to the end; False when one of the last entries may have begun before *files* do.

        Args:
            files: the log's end.
            count: entries to make ready.
            search: say so also of a stream that ends no line in *files*: its last one may be open.
        """
        self._lines = Lines()
        if files.whole:
            self._lines.begin()
        last: deque[tuple[bool, LogEntry]] = deque(maxlen=count)
        whole = {"stdout"} | {"stderr"} if files.whole else set()
        found = 0

        def take(entries: list[LogEntry]) -> None:
            nonlocal found
            for entry in entries:
                sure = entry.stream in whole
                if entry.data.endswith(b"\n"):  # the next one begins here for certain
                    whole.add(entry.stream)
                if self._wanted(entry):
                    found += 1
                    last.append((sure, entry))

        while records := files.read(grow=False):
            take(self._lines.feed(records))
        if self._follower is None:
            take(self._lines.end())
        if not files.whole and (
            found < count
            or not all(sure for sure, _entry in last)
            or (search and not self._streams <= whole)
        ):
            return False
        self.ready.extend(entry for _sure, entry in last)
        return True

    # ---- one by one

    def take(self) -> Waiting[LogEntry | None]:
        """Return the next entry; None after the last one."""
        while not self.ready:
            if self._files is None:
                return None
            try:
                if self._follower is not None:
                    records = yield from self._follower.take()
                else:
                    records = self._files.read(grow=False)
            except Exception:  # a cancelled wait, on the other hand, may be begun again
                self.close()
                raise
            if not records or (self._until_ns and records[0].time_ns > self._until_ns):
                self._take_in(self._lines.end())
                self.close()
            else:
                if self._files.gap:
                    self._take_in(self._lines.end())
                    self._lines.begin()
                self._take_in(self._lines.feed(records))
        return self.ready.popleft()

    def _take_in(self, entries: list[LogEntry]) -> None:
        self.ready.extend(entry for entry in entries if self._wanted(entry))

    def _wanted(self, entry: LogEntry) -> bool:
        return (
            entry.stream in self._streams
            and (self._since is None or entry.time >= self._since)
            and (self._until_ns is None or entry.time <= time_of(self._until_ns))
        )

    def close(self) -> None:
        """Close what it has open; what is ready can still be taken."""
        files, self._files = self._files, None
        if files is not None:
            files.close()
        if self._follower is not None:
            self._follower.close()


class Logs(Iterator[LogEntry]):
    """An iterator over log entries; leaving its ``with`` block, or its end, closes it.

    Args:
        directory: the container's.
        follow: who writes: it goes on until nobody does; None: up to what is there now.
        since: leave out what was said before.
        until: leave out what was said after.
        tail: begin with so many of the last entries there are.  Of a line that one stream left open
            while the other wrote more than 256 KiB, the beginning may be missed.
        stdout: with standard output (of a terminal: all it shows).
        stderr: with standard error.
        timeout: seconds to wait for the next entry; past them `Timeout` is raised, and it may be
            iterated on.  None: for ever.

    Raises:
        ConfigError: a time or number is none.
        FileNotFoundError: there is no such directory.

    Blocking: when iterated with *follow*, until there is an entry, nobody writes any more, or another
    thread closes it.
    """

    __slots__ = ("_ending", "_reader")

    def __init__(
        self,
        directory: Path,
        *,
        follow: Life | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        timeout: float | None = None,
    ) -> None:
        self._reader: LogReader | None = None
        deadline_of(timeout)  # before anything is open
        reader = LogReader(
            directory,
            follow=follow,
            since=since,
            until=until,
            tail=tail,
            stdout=stdout,
            stderr=stderr,
        )
        self._ending = Ending(reader.close, what="an entry of the log", timeout=timeout)
        self._reader = reader

    def _take(self) -> Waiting[LogEntry | None]:
        """Return the next entry, None after the last one: for drivers of waits."""
        reader = self._reader
        entry = None if reader is None else (yield from self._ending.within(reader.take()))
        return entry

    def __next__(self) -> LogEntry:
        if (reader := self._reader) is not None and reader.ready:
            return reader.ready.popleft()
        entry = drive(self._take())
        if entry is None:
            raise StopIteration
        return entry

    def close(self) -> None:
        """End it: there is no next entry, also for who waits for it; harmless when repeated."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._ending.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def log_text(directory: Path, tail: int | None = None) -> str:
    """Return a log as text, both streams in the order they came.

    Args:
        directory: the container's.
        tail: only so many of the last lines.
    """
    data = bytearray()
    if tail is None:
        with LogFiles(directory) as files:
            while records := files.read(grow=False):
                data += b"".join([record.data for record in records])
    else:
        with Logs(directory, tail=tail) as logs:
            for entry in logs:
                data += entry.data
    return data.decode("utf-8", "replace")


def last_lines(directory: Path, count: int = 10) -> tuple[str, ...]:
    """Return the last lines of a log, without their ends: for messages; () when there is no log."""
    try:
        text = log_text(directory, tail=count)
    except OSError:
        return ()
    return tuple(text.splitlines()[-count:])
