"""LogEntry: one piece of output, as callbacks and logs give it.

Owns: the value, and the rule that cuts a stream into entries.  Must not: read descriptors.
Flow: `stdio.collect` makes them while a command runs, `stdio.lines` of a container's log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

StreamName = Literal["stdout", "stderr"]

LINE_MAX = 64 << 10
"""Bytes after which a line without an end is handed out in pieces."""


class LogEntry(NamedTuple):
    """One line of output, or a piece of a very long one.

    The ``data`` of a stream's entries, joined, are exactly the bytes that were written.
    """

    time: datetime
    """When the engine read it; UTC."""
    stream: StreamName
    data: bytes
    """Keeps its newline; has none where the stream ended or the line was cut."""


class LineCutter:
    """Cuts one stream into whole lines; holds at most `LINE_MAX` bytes back."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def holds(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._held)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the entries that ``chunk`` completes, in order."""
        self._held += chunk
        if b"\n" not in chunk and len(self._held) <= LINE_MAX:
            return []  # in place, so that a writer of single bytes costs no copies
        *lines, rest = bytes(self._held).split(b"\n")
        pieces: list[bytes] = []
        for line in lines:
            pieces += _cut(line + b"\n")
        *full, rest = _cut(rest) or [b""]
        self._held = bytearray(rest)
        return pieces + full

    def end(self) -> list[bytes]:
        """Return what is left when the stream has ended."""
        rest, self._held = bytes(self._held), bytearray()
        return [rest] if rest else []


def _cut(line: bytes) -> list[bytes]:
    if len(line) <= LINE_MAX:
        return [line] if line else []
    return [line[at : at + LINE_MAX] for at in range(0, len(line), LINE_MAX)]
