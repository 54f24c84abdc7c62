"""The files of one container's log, read in order, also while the launcher writes and rotates them.

The present file is ``log``, older ones are ``log.1``, ``log.2`` and so on; to rotate, the launcher
renames each to the next number and begins a new ``log``.  A file keeps its inode, so what is open
is read to its end whatever its name is by then, and its successor is the next younger one.

Owns the descriptors.  Must not: cut lines, filter, wait.
Neighbours: `records` is the format; `logs` and `runtime.attach` read by it.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from containerkit.errors import refusals
from containerkit.state.atomic import open_regular
from containerkit.stdio.records import RECORD_MAX, BrokenLog, Record, parse, step_back

_CHUNK: Final = RECORD_MAX
"""Bytes of one read: a whole record for certain, and of a flood of short lines no more than that."""


class _File:
    """One open file, and how far it is read: always to the beginning of a record."""

    __slots__ = ("at", "broken", "fd", "inode", "mtime_ns", "size")

    def __init__(self, fd: int) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.inode = status.st_ino
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.at = 0
        self.broken = False

    def read(self, end: int | None) -> list[Record]:
        """Return the next records that are there, none of them beyond *end*."""
        room = _CHUNK if end is None else min(_CHUNK, end - self.at)
        if self.broken or room <= 0:
            return []
        try:
            found, size = parse(os.pread(self.fd, room, self.at))
        except BrokenLog:  # nothing behind it can be told from it
            self.broken = True
            return []
        self.at += size
        return found

    def step_back(self, want: int) -> None:
        """Begin at the record that is *want* bytes before the end, or at the file's own beginning."""
        base = max(0, self.size - want - RECORD_MAX)
        data = os.pread(self.fd, self.size - base, base)
        end = len(data)
        with suppress(BrokenLog):  # its last record is torn: read it all
            while end > len(data) - want:
                before = step_back(data, end)
                if before is None:
                    return
                end = before
            self.at = base + end


class LogFiles:
    """A reader's place in a log.

    Args:
        directory: the container's; a log need not be there yet.
        since_ns: files that were written to before only are left out, but for the last of them,
            which may hold the beginning of a line.
        tail: bytes before the end to begin at, about; None: at the beginning.

    Raises:
        FileNotFoundError: there is no such directory.
    """

    __slots__ = ("_directory", "_files", "_outrun", "gap", "whole")

    def __init__(
        self, directory: Path, *, since_ns: int | None = None, tail: int | None = None
    ) -> None:
        self._files: deque[_File] = deque()
        with refusals("open the log"):
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.whole = True
        """Whether it begins where the log does."""
        self.gap = False
        """Whether the records last read do not follow those before: some were rotated away."""
        self._outrun = False
        try:
            self._files.extend(self._open_all())
            if since_ns is not None:
                self._drop_before(since_ns)
            if tail is not None:
                self._step_back(tail)
        except BaseException:
            self.close()
            raise

    @refusals("open the log")
    def _open_all(self) -> list[_File]:
        """Open every file there is, oldest first; no rotation meanwhile hides one."""
        found: dict[int, _File] = {}
        names = ["log", *sorted(self._older(), key=lambda name: int(name[4:]))]
        try:
            # Youngest first: a rotation moves files the same way, so that none is passed unseen.
            for name in [*names, f"log.{len(names)}"]:
                with suppress(FileNotFoundError):
                    file = _File(open_regular(name, os.O_RDONLY, dir_fd=self._directory))
                    if found.setdefault(file.inode, file) is not file:
                        os.close(file.fd)
        except BaseException:
            for file in found.values():
                os.close(file.fd)
            raise
        return list(found.values())[::-1]

    @refusals("open the log")
    def _older(self) -> list[str]:
        names = os.listdir(self._directory)
        return [name for name in names if name.startswith("log.") and name[4:].isdecimal()]

    def _drop_before(self, since_ns: int) -> None:
        while len(self._files) > 1 and self._files[1].mtime_ns < since_ns:
            os.close(self._files.popleft().fd)
            self.whole = False

    def _step_back(self, want: int) -> None:
        kept: deque[_File] = deque()
        while self._files:
            file = self._files.pop()
            if want <= 0 and kept:
                os.close(file.fd)
                self.whole = False
                continue
            if want < file.size:
                file.step_back(want)
                self.whole &= file.at == 0
            want -= file.size - file.at
            kept.appendleft(file)
        self._files = kept

    def read(self, *, grow: bool) -> list[Record]:
        """Return the next records, none when there are no more by now.

        Args:
            grow: also those that came after this reader was made, or else only what was there.
        """
        self.gap = False
        while self._files:
            file = self._files[0]
            last = len(self._files) == 1
            found = file.read(None if grow or not last else file.size)
            if not found and last and (not grow or not self._succeed()):
                return []
            if not found and grow and last:  # what was written before it was rotated
                found = file.read(None)
            if found:
                return found
            os.close(self._files.popleft().fd)
            self.gap, self._outrun = self._outrun, False
        if not grow or not self._succeed():
            return []
        return self.read(grow=True)

    def _succeed(self) -> bool:
        """Open what is younger than the one open file, if that is not the present one any more."""
        inode = self._files[0].inode if self._files else -1
        with suppress(FileNotFoundError):  # not yet, just now, or not any more
            present = os.stat("log", dir_fd=self._directory, follow_symlinks=False)
            if present.st_ino == inode:
                return False
        found = self._open_all()
        inodes = [file.inode for file in found]
        skip = inodes.index(inode) + 1 if inode in inodes else 0
        self._outrun = skip == 0 and inode >= 0
        for file in found[:skip]:
            os.close(file.fd)
        self._files.extend(found[skip:])
        return skip < len(found)

    def close(self) -> None:
        """Close everything; harmless when repeated."""
        while self._files:
            os.close(self._files.popleft().fd)
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
