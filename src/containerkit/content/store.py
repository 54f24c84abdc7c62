"""Blobs by digest: bytes enter unverified, through an ingest, and get a name only when verified.

Owns: ``ROOT/blobs/ALGORITHM/HEX`` and ``ROOT/ingest/ALGORITHM-HEX``.  Must not: know where bytes
come from or what they mean.  Neighbours: `images.pull` feeds ingests, `layers` reads blobs.

Life of a blob: absent → ingesting (one holder of the ingest file's flock, any number of processes
waiting) → published by rename, after digest and size were checked and the bytes are on disk.  A
killed ingest leaves its file, unlocked: the next one continues it.  Blobs are never changed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from containerkit.content.draft import PREFIX, Draft
from containerkit.content.ingest import CHUNK, Ingest
from containerkit.errors import BlobNotFound, ConfigError, DigestMismatch, SizeMismatch, refusals
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.state.lock import FileLock

_PARTIAL: Final = ("sha256-", "sha512-", PREFIX)


class ContentStore:
    """The blobs of one root; usable from every thread and process.

    Args:
        root: the root directory; ``blobs/sha256`` and ``ingest`` exist.
    """

    __slots__ = ("_blobs", "_ingest")

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._ingest = root / "ingest"

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._blobs / digest.algorithm / digest.encoded

    def contains(self, digest: Digest) -> bool:
        """Return whether the blob is here."""
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Return the blob's length in bytes.

        Raises:
            BlobNotFound: it is not here.
        """
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as e:
            raise _missing(digest) from e

    @refusals("open a blob")
    def open(self, digest: Digest) -> BinaryIO:
        """Open the blob for reading, unbuffered; the caller closes it.

        Raises:
            BlobNotFound: it is not here.
        """
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError as e:
            raise _missing(digest) from e

    def read(self, digest: Digest, limit: int) -> bytes:
        """Return the whole blob, checked against its name.

        Args:
            digest: its name.
            limit: bytes; more is refused unread.

        Raises:
            BlobNotFound: it is not here.
            SizeMismatch: it is longer than *limit*.
            DigestMismatch: the disk lost bits.
        """
        with self.open(digest) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise SizeMismatch(
                    f"cannot read blob {digest}: {size} bytes, at most {limit} are read",
                    expected=limit,
                    actual=size,
                )
            data = file.read(size)
        _verify(data, digest)
        return data

    def chunks(self, digest: Digest) -> Generator[bytes]:
        """Yield the blob piece by piece; after the last, raise if it was not what its name says.

        Raises:
            BlobNotFound: it is not here.
            DigestMismatch: the disk lost bits.
        """
        hasher = digest.hasher()
        with self.open(digest) as file:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                yield chunk
        if hasher.hexdigest() != digest.encoded:
            raise DigestMismatch(
                f"cannot read blob {digest}: its bytes hash to {hasher.hexdigest()}",
                hint="the disk changed it; pull the image again",
                expected=str(digest),
                actual=f"{digest.algorithm}:{hasher.hexdigest()}",
            )

    def put(self, data: bytes, digest: Digest) -> None:
        """Store *data*; nothing happens when it is here already.

        Raises:
            DigestMismatch: *digest* is not its name.
        """
        _verify(data, digest)
        with self.ingest(Descriptor("application/octet-stream", digest, len(data))) as ingest:
            if not ingest.done:
                ingest.restart()
                ingest.write(data)
                ingest.commit()

    @contextmanager
    def ingest(
        self,
        descriptor: Descriptor,
        *,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[Ingest]:
        """Become the only one that brings in this blob, after whoever is doing it now.

        Leaving the block without ``commit`` keeps the bytes for a later try, unless they were
        found to be wrong.

        Args:
            descriptor: the blob's digest and size.
            deadline: ``time.monotonic`` seconds until which to wait for the other; None: for ever.
            cancelled: set it to end the waiting.

        Yields:
            An ingest; with ``done`` set when the blob is here (meanwhile, or already).

        Raises:
            Timeout: somebody else was still at it.
        """
        digest = descriptor.digest
        target = self.path(digest)
        lock = FileLock(self._ingest / f"{digest.algorithm}-{digest.encoded}")
        if target.exists():
            yield Ingest.finished(descriptor.size)
            return
        lock.acquire(deadline=deadline, cancelled=cancelled)
        ingest = Ingest(lock, digest, descriptor.size, target)
        try:
            if target.exists():
                # The other one renamed its file away; ours is a fresh, empty one.
                ingest.done = True
            yield ingest
        finally:
            ingest.close()

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """Write a blob whose digest shows when all of it is there.

        Leaving the block without ``publish`` throws it away.
        """
        draft = Draft(self._ingest, self.path)
        try:
            yield draft
        finally:
            draft.close()

    @refusals("remove a blob")
    def remove(self, digest: Digest) -> None:
        """Unlink the blob; open readers keep reading.

        Raises:
            BlobNotFound: it is not here.
        """
        try:
            self.path(digest).unlink()
        except FileNotFoundError as e:
            raise _missing(digest) from e

    @refusals("list the blobs")
    def list(self) -> tuple[Digest, ...]:
        """Return the names of all blobs."""
        found: list[Digest] = []
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._blobs / algorithm) as it:
                for entry in it:
                    with contextlib.suppress(ConfigError):
                        found.append(Digest(algorithm, entry.name))
        return tuple(found)

    @refusals("remove partial blobs")
    def remove_debris(self) -> int:
        """Remove what killed processes left: partial blobs and unfinished writes.

        What a living process holds is locked, and stays.

        Returns:
            The bytes freed.
        """
        freed = 0
        for name in os.listdir(self._ingest):
            if not name.startswith(_PARTIAL):
                continue
            lock = FileLock(self._ingest / name)
            if lock.try_acquire():
                freed += os.fstat(lock.fd).st_size
                lock.release(unlink=True)
        return freed


def _verify(data: bytes, digest: Digest) -> None:
    hasher = digest.hasher()
    hasher.update(data)
    if hasher.hexdigest() != digest.encoded:
        raise DigestMismatch(
            f"cannot accept blob {digest}: its bytes hash to {hasher.hexdigest()}",
            expected=str(digest),
            actual=f"{digest.algorithm}:{hasher.hexdigest()}",
        )


def _missing(digest: Digest) -> BlobNotFound:
    return BlobNotFound(f"cannot open blob {digest}: it is not in the store")
