"""Tar streams put into a container, whoever made them.

Owns: reading a tar (tarfile, as a stream; gzip, bzip2 and xz are recognised) and making its members
beneath the container's root.  A link of the tar, or of the container, leads a member elsewhere in the
container at most.  Neighbours: `archive` writes tars, `beneath` puts in place.
"""

from __future__ import annotations

import io
import itertools
import lzma
import os
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NamedTuple, cast

from containerkit.errors import ArchiveError, ContainerKitError, FileTooLarge, UnsafePath
from containerkit.runtime import hands
from containerkit.runtime.archive import XATTR
from containerkit.runtime.beneath import (
    DIRECTORY,
    LEAF,
    RootSide,
    aside,
    attempt,
    change_mode,
    closing,
    create,
    make_directory,
    make_parents,
    put_in_place,
    write_all,
)
from containerkit.runtime.copies import CHUNK, Copied, Rules
from containerkit.runtime.paths import member_parts
from containerkit.state import cancel

Tar = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | Iterable[bytes]

_HEADER_MAX: Final = 1 << 20
_HEADERS_MAX: Final = 2 << 20
"""Bytes that come before one member's content: maps of holes among them, which tarfile reads whole."""
_XZ: Final = (b"\xfd7zXZ\0", b"\x5d\0\0\x80")
_XZ_MEMORY: Final = 192 << 20
"""Bytes for what goes before, three times as much as `xz -9` asks for."""
_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BROKEN: Final = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    OverflowError,
    RecursionError,  # one extended header after another
)
_EXTENDED: Final = frozenset(
    (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )
)


class _Member(tarfile.TarInfo):
    """A header that does not make tarfile read gigabytes of names, or go backwards."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENDED and self.size > _HEADER_MAX):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]


class _Headers:
    """tarfile's stream, from which no more than so much is read before a member's content."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.left = 0

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise tarfile.ReadError(f"headers of more than {_HEADERS_MAX} bytes")
        self.left -= size
        return cast("bytes", self._stream.read(size))

    def seekable(self) -> bool:
        return True  # forward, as far as tarfile and holes want it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Archive(tarfile.TarFile):
    """A tar whose headers are bounded, and none of whose members are remembered."""

    def __init__(self, name: Any, mode: Any, fileobj: Any, **options: Any) -> None:
        self._headers = _Headers(fileobj)
        super().__init__(
            name, mode, cast("IO[bytes]", self._headers), **options
        )  # looks at the first

    def next(self) -> tarfile.TarInfo | None:
        self._headers.left = _HEADERS_MAX
        member = super().next()
        self._headers.left = sys.maxsize
        shared = sum(map(len, (*self.pax_headers, *self.pax_headers.values())))
        if shared > _HEADER_MAX:
            raise tarfile.ReadError(f"headers for all members of {shared} characters")
        self.members: list[tarfile.TarInfo] = []
        return member


class _Directory(NamedTuple):
    """A directory that gets its owner, mode and times at the end."""

    path: str
    identity: tuple[int, int]
    owner: tuple[int, int] | None
    mode: int
    times: tuple[int, int]


class _Pieces(io.RawIOBase):
    """An iterable of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@contextmanager
def opened(tar: Tar) -> Iterator[IO[bytes]]:
    """Give a tar as a binary file; one that was opened here is closed."""
    if isinstance(tar, bytes | bytearray | memoryview):
        yield io.BytesIO(tar)
    elif isinstance(tar, str | os.PathLike):
        with attempt("read", os.fspath(tar)):
            file = open(tar, "rb")  # noqa: SIM115
        with file:
            yield file
    elif hasattr(tar, "read"):
        yield cast("IO[bytes]", tar)
    else:
        yield cast("IO[bytes]", io.BufferedReader(_Pieces(tar), CHUNK))


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """Return a tar without its xz: tarfile would give it all the memory that it says it needs."""
    head = file.read(CHUNK)
    while head and len(head) < len(_XZ[0]) and (more := file.read(CHUNK)):
        head += more
    pieces: Iterator[bytes] = itertools.chain([head], iter(lambda: file.read(CHUNK), b""))
    if head.startswith(_XZ):
        pieces = _inflated(pieces)
    return cast("IO[bytes]", io.BufferedReader(_Pieces(pieces), CHUNK))


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    for piece in pieces:
        data = piece
        while not stream.eof and (data or not stream.needs_input):
            made = stream.decompress(data, CHUNK)
            data = b""
            if made:
                yield made
        if stream.eof:
            return


class Extractor:
    """Extracts one tar.

    Args:
        side: the container.
        path: of an existing directory in it.
        rules: whose owner "keep" means the tar's numbers.
    """

    def __init__(self, side: RootSide, path: str, rules: Rules) -> None:
        self._side = side
        self._top = path.rstrip("/")
        self._rules = rules
        self._entries = 0
        self._size = 0
        self._left_out: list[str] = []
        # Directories get mode and times at the end, when nothing is made in them any more.
        self._directories: list[_Directory] = []

    def run(self, tar: Tar) -> Copied:
        """Extract all members.  After a failure a part is there.

        Raises:
            ArchiveError: it is no tar, or a broken one.
            UnsafePath: a member leads out of the archive.
            OSError: the container's file system refuses.
            FileTooLarge: it holds more than the rules allow.
        """
        os.close(self._side.open(self._top or "/", DIRECTORY))
        with opened(tar) as file:
            for archive, member in self._members(file):
                self._entries += 1
                with _reading(member.name):  # its numbers and names may be anything
                    self._make(archive, member)
        for directory in reversed(self._directories):
            self._finish_directory(directory)
        return Copied(self._entries, self._size, tuple(self._left_out))

    def _members(self, file: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with (
            _reading(),
            _Archive.open(fileobj=_unpacked(file), mode="r|*", tarinfo=_Member) as archive,
        ):
            while (member := archive.next()) is not None:
                yield archive, member

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = member_parts(member.name)
        if min(member.uid, member.gid) < 0:
            raise tarfile.ReadError(f"user {member.uid}, group {member.gid}")
        if not parts:
            return  # the top is there, and stays as it is
        parent_path = "/".join((self._top, *parts[:-1])) or "/"
        name = parts[-1]
        with closing(make_parents(self._side, parent_path)) as parent:
            if member.isdir():
                self._directory(parent, f"{parent_path}/{name}", name, member)
            elif member.islnk():
                self._hard_link(parent, name, member)
            elif member.isreg() or member.issym() or member.isfifo():
                self._other(archive, parent, name, member)
            else:
                self._left_out.append("/".join(parts))

    def _directory(self, parent: int, path: str, name: str, member: tarfile.TarInfo) -> None:
        try:
            make_directory(parent, name, 0o700)
        except FileExistsError:
            with closing(self._side.open(path, DIRECTORY)):  # a link to one is as good
                pass
        with closing(self._side.open(path, os.O_RDONLY | os.O_DIRECTORY)) as found:
            status = os.fstat(found)
            self._attributes(found, member)
        owner = self._rules.owner_of(member.uid, member.gid)
        if owner is not None and max(owner) >= 1 << 32:
            raise OverflowError(f"a directory of user {owner[0]}, group {owner[1]}")
        identity = status.st_dev, status.st_ino
        entry = _Directory(path, identity, owner, self._mode(member), _times(member))
        self._directories.append(entry)

    def _finish_directory(self, directory: _Directory) -> None:
        with closing(self._side.open(directory.path, os.O_RDONLY | os.O_DIRECTORY)) as found:
            status = os.fstat(found)
            if (status.st_dev, status.st_ino) != directory.identity:  # it came there since
                return
            if directory.owner is not None:
                hands.fchown(found, *directory.owner)
            hands.chmod(found, directory.mode)
            hands.utime(found, directory.times)

    def _hard_link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        parts = member_parts(member.linkname)
        if not parts:
            raise UnsafePath(
                f"cannot extract {member.name!r}: it is a hard link to the archive's top",
                entry=member.name,
            )
        where = "/".join((self._top, *parts[:-1])) or "/"
        with (
            closing(self._side.open(where, DIRECTORY)) as other,
            closing(hands.open(parts[-1], LEAF, dir_fd=other)) as target,
            aside(parent) as made,
        ):
            hands.link(target, made, dir_fd=parent)
            put_in_place(parent, made, name)

    def _other(
        self, archive: tarfile.TarFile, parent: int, name: str, member: tarfile.TarInfo
    ) -> None:
        with aside(parent) as made:
            if member.issym():
                hands.symlink(member.linkname, made, dir_fd=parent)
            elif member.isfifo():
                hands.mkfifo(made, 0o600, dir_fd=parent)
                change_mode(parent, made, self._mode(member))
            else:
                with closing(create(parent, made)) as target:
                    self._content(archive, member, target)
                    self._finish(target, member)
            if not member.isreg():
                owner = self._rules.owner_of(member.uid, member.gid)
                if owner is not None:
                    hands.chown(made, *owner, dir_fd=parent)
                hands.utime_name(made, _times(member), dir_fd=parent)
            put_in_place(parent, made, name)

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo, target: int) -> None:
        self._size += member.size
        limit = self._rules.max_size
        if limit is not None and self._size > limit:
            raise FileTooLarge(f"cannot extract {member.name!r}: more than {limit} bytes in all")
        content = archive.extractfile(member)
        if content is None:
            return
        # Holes stay holes: a small tar may say that a file has exabytes of them.
        parts = cast("list[tuple[int, int]] | None", member.sparse)
        for start, size in [(0, member.size)] if parts is None else parts:
            left = size
            content.seek(start)
            os.lseek(target, start, os.SEEK_SET)
            while left > 0 and (chunk := content.read(min(CHUNK, left))):
                cancel.check()
                write_all(target, chunk)
                left -= len(chunk)
        os.ftruncate(target, member.size)

    # ---- what it gets

    def _finish(self, target: int, member: tarfile.TarInfo) -> None:
        owner = self._rules.owner_of(member.uid, member.gid)
        if owner is not None:
            hands.fchown(target, *owner)
        hands.chmod(target, self._mode(member))
        self._attributes(target, member)
        hands.utime(target, _times(member))

    def _attributes(self, target: int, member: tarfile.TarInfo) -> None:
        for key, value in member.pax_headers.items():
            attribute = key.removeprefix(XATTR)
            if attribute != key and self._rules.takes(attribute):
                hands.setxattr(target, attribute, value.encode("utf-8", "surrogateescape"))

    def _mode(self, member: tarfile.TarInfo) -> int:
        return stat.S_IMODE(member.mode)


def _times(member: tarfile.TarInfo) -> tuple[int, int]:
    exact = member.pax_headers.get("mtime")
    if exact is None:
        time = int(member.mtime) * 10**9
    else:
        whole, _, fraction = exact.partition(".")
        time = int(whole) * 10**9
        rest = int(fraction[:9].ljust(9, "0") or 0)
        time += -rest if whole.startswith("-") else rest
    if not -1 << 63 <= time // 10**9 < 1 << 63:
        raise OverflowError("a time before or after all others")
    return time, time


@contextmanager
def _reading(entry: str = "") -> Iterator[None]:
    """Name what is wrong with a tar."""
    try:
        yield
    except ContainerKitError:
        raise
    except _BROKEN as error:
        raise ArchiveError(f"cannot read the tar: {error}", entry=entry) from error
