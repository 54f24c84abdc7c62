"""Trees of a container as tar streams: written here, read by `extract`.

Owns the translation of a walk into tar (POSIX.1-2001, "pax"), piece by piece as it is read, so that
nothing is held in memory.  Headers are tarfile's; extended attributes go as ``SCHILY.xattr.NAME``, as
GNU tar and Docker write them.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from containerkit.errors import FileTooLarge
from containerkit.runtime import hands, trees
from containerkit.runtime.beneath import attempt, closing, reopen
from containerkit.runtime.copies import CHUNK, data_of
from containerkit.state import cancel

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap

XATTR: Final = "SCHILY.xattr."

_KINDS: Final = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
ZEROS: Final = bytes(CHUNK)
"""The piece that is yielded for a hole."""
_LINKED: Final = 4096
"""Characters of a name that others link to; whoever extracts could not find a longer one."""
_TAKEN: Final = ("user.", "security.capability")
_OVERLAY: Final = "user.overlay."


class TarStream(io.RawIOBase):
    """A tar that is made while it is read: a binary file, not seekable; or iterate over its pieces.

    Whoever does not read it to its end closes it: what it is made of stays open until then.

    Args:
        pieces: the stream's.
        path: of the top, for messages.
        kept: closed with it.
    """

    def __init__(self, pieces: Generator[bytes, None, None], path: str, kept: ExitStack) -> None:
        super().__init__()
        self._pieces = pieces
        self._path = path
        self._kept = kept
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as one piece goes; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._next() or b"")
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces, of up to 1 MiB."""
        if self._rest:
            yield bytes(self._rest)
            self._rest = memoryview(b"")
        while piece := self._next():
            yield piece

    def _next(self) -> bytes | None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with attempt("archive", self._path):
            return next(self._pieces, None)

    def close(self) -> None:
        """Let go of what it is made of; harmless when repeated."""
        if not self.closed:
            try:
                self._pieces.close()
            finally:
                self._kept.close()
        super().close()


def tar_pieces(
    top: int,
    name: str,
    *,
    skip: Callable[[str], bool] = lambda _: False,
    empty: Callable[[str], bool] = lambda _: False,
    ids: IdMap | None = None,
    max_size: int | None = None,
) -> Generator[bytes, None, None]:
    """Yield the pieces of a tar of a file or tree.

    A file that becomes shorter meanwhile is filled up with zeros, as GNU tar does.  Sockets are
    left out: tar has none.

    Args:
        top: an O_PATH descriptor; it stays the caller's.
        name: of the top in the archive; "" puts what is in it at the archive's top.
        skip: says which directories' contents are left out, by the path from the top.
        empty: says which files are written without content.
        ids: of a container that has its own: owners are as it counts them.
        max_size: bytes of content in all, holes included; None: any.

    Raises:
        OSError: something can not be read.
        FileTooLarge: it is more than *max_size*.
    """
    links: dict[tuple[int, int], str] = {}
    written = size = 0
    for step in trees.walk(top, skip=skip):
        cancel.check()
        if step.kind == "leave" or not has_entry(step.status):
            continue
        path = "/".join(filter(None, (name, step.path))) or "."
        info = header(step.fd, step.status, path, links, empty=empty(step.path))
        if ids is not None:
            info.uid, info.gid = ids.inside(info.uid, info.gid)
        size += info.size
        if max_size is not None and size > max_size:
            raise FileTooLarge(f"cannot archive {path}: there are more than {max_size} bytes")
        for piece in entry_pieces(info, step.fd):
            yield piece
            written += len(piece)
    yield end_piece(written)


def has_entry(status: os.stat_result) -> bool:
    """Return whether tar has entries of this kind: of sockets it has none."""
    return stat.S_IFMT(status.st_mode) in _KINDS


def entry_pieces(info: tarfile.TarInfo, found: int) -> Iterator[bytes]:
    """Yield the bytes of an entry; *found* is an O_PATH descriptor of what has its content."""
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if info.size:
        yield from _content(found, info.size)


def end_piece(written: int) -> bytes:
    """Return what ends a tar of so many bytes."""
    written += 2 * tarfile.BLOCKSIZE
    return bytes(2 * tarfile.BLOCKSIZE + -written % tarfile.RECORDSIZE)


def header(
    found: int,
    status: os.stat_result,
    path: str,
    links: dict[tuple[int, int], str],
    *,
    empty: bool = False,
) -> tarfile.TarInfo:
    """Return the header of what was opened, its content to follow.

    Args:
        found: an O_PATH descriptor, or that of a directory.
        status: of it; tar has such entries (`has_entry`).
        path: of the entry.
        links: the first path of each file that has several, by what it is; gets this one.
        empty: it is a regular file whose content is left out.
    """
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    info = tarfile.TarInfo(path)
    info.type = kind
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    records: dict[str, str] = {}
    seconds, rest = divmod(status.st_mtime_ns, 10**9)
    info.mtime = seconds
    if rest or seconds < 0:
        records["mtime"] = _time(status.st_mtime_ns)
    if kind in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == tarfile.SYMTYPE:
        info.linkname = os.readlink("", dir_fd=found)
    if kind != tarfile.DIRTYPE and status.st_nlink > 1 and len(path) < _LINKED:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            info.type, info.linkname = tarfile.LNKTYPE, first
    if info.type == tarfile.REGTYPE and not empty:
        info.size = status.st_size
    if info.type in {tarfile.REGTYPE, tarfile.DIRTYPE}:
        records |= _attributes(found)
    info.pax_headers = records
    return info


def _time(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return f"{sign}{seconds}.{rest:09d}"


def _attributes(fd: int) -> dict[str, str]:
    """Return the extended attributes that travel, as pax records."""
    where = f"/proc/self/fd/{fd}"  # an O_PATH descriptor gives none itself
    found: dict[str, str] = {}
    try:
        for name in os.listxattr(where):
            # What is no text can be no key of a pax record (pax(1), "Extended Header").
            if name.startswith(_TAKEN) and not name.startswith(_OVERLAY) and _is_text(name):
                value = hands.getxattr(fd, name)
                found[XATTR + name] = value.decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM, errno.EACCES}:
            raise
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _content(found: int, size: int) -> Iterator[bytes]:
    done = 0
    with closing(reopen(found, os.O_RDONLY)) as fd:
        for start, end in data_of(fd, size):
            yield from _zeros(start - done)
            done = start
            while done < end and (chunk := os.pread(fd, min(CHUNK, end - done), done)):
                cancel.check()
                done += len(chunk)
                yield chunk
            if done < end:  # it has become shorter
                break
    yield from _zeros(size + -size % tarfile.BLOCKSIZE - done)


def _zeros(left: int) -> Iterator[bytes]:
    while left:  # never an empty piece: it would be the end
        cancel.check()
        yield ZEROS if left >= CHUNK else bytes(left)
        left -= min(CHUNK, left)
