"""One layer's tar stream, applied to a directory by C (``ck_apply.c``).

Owns: the handle, its errors, what C leaves to Python, which is rare: sparse files, and to remove a
directory that another entry replaces.  Neighbours: `layers` feeds it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any, Self

from containerkit._ck import ffi, lib
from containerkit._native import BROKEN_HINT, refused, sparse
from containerkit.errors import LIMIT_HINT, ArchiveError, ContainerKitError, UnsafePath

if TYPE_CHECKING:
    from types import TracebackType

_OVERHEAD = 16 << 20
"""Bytes that headers and padding may have in any archive."""

_MAPS = 64 << 20
"""Bytes that all sparse maps of a layer may have: Python takes its time for them."""

_NO_SUCH_ID = "its owner is no id here; /etc/subuid and /etc/subgid grant more to a new root"

_ARCHIVES_FAULT = frozenset(
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.EBADMSG)
)
"""What the kernel says of entries that fit no tree, or not each other."""


def _remove_tree(directory: int, name: Any) -> int:
    """Remove a directory that another entry of its archive replaces."""
    try:
        _remove(directory, ffi.string(name))
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0


def _remove(parent: int, name: bytes | str) -> None:
    # Not by shutil: this thread has a umask of 0, which files that an import makes would get.
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(name, flags, dir_fd=parent)
        try:
            for below in os.listdir(directory):
                _remove(directory, below)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=parent)


ffi.def_extern("ck_remove_tree", error=-errno.EIO)(_remove_tree)


class Applier:
    """Applies one layer's tar stream to an empty directory (``ck_apply.c``).

    Life: made, fed any number of times, finished once, closed.  After an error only `close` may
    follow.  `feed` and `finish` belong to one thread made for it: that thread no longer shares its
    umask and working directory with the rest of the process.

    Args:
        directory: an open descriptor of the destination; the applier opens its own.
        user_xattrs: overlay marks as ``user.overlay.*`` (rootless) instead of ``trusted.*``.
        own_ids: everything is this process's own, whatever the archive says.
        openat2: False resolves paths as on a kernel without openat2(2).
        max_entries: entries the layer may have.
        max_bytes: bytes of all files together, holes included.
        max_depth: directories below each other.
        max_xattr_bytes: names and values of one entry's extended attributes.
        max_meta_bytes: one PAX or GNU extended header.
        name: of the layer, for messages.

    Raises:
        HostError: the destination can not be used, or there is no memory.
    """

    def __init__(
        self,
        directory: int,
        *,
        user_xattrs: bool = False,
        own_ids: bool = False,
        openat2: bool = True,
        max_entries: int,
        max_bytes: int,
        max_depth: int,
        max_xattr_bytes: int,
        max_meta_bytes: int,
        name: str = "",
    ) -> None:
        flags = lib.CK_APPLY_USER_XATTRS if user_xattrs else 0
        flags |= lib.CK_APPLY_OWN_IDS if own_ids else 0
        flags |= 0 if openat2 else lib.CK_APPLY_NO_OPENAT2
        options = ffi.new(
            "struct ck_apply_options *",
            (
                flags,
                max_entries,
                max_bytes,
                max_depth,
                max_xattr_bytes,
                max_meta_bytes,
                lib.ck_remove_tree,
            ),
        )
        self._attempt = f"cannot unpack layer {name}".rstrip()
        self._result = ffi.new("struct ck_apply_result *")
        self._failed = False
        self._fed = 0
        self._most = max_bytes
        self._sparse: sparse.Taking | None = None
        self._due = self._maps = 0
        try:
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            attempt = f"{self._attempt}: open the destination: {error.strerror}"
            raise refused(attempt, error.errno or 0) from error
        applier = lib.ck_apply_new(root, options, self._result)
        if not applier:
            os.close(root)
            raise refused(f"{self._attempt}: {os.strerror(errno.ENOMEM)}", errno.ENOMEM)

        def free(applier: Any) -> None:
            lib.ck_apply_free(applier)
            os.close(root)

        self._applier: Any = ffi.gc(applier, free)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream; what they complete is on disk afterwards.

        Raises:
            ArchiveError: the tar stream is malformed or exceeds a limit.
            UnsafePath: an entry or link points out of the layer.
            HostError: the file system refuses (full, read-only, no permission).
        """
        rest = memoryview(data)
        self._fed += len(rest)
        while True:
            if self._sparse is not None:
                rest = self._take(self._sparse, rest)
                if self._sparse is not None:
                    break
            with ffi.from_buffer(rest) as buffer:
                if not self._feed(buffer, len(buffer)):
                    break
            rest = rest[len(rest) - self._result.left :]
            self._sparse = self._sparse_file()
        if self._fed - self._result.bytes > max(self._most, _OVERHEAD):
            self._failed = True
            raise ArchiveError(
                f"{self._attempt}: headers, or what follows the end, are too large",
                hint=LIMIT_HINT,
                entry="",
            )

    @property
    def counts(self) -> tuple[int, int]:
        """Entries of the archive so far, and the bytes of their files together."""
        return int(self._result.entries), int(self._result.bytes)

    def finish(self) -> tuple[int, int]:
        """End the stream: set directory modes and times.

        Returns:
            Entries in the archive, and the bytes of its files together (holes included).

        Raises:
            ArchiveError: the stream ended too early.
            HostError: as `feed`.
        """
        if self._sparse is not None:
            raise self._bad("the archive ends inside this entry")
        self._feed(ffi.NULL, 0)
        return self.counts

    def close(self) -> None:
        """Close descriptors, free memory; harmless when repeated."""
        applier, self._applier, self._sparse = self._applier, None, None
        if applier is not None:
            ffi.release(applier)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _feed(self, buffer: Any, size: int) -> bool:
        """Have C take bytes; say whether it left a sparse file to Python."""
        if self._applier is None or self._failed:
            raise ValueError("the applier is closed, or has failed")
        done: int = lib.ck_apply_feed(self._applier, buffer, size)
        if done < 0:
            self._failed = True
            raise self._error()
        return done > 0

    # ---- sparse files

    def _sparse_file(self) -> sparse.Taking:
        """Write the file that C has left, from the stream."""
        left = self._result
        file, size = left.file, left.size
        header = bytes(ffi.buffer(left.header, sparse.BLOCK))
        records = bytes(ffi.buffer(left.records, left.records_size)) if left.records_size else b""
        found = yield from sparse.read_map(header, records, size)
        self._maps += len(records) + 16 * len(found.segments)
        if self._maps > _MAPS:
            raise self._bad("the layer's sparse maps are too long together")
        if found.size > self._most - left.bytes:
            raise self._bad("the layer's files are too large together", LIMIT_HINT)
        left.bytes += found.size
        yield from sparse.write(file, found)
        yield from sparse.skip(-size % sparse.BLOCK)

    def _take(self, file: sparse.Taking, rest: memoryview) -> memoryview:
        """Have the sparse file take what is its own; return what is behind it."""
        try:
            if not self._due:
                self._due = next(file)
            while rest:
                piece, rest = rest[: self._due], rest[self._due :]
                self._due = file.send(piece)
        except StopIteration:
            self._sparse, self._due = None, 0
        except sparse.BadMap as error:
            raise self._bad(str(error)) from error
        except OSError as error:
            self._failed = True
            attempt = f"{self._attempt}: {self._entry}: cannot write it: {error.strerror}"
            raise refused(attempt, error.errno or 0) from error
        return rest

    # ---- errors

    @property
    def _entry(self) -> str:
        named = self._result.entry
        return os.fsdecode(ffi.string(named)) if named else ""

    def _bad(self, why: str, hint: str = BROKEN_HINT) -> ArchiveError:
        self._failed, self._sparse = True, None
        entry = self._entry
        return ArchiveError(f"{self._attempt}: {_shown(entry)}: {why}", hint=hint, entry=entry)

    def _error(self) -> ContainerKitError:
        """Translate what C says: object and cause."""
        err = self._result.err
        detail = _shown(ffi.string(err.detail).decode("utf-8", "backslashreplace"))
        cause = f": {os.strerror(err.errnum)}" if err.errnum else ""
        message = f"{self._attempt}: {detail}{cause}"
        if err.code == lib.CK_E_LIMIT or err.errnum == errno.E2BIG:
            return ArchiveError(message, hint=LIMIT_HINT, entry=self._entry)
        if err.code == lib.CK_E_UNSAFE:
            return UnsafePath(message, hint=BROKEN_HINT, entry=self._entry)
        if err.code == lib.CK_E_ARCHIVE or err.errnum in _ARCHIVES_FAULT:
            return ArchiveError(message, hint=BROKEN_HINT, entry=self._entry)
        error = refused(message, err.errnum)
        # chown(2) says so; all else that could be invalid is checked before
        if err.errnum == errno.EINVAL and _are_ids_missing():
            error.hint = _NO_SUCH_ID
        return error


def _are_ids_missing() -> bool:
    """Whether this is a user namespace that has not all ids."""
    with contextlib.suppress(OSError), open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]
    return False


def _shown(text: str) -> str:
    """Return a name, or what has one in it, with only what is printable as it is."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
