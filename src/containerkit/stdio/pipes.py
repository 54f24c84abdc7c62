"""The caller's ends of a process's streams, as file-like objects of bytes or text.

Owns: the descriptors given to it, buffering, decoding, and that the
end of a terminal reads as the end of a file.  Must not: know who is at the other end.
Neighbours: `runtime.process` makes them for an exec or an attached container.

Thread safety: reads of one reader take turns, as do writes of one writer.  Closing a reader wakes
who waits in it, in another thread or task, with the ValueError that later reads raise; closing a
writer waits for a write of another thread, which ends when the process does.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, AnyStr, Final, Generic, Self

from containerkit.errors import Timeout, refusals
from containerkit.model.coding import UTF8, Coding
from containerkit.stdio.ending import Ending
from containerkit.stdio.waiting import Waiting, deadline_of, drive, until_readable

CHUNK: Final = 64 << 10
"""What a pipe holds at most by default (pipe(7))."""


def encoded(data: Any, coding: Coding | None) -> bytes:
    """Return what a stream carries of *data*.

    Raises:
        TypeError: bytes where text is expected, or the reverse.
    """
    if isinstance(data, str) is (coding is None):
        kind = "bytes" if coding is None else "str"
        raise TypeError(f"{kind} is expected, not {type(data).__name__}")
    return bytes(data) if coding is None else coding.encode(data)


class _Descriptor:
    """One that is closed once."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)


class _End:
    """A descriptor that is closed by its owner or in a forked child, after who waits on it has left."""

    __slots__ = ("_descriptor", "_ending", "guard")

    def __init__(self, fd: int) -> None:
        self._descriptor = _Descriptor(fd)
        self._ending = Ending(self._descriptor.close)
        self.guard = threading.RLock()

    @property
    def closed(self) -> bool:
        return self._ending.ended

    def fileno(self) -> int:
        """The descriptor; raises ValueError, as files do, when it is closed."""
        if self._ending.ended:
            raise _closed()
        return self._descriptor.number

    def within(self, step: Waiting[bool]) -> Waiting[bool]:
        """Return what *step* does, which waits on the descriptor.

        Raises:
            ValueError: it was closed, before or meanwhile.
        """
        found = yield from self._ending.within(step)
        if found is None:
            raise _closed()
        return found

    def close(self) -> None:
        self._ending.end()

    def forget(self) -> None:
        """In a forked child, where the lock may have been held for ever."""
        self.guard = threading.RLock()
        self.close()

    def __del__(self) -> None:
        self.close()


def _closed() -> ValueError:
    return ValueError("I/O operation on a closed stream")


class Reader(Generic[AnyStr]):
    """One output stream of a process: lines when iterated, what is there by `read1`.

    Once it is closed reading raises ValueError, also in another thread that waits in it.

    Args:
        fd: the read end; this object's from now on.
        coding: give str instead of bytes, decoded so.
    """

    __slots__ = ("_ahead", "_decoder", "_end", "_ended", "_held", "_plain", "_searched", "_utf8")

    def __init__(self, fd: int, coding: Coding | None) -> None:
        self._end = _End(fd)
        self._ended = False
        self._held = bytearray()
        self._ahead = io.BytesIO()  # whole lines that were read ahead; `_held` follows them
        self._searched = 0  # so many bytes of `_held` have no newline
        self._plain = True  # the decoder holds no part of a character
        self._decoder: codecs.IncrementalDecoder | None = None
        if coding is not None:
            kind = codecs.getincrementaldecoder(coding.encoding)
            self._decoder = kind(coding.errors or "replace")
        self._utf8 = coding == UTF8

    def fileno(self) -> int:
        """The descriptor; what was read ahead is not seen by whoever reads it directly."""
        return self._end.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._end.closed

    @property
    def ended(self) -> bool:
        """Whether the end was read, or it is closed; what was read ahead may be left."""
        return self._ended or self._end.closed

    def read(self, size: int = -1) -> AnyStr:
        """Read *size* bytes or characters, fewer only at the end; all that comes by default.

        Blocking: until so much is there or the stream has ended.
        """
        with self._end.guard:
            self._end.fileno()
            self._join()
            given = self._take(size)
            while size > len(given) and (self._held or not self._ended):
                given += self._take(size - len(given))  # characters of several bytes
            return given

    def read1(self, size: int = CHUNK) -> AnyStr:
        """Read what is there, at most *size* bytes; empty at the end only.

        Blocking: until there is something.
        """
        with self._end.guard:
            self._end.fileno()
            self._join()
            while True:
                if not self._held:
                    drive(self._filling())
                given = self._given(min(size, len(self._held)))
                if given or self._ended or size <= 0:
                    return given

    def readline(self, *, timeout: float | None = None) -> AnyStr:
        """Read a line with its newline; the last may have none; empty at the end.

        Args:
            timeout: seconds; past them `Timeout` is raised and what is there of the line is kept.

        Blocking: until there is a whole one.
        """
        with self._end.guard:
            self._end.fileno()
            deadline = deadline_of(timeout)
            while (line := self._line()) is None:
                if not drive(self._filling(deadline)):
                    raise Timeout(f"no whole line came within {timeout} s", result=None)
            return line

    def _line(self) -> AnyStr | None:
        """Return the next line if it was read ahead, the rest at the end; None: `fill` first."""
        with self._end.guard:
            data = self._ahead.readline()
            if not data:
                self._cut()
                data = self._ahead.readline()
            if data:
                return self._decoded(data, final=False)
            return self._given(len(self._held)) if self._ended else None

    def _cut(self) -> None:
        """Set whole lines apart from what is held: all of them at once, since that is fast."""
        end = self._held.rfind(b"\n", self._searched) + 1
        if end:
            self._ahead = io.BytesIO(bytes(memoryview(self._held)[:end]))
            del self._held[:end]
        self._searched = len(self._held)

    def _join(self) -> None:
        """Take lines that were set apart back, before anything but a line is read."""
        with self._end.guard:
            lines, self._ahead = self._ahead.read(), io.BytesIO()
            if lines:
                self._held[:0] = lines
                self._searched = 0

    def readlines(self) -> list[AnyStr]:
        """Read all lines that come, each with its newline.

        Blocking: until the stream has ended.
        """
        return list(self)

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def _filling(self, deadline: float | None = None) -> Waiting[bool]:
        """Read ahead once, in whichever face; False when the deadline passed first.

        Raises:
            ValueError: it is closed, or was meanwhile.
        """
        return self._end.within(self._waiting_to_fill(deadline))

    def _waiting_to_fill(self, deadline: float | None) -> Waiting[bool]:
        ready = self._ended or (yield from until_readable(self._end.fileno(), deadline))
        if ready:
            self._fill()
        return ready

    def _fill(self) -> None:
        """Read ahead once.

        Raises:
            ValueError: it is closed.

        Blocking: until there is something; not at all once it has ended.
        """
        with self._end.guard:
            if self._ended:
                return
            try:
                chunk = os.read(self._end.fileno(), CHUNK)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.ECONNRESET):
                    raise
                chunk = b""  # so a terminal ends (tty_ioctl(4))
            self._held += chunk
            self._ended = not chunk

    def _drain(self) -> bytes:
        """Take what was read ahead, as bytes."""
        with self._end.guard:
            self._join()
            self._searched = 0
            held, self._held = bytes(self._held), bytearray()
            return held

    def _take(self, size: int) -> AnyStr:
        while not self._ended and (size < 0 or len(self._held) < size):
            drive(self._filling())
        return self._given(len(self._held) if size < 0 else min(size, len(self._held)))

    def _given(self, size: int) -> AnyStr:
        """Hand out the first bytes of what is held."""
        data = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._searched = 0
        return self._decoded(data, final=self._ended and not self._held)

    def _decoded(self, data: bytes, *, final: bool) -> AnyStr:
        if self._decoder is None:
            return data  # type: ignore[return-value]  # AnyStr is bytes
        text = self._decoder.decode(data, final=final)
        self._plain = not self._decoder.getstate()[0]
        return text  # type: ignore[return-value]

    def __iter__(self) -> Iterator[AnyStr]:
        """Give line after line, without a call for each: see `_line`."""
        while True:
            if self._decoder is None:
                for data in self._ahead:
                    yield data  # type: ignore[misc]  # AnyStr is bytes
            elif self._plain and self._utf8:
                for data in self._ahead:
                    yield str(data, "utf-8", "replace")  # type: ignore[misc]  # AnyStr is str
            line = self.readline()
            if not line:
                return
            yield line

    def __next__(self) -> AnyStr:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def close(self) -> None:
        """Close it; who still writes gets SIGPIPE, who waits in a read of it ValueError."""
        self._end.close()
        self._join()  # so that whoever iterates sees that it is closed

    def _forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._end.forget()
        self._join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Writer(Generic[AnyStr]):
    """The input stream of a process; nothing is held back, so there is nothing to flush.

    Args:
        fd: the write end; this object's from now on.
        coding: take str instead of bytes, encoded so.
    """

    __slots__ = ("_coding", "_end")

    def __init__(self, fd: int, coding: Coding | None) -> None:
        self._end = _End(fd)
        self._coding = coding

    def fileno(self) -> int:
        """The descriptor."""
        return self._end.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._end.closed

    @refusals("write to the process")
    def write(self, data: AnyStr) -> int:
        """Write all of *data*; return its length.

        Raises:
            TypeError: bytes where text is expected, or the reverse.
            BrokenPipeError: nobody reads it any more.

        Blocking: until the process has read so much that the rest fits.
        """
        rest = memoryview(encoded(data, self._coding))
        with self._end.guard:
            while rest:
                rest = rest[os.write(self._end.fileno(), rest) :]
        return len(data)

    def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write one after the other; no newlines are added."""
        for line in lines:
            self.write(line)

    def writable(self) -> bool:
        """Return True: it can be written to."""
        return True

    def flush(self) -> None:
        """Do nothing: all that was written is on its way."""

    def close(self) -> None:
        """Close it: the process reads the end of its input.

        Blocking: while another thread writes.
        """
        with self._end.guard:
            self._end.close()

    def _forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._end.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
