"""The events of a root as values: those that were, and those that come.

Owns: following the file over its rotations, and giving an event the name and image of its
container.  Must not: write.  Neighbours: `state.events` knows the lines; `watch` tells of changes;
`Engine.events` gives what looks containers up.

Nothing is lost to a follower that reads at all: it reads a file that was renamed to its end, and a
second one that came and went meanwhile, before it begins the present one.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from containerkit.model.event import Event, EventFilter
from containerkit.state import events
from containerkit.stdio.ending import Ending
from containerkit.stdio.logs import Moment, moment_ns
from containerkit.stdio.waiting import Waiting, deadline_of, drive
from containerkit.stdio.watch import Watch

if TYPE_CHECKING:
    from types import TracebackType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED: Final = 4096


class Described(NamedTuple):
    """What is known of a container."""

    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = {}


UNKNOWN: Final = Described()


class Events(Iterator[Event]):
    """An iterator over events; leaving its ``with`` block, or its end, closes it.

    Args:
        root: the engine's root directory.
        since: leave out what was before; None: with *follow* what was before now, else nothing.
        until: leave out what is after; a follower ends then.
        follow: go on with what comes.
        wanted: the filter.
        describe: looks a container up by its id.
        timeout: seconds to wait for the next event; past them `Timeout` is raised, and it may be
            iterated on.  None: for ever.

    Raises:
        ConfigError: a time is none.

    Blocking: when iterated with *follow*, until there is an event, or another thread closes it.
    """

    def __init__(
        self,
        root: Path,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: bool = False,
        wanted: EventFilter | None = None,
        describe: Callable[[str], Described | None] = lambda _identity: None,
        timeout: float | None = None,
    ) -> None:
        deadline_of(timeout)  # before anything is open
        self._ending = Ending(self._let_go, what="an event", timeout=timeout)
        self._since, self._until = moment_ns(since, "since"), moment_ns(until, "until")
        self._wanted = wanted or EventFilter()
        self._names = _Names(describe)
        self._ready: deque[events.Record] = deque()
        # Before the first look at the files, so that nothing that comes later is missed.
        self._watch = Watch(root) if follow else None
        self._files: _Files | None = None
        try:
            if follow:
                self._files = _Files(root, from_start=since is not None)
        except BaseException:
            self._let_go()
            raise
        past = follow and since is None
        self._past: Iterator[events.Record] = iter(()) if past or follow else events.read(root)

    def _take(self) -> Waiting[Event | None]:
        """Return the next event, None after the last one: for drivers of waits."""
        event = yield from self._ending.within(self._next())
        return event

    def _next(self) -> Waiting[Event | None]:
        while True:
            record = next(self._past, None)
            if record is None:
                record = yield from self._following()
            if record is None:
                self.close()
                return None
            event = self._event(record)
            if event is not None:
                return event

    def _following(self) -> Waiting[events.Record | None]:
        """Return the next record of the followed files; None when there will be none."""
        while not self._ready:
            if self._files is None or self._watch is None:
                return None
            self._ready.extend(self._files.read())
            if self._ready:
                break
            deadline = None
            if self._until is not None:
                left = (self._until - time.time_ns()) / 1e9
                if left < 0:
                    return None
                deadline = time.monotonic() + left
            yield from self._watch.changed(deadline=deadline)
        return self._ready.popleft()

    def _event(self, record: events.Record) -> Event | None:
        """Return a record as a value, None when it is not wanted."""
        known = self._names.learn(record, needed=self._wanted.wants_kind(record.kind))
        if self._since is not None and record.ns < self._since:
            return None
        if self._until is not None and record.ns > self._until:
            return None
        if not self._wanted.wants_kind(record.kind):
            return None
        fields = {key: value for key, value in record.fields.items() if key not in _OWN}
        if record.kind == "die":
            _as_exit(fields)
        when = _EPOCH + timedelta(microseconds=record.ns // 1000)
        event = Event(when, record.kind, record.id, known.name, known.image, fields)
        return event if self._wanted.wants(event, known.labels) else None

    def __next__(self) -> Event:
        event = drive(self._take())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End it: there is no next event, also for who waits for it; harmless when repeated."""
        self._ending.end()

    def _let_go(self) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.close()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        self._past = iter(())
        self._ready.clear()

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
        if hasattr(self, "_past"):
            self.close()


_OWN: Final = ("name", "image", "labels")


class _Names:
    """What containers are called: as their own events said, else as somebody looks it up."""

    __slots__ = ("_describe", "_known")

    def __init__(self, describe: Callable[[str], Described | None]) -> None:
        self._describe = describe
        self._known: dict[str, Described] = {}

    def learn(self, record: events.Record, *, needed: bool) -> Described:
        """Return what is known of an event's container at that time.

        Args:
            record: the event; what it says itself counts most.
            needed: look it up where nothing is known yet.
        """
        known = self._known.get(record.id)
        told = {key: record.fields[key] for key in _OWN if key in record.fields}
        if known is None and needed and len(told) < len(_OWN):
            known = self._describe(record.id)
        known = _checked((known or UNKNOWN)._replace(**told))
        if record.kind == "remove":
            self._known.pop(record.id, None)
        elif known != UNKNOWN:
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[record.id] = known
        return known


def _as_exit(fields: dict[str, Any]) -> None:
    """Say of an end what its `Exit` says: launchers write code and signal apart, 0 for none."""
    signal = fields.get("signal")
    if isinstance(signal, int):
        fields |= {"signal": signal, "code": 128 + signal} if signal else {"signal": None}


def _checked(told: Described) -> Described:
    """Return what a line says with everything of another type left out."""
    name: Any = told.name
    image: Any = told.image
    labels: Any = told.labels
    return Described(
        name if isinstance(name, str) else "",
        image if isinstance(image, str) else "",
        labels if isinstance(labels, dict) else {},
    )


class _Files:
    """The present file, and those it is renamed from, read to their ends one after the other."""

    __slots__ = ("_last", "_lines", "_root")

    def __init__(self, root: Path, *, from_start: bool) -> None:
        self._root = root
        self._last: events.Lines | None = None  # the file before the present one
        self._lines = self._open(at_end=not from_start)
        if from_start:
            older = events.open_file(root, events.OLDER)
            if older >= 0 and os.path.sameopenfile(older, self._lines.fd):
                os.close(older)  # renamed meanwhile: read as the present one
            elif older >= 0:
                self._last = events.Lines(older)

    def _open(self, *, at_end: bool = False) -> events.Lines:
        fd = events.open_file(self._root, create=True)
        return events.Lines(fd, os.fstat(fd).st_size if at_end else 0)

    def read(self) -> Iterator[events.Record]:
        """Yield what is there by now and was not before."""
        if self._last is not None:
            yield from self._last.read()
        yield from self._lines.read()
        while not self._is_present():
            yield from self._lines.read()  # what was written until it was renamed
            self._turn()
            yield from self._lines.read()

    def _is_present(self) -> bool:
        try:
            named = os.stat(self._root / events.NAME)
        except FileNotFoundError:
            return True  # nobody has written since it was renamed
        return os.path.samestat(named, os.fstat(self._lines.fd))

    def _turn(self) -> None:
        """Go on with the file after the one that was renamed."""
        done, self._last = self._last, None
        if done is not None:
            os.close(done.fd)
        older = events.open_file(self._root, events.OLDER)
        if older >= 0 and not os.path.sameopenfile(older, self._lines.fd):
            lines = events.Lines(older)  # one more came and went
        else:
            if older >= 0:
                os.close(older)
            lines = self._open()
        self._last, self._lines = self._lines, lines

    def close(self) -> None:
        for lines in (self._last, self._lines):
            if lines is not None:
                os.close(lines.fd)
