"""One blob on its way in: bytes appended to a locked file, hashed once, named when they are right.

Owns: the partial file while its lock is held.  Must not: fetch.  Neighbour: `content.store`, which
takes the lock and hands the ingest out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from containerkit.errors import DigestMismatch, HostError, SizeMismatch, refusals
from containerkit.model.digest import Digest
from containerkit.state.atomic import sync_directory, write_all_at
from containerkit.state.lock import FileLock

CHUNK: Final = 256 * 1024


class Ingest:
    """The writing end of a blob; made by ``ContentStore.ingest``.

    Bytes that an earlier, killed try left are not trusted: ``existing()`` gives them to whoever
    unpacks while it downloads, and hashes them on the way; ``write`` and ``commit`` do it when
    nobody asked.

    Attributes:
        done: the blob is in the store; there is nothing to do.
        offset: bytes here, from the blob's start; the first byte wanted.
        size: of the whole blob.
    """

    __slots__ = (
        "_digest",
        "_hashed",
        "_hasher",
        "_lock",
        "_published",
        "_target",
        "done",
        "offset",
        "size",
    )

    def __init__(self, lock: FileLock, digest: Digest, size: int, target: Path) -> None:
        self._lock = lock
        self._digest = digest
        self._hasher = digest.hasher()
        self._hashed = 0
        self._target = target
        self._published = False
        self.size = size
        self.done = False
        self.offset = os.fstat(lock.fd).st_size
        if self.offset > size:
            self.restart()

    @classmethod
    def finished(cls, size: int) -> Self:
        """Return the ingest of a blob that is in the store."""
        ingest = cls.__new__(cls)
        ingest.done = True
        ingest._published = True
        ingest.offset = ingest.size = size
        return ingest

    @property
    def complete(self) -> bool:
        """Whether all bytes are here, right or wrong."""
        return self.offset == self.size

    @property
    def is_right(self) -> bool:
        """Whether all bytes are here, and hash to the blob's digest."""
        whole = self.complete and self._hashed == self.offset
        return whole and self._hasher.hexdigest() == self._digest.encoded

    def existing(self) -> Iterator[bytes]:
        """Yield the bytes that an earlier try left, from the start; hash each as it passes.

        Raises:
            HostError: the file got shorter, or can not be read.
        """
        while self._hashed < self.offset:
            with refusals(f"resume blob {self._digest}"):
                chunk = os.pread(
                    self._lock.fd, min(CHUNK, self.offset - self._hashed), self._hashed
                )
            if not chunk:
                raise HostError(f"cannot resume blob {self._digest}: its file ends early")
            self._hasher.update(chunk)
            self._hashed += len(chunk)
            yield chunk

    def write(self, chunk: bytes) -> None:
        """Append the next bytes.

        Raises:
            SizeMismatch: there are more than the descriptor says; the ingest is emptied.
            HostError: the disk is full or broken; what was written stays.
        """
        for _ in self.existing():
            pass
        if self.offset + len(chunk) > self.size:
            self.restart()
            raise SizeMismatch(
                f"cannot accept blob {self._digest}: more than its {self.size} bytes came",
                expected=self.size,
                actual=self.size + 1,
            )
        try:
            write_all_at(self._lock.fd, chunk, self.offset)
        except OSError as e:
            raise _refused(self._digest, e) from e
        self._hasher.update(chunk)
        self.offset += len(chunk)
        self._hashed = self.offset

    @refusals("empty a partial blob")
    def restart(self) -> None:
        """Throw away the bytes that are here."""
        os.ftruncate(self._lock.fd, 0)
        self._hasher = self._digest.hasher()
        self._hashed = self.offset = 0

    def commit(self) -> None:
        """Check size and digest, wait for the disk, give the blob its name.

        Atomicity: others see no blob, or the whole one; a power cut can not undo a return.

        Raises:
            SizeMismatch: bytes are missing; they can still come.
            DigestMismatch: the bytes are wrong; the ingest is emptied.
            HostError: the disk is full or broken.
        """
        for _ in self.existing():
            pass
        if not self.complete:
            raise SizeMismatch(
                f"cannot accept blob {self._digest}: {self.offset} of {self.size} bytes came",
                expected=self.size,
                actual=self.offset,
            )
        if self._hasher.hexdigest() != self._digest.encoded:
            actual = f"{self._digest.algorithm}:{self._hasher.hexdigest()}"
            self.restart()
            raise DigestMismatch(
                f"cannot accept blob {self._digest}: its bytes hash to {actual}",
                expected=str(self._digest),
                actual=actual,
            )
        try:
            os.fdatasync(self._lock.fd)
            self._target.parent.mkdir(mode=0o700, exist_ok=True)
            os.rename(self._lock.path, self._target)
            sync_directory(self._target.parent)
        except OSError as e:
            raise _refused(self._digest, e) from e
        self.done = self._published = True

    def close(self) -> None:
        """Let go of the file: kept if something of use is in it, else removed."""
        if self._lock.held:
            useless = self.done or self.offset == 0
            self._lock.release(unlink=useless and not self._published)


def _refused(digest: Digest, error: OSError) -> HostError:
    return HostError(
        f"cannot store blob {digest}: {error.strerror}",
        errno=error.errno,
        hint="free some space; what came so far is kept" if error.errno == errno.ENOSPC else None,
    )
