"""A blob that is made here: written to a file without a name, named when its digest is known.

Owns: that file.  Must not: know what is in it.  Neighbour: `content.store`, which hands it out.

A killed process leaves nothing, where the file system can make such files (open(2), O_TMPFILE);
elsewhere a locked file in ``ROOT/ingest``, which is removed with other partial blobs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from containerkit.errors import HostError, refusals
from containerkit.model.digest import Digest
from containerkit.state.atomic import sync_directory, write_all_at
from containerkit.state.lock import FileLock

PREFIX: Final = "draft-"
_NONE: Final = frozenset((errno.EOPNOTSUPP, errno.EISDIR))  # the latter: of an old kernel


class Draft:
    """The writing end; made by ``ContentStore.draft``.

    Args:
        directory: for partial blobs, on the file system of the result.
        place: says where a blob is by its digest.

    Attributes:
        size: bytes so far.
    """

    __slots__ = ("_fd", "_hasher", "_lock", "_place", "size")

    def __init__(self, directory: Path, place: Callable[[Digest], Path]) -> None:
        self._place = place
        self._hasher = hashlib.sha256()
        self._lock: FileLock | None = None
        self.size = 0
        with refusals("store a blob"):
            try:
                self._fd = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in _NONE:
                    raise
                self._lock = FileLock(directory / f"{PREFIX}{secrets.token_hex(16)}").acquire()
                self._fd = self._lock.fd

    def write(self, chunk: bytes) -> None:
        """Append the next bytes.

        Raises:
            HostError: the disk is full or broken.
        """
        try:
            write_all_at(self._fd, chunk, self.size)
        except OSError as error:
            hint = "free some space" if error.errno == errno.ENOSPC else None
            raise HostError(
                f"cannot store a blob: {error.strerror}", errno=error.errno, hint=hint
            ) from error
        self._hasher.update(chunk)
        self.size += len(chunk)

    @property
    def digest(self) -> Digest:
        """Of the bytes so far."""
        return Digest("sha256", self._hasher.hexdigest())

    @refusals("store a blob")
    def publish(self) -> None:
        """Wait for the disk and give it the name that it has by its digest, unless that is there.

        Atomicity: others see no blob, or the whole one; a power cut can not undo a return.
        """
        target = self._place(self.digest)
        os.fdatasync(self._fd)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if self._lock is not None:
            os.rename(self._lock.path, target)
            self._lock.release()
            self._lock, self._fd = None, -1
        else:
            # With a descriptor of its directory it is linkat(2) that is called, which can follow links.
            parent = os.open(target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with contextlib.suppress(FileExistsError):
                    where = f"/proc/self/fd/{self._fd}"
                    os.link(where, target.name, dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(parent)
        sync_directory(target.parent)

    def close(self) -> None:
        """Let go of it; what was not published is gone."""
        if self._lock is not None:
            self._lock.release(unlink=True)
            self._lock = None
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
