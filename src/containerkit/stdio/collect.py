"""Collect what one command says, feed it what it reads, and see it end.

Owns: the three pipe ends of a `run` or `exec` from the first step on: it closes each as soon as it
is finished with it, and all of them however it ends.  Must not: start, kill or judge anything; the
exit packet passes through unread.
Flow: `runtime` starts a process, hands over its pipes and exit channel, drives this generator, and
makes a `Result` of what it returns.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from containerkit.errors import refusals
from containerkit.stdio.waiting import READ, WRITE, Interest, Ready, Wait, Waiting

if TYPE_CHECKING:
    from containerkit.stdio.entry import LogEntry, StreamName

CHUNK = 64 << 10
"""One read: what a pipe holds at most by default (pipe(7))."""

LATE = 64
"""Reads of what is there at once, after the time to drain: more than a pipe or a terminal holds."""

PACKET_MAX = 4096
"""An exit report is far smaller."""


class Collected(NamedTuple):
    """What came of a command."""

    stdout: bytes
    stderr: bytes
    truncated: bool
    """Whether either stream was longer than ``max_output``."""
    exit_packet: bytes | None
    """None: the exit channel ended or the time ran out before a report came."""
    timed_out: bool


def collect(
    *,
    exit_channel: int,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    data: bytes = b"",
    max_output: int | None = None,
    on_output: Callable[[LogEntry], object] | None = None,
    deadline: float | None = None,
    close: Callable[[int], object] = os.close,
    kill: Callable[[], float | None] | None = None,
    grace: float = 10.0,
    drain: float = 0.25,
) -> Waiting[Collected]:
    """Exchange data with a command until it has ended and said everything.

    Args:
        exit_channel: a SOCK_SEQPACKET socket; its first packet is the exit report, its end means
            that nobody is left to send one.  Stays open.
        stdin: write end of the command's input, closed after ``data``; not reading it all is no
            error.
        stdout: read end of its output; None when there is none.
        stderr: as ``stdout``.
        data: what to write to ``stdin``.
        max_output: bytes kept of each stream, the rest is read and dropped; None keeps all.
        on_output: is given every whole line as it comes, also beyond ``max_output``, in the
            thread that drives.  What it raises ends the collection.
        deadline: on the clock of ``time.monotonic``.
        close: closes the three pipe ends.
        kill: called once when the deadline passes; the collection goes on to the exit report.
            None: it ends there and then.
        grace: seconds that the exit report may take after ``kill``, unless that returns others.
        drain: seconds that the streams may take to end after the exit report.  All processes of
            the container are dead by then, so only a pipe held by somebody else takes them.
            What they had said is read in any case: it is there.
    """
    streams: dict[int, _Stream] = {}
    feed = _Feed(stdin, data, close)
    try:
        if stdout is not None:
            streams[stdout] = _Stream("stdout", max_output, on_output)
        if stderr is not None:
            streams[stderr] = _Stream("stderr", max_output, on_output)
        all_streams = list(streams.values())
        feed.write()
        packet, timed_out = yield from _exchange(
            exit_channel, feed, streams, _Clock(deadline, kill, grace, drain), close
        )
        for stream in all_streams:
            stream.end()
        said = {stream.name: stream.kept.getvalue() for stream in all_streams}
        truncated = any(stream.truncated for stream in all_streams)
        return Collected(
            said.get("stdout", b""), said.get("stderr", b""), truncated, packet, timed_out
        )
    finally:
        feed.close()
        for fd in streams:
            close(fd)


def _exchange(
    exit_channel: int,
    feed: _Feed,
    streams: dict[int, _Stream],
    clock: _Clock,
    close: Callable[[int], object],
) -> Waiting[tuple[bytes | None, bool]]:
    """Serve all descriptors until the exit report is here and the streams have ended."""
    packet: bytes | None = None
    exited = timed_out = False
    late = 0
    interest = _interest(exit_channel, feed, streams)
    while streams or not exited:
        ready: Ready = yield Wait(interest, clock.deadline)
        changed = False
        for fd, _events in ready:
            if fd in streams:
                chunk = _read(fd)
                if chunk:
                    streams[fd].take(chunk)
                else:
                    streams.pop(fd)
                    close(fd)
                    changed = True
            elif fd == feed.fd:
                feed.write()
                changed |= not feed.open
            else:
                packet = _read(fd, PACKET_MAX) or None
                exited = changed = True
                clock.start_drain()
        if changed:
            interest = _interest(None if exited else exit_channel, feed, streams)
        if clock.expired():  # asked each time: a flood of output is ready at every wait
            late += exited
            if exited and ready and late < LATE:
                continue
            if exited or timed_out or clock.kill is None:
                return packet, timed_out or not exited
            timed_out = True
            clock.start_grace()
    return packet, timed_out


def _interest(exit_channel: int | None, feed: _Feed, streams: dict[int, _Stream]) -> Interest:
    waits = [(fd, READ) for fd in streams]
    if feed.open:
        waits.append((feed.fd, WRITE))
    if exit_channel is not None:
        waits.append((exit_channel, READ))
    return tuple(waits)


def _read(fd: int, size: int = CHUNK) -> bytes:
    """Read once; the ways in which a pipe, a pty or a socket says that it ended are all b""."""
    try:
        return os.read(fd, size)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ECONNRESET):
            return b""
        raise


class _Clock:
    """The one deadline that is in force: of the command, then of its end."""

    __slots__ = ("_drain", "_grace", "deadline", "kill")

    def __init__(
        self,
        deadline: float | None,
        kill: Callable[[], float | None] | None,
        grace: float,
        drain: float,
    ) -> None:
        self.deadline = deadline
        self.kill = kill
        self._grace = grace
        self._drain = drain

    def expired(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def start_grace(self) -> None:
        assert self.kill is not None
        seconds = self.kill()
        self.deadline = time.monotonic() + (self._grace if seconds is None else seconds)

    def start_drain(self) -> None:
        self.deadline = time.monotonic() + self._drain


class _Feed:
    """The command's input: written as it is read, closed at the end or when nobody reads."""

    __slots__ = ("_close", "_rest", "fd", "open")

    def __init__(self, fd: int | None, data: bytes, close: Callable[[int], object]) -> None:
        self._close = close
        self.fd = -1 if fd is None else fd
        self.open = fd is not None
        self._rest = memoryview(data)

    @refusals("write to the process")
    def write(self) -> None:
        """Write what fits now; close when that was the last of it."""
        if not self.open:
            return
        try:
            if self._rest:
                # Only this end: the reader's is another open file and stays as it is.
                os.set_blocking(self.fd, False)
            while self._rest:
                self._rest = self._rest[os.write(self.fd, self._rest) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EIO):
                raise
        self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._close(self.fd)


class _Stream:
    """What is kept of one output stream, and who hears of it."""

    __slots__ = ("_cutter", "_left", "_tell", "kept", "name", "truncated")

    def __init__(
        self, name: StreamName, limit: int | None, on_output: Callable[[LogEntry], object] | None
    ) -> None:
        self.name = name
        self.kept = io.BytesIO()  # not a list of chunks: a writer of single bytes would fill memory
        self.truncated = False
        self._left = limit
        self._tell = on_output
        if on_output is not None:
            from containerkit.stdio.entry import LineCutter

            self._cutter = LineCutter()

    def take(self, chunk: bytes) -> None:
        if self._left is None:
            self.kept.write(chunk)
        elif len(chunk) <= self._left:
            self._left -= len(chunk)
            self.kept.write(chunk)
        else:
            self.kept.write(chunk[: self._left])
            self._left = 0
            self.truncated = True
        if self._tell is not None:
            self._entries(self._cutter.feed(chunk))

    def end(self) -> None:
        if self._tell is not None:
            self._entries(self._cutter.end())

    def _entries(self, pieces: list[bytes]) -> None:
        assert self._tell is not None
        if pieces:
            from datetime import UTC, datetime

            from containerkit.stdio.entry import LogEntry

            now = datetime.now(UTC)
            for piece in pieces:
                self._tell(LogEntry(now, self.name, piece))
