"""Files and whole trees, copied between a container and this host, as ``docker cp`` does.

Owns: what of a file travels (content with its holes, modes, times, links, some attributes), what
does not (devices, sockets), and how it arrives: whole files, written aside.  Both ends are
descriptors, so that nothing which a container does meanwhile leads out of it, or elsewhere here.
Neighbours: `trees` walks, `beneath` puts in place, `files` decides where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from containerkit.errors import FileTooLarge
from containerkit.model.idmap import IdMap
from containerkit.runtime import hands, trees
from containerkit.runtime.beneath import (
    LEAF,
    aside,
    change_mode,
    closing,
    create,
    open_leaf,
    put_in_place,
    reopen,
    write_all,
)
from containerkit.state import cancel

CHUNK: Final = 1 << 20
UNSIZED: Final = 16 << 20
"""Bytes that are taken of a file which says it has none, as those of /proc."""

NAMED: Final = 1000
"""Of what is left out.  A socket may have any number of names, and each may be long."""
_LINKED: Final = 4096
"""Characters of a path by which a copy is found again, to be linked."""

Owner = tuple[int, int] | Literal["keep"] | None
"""(uid, gid); "keep": as at the source; None: whoever writes it, which is root in a container."""

_SPLICE_REFUSED: Final = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.EIO)
)
_NO_ATTRIBUTES: Final = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES))
_COPIED_AGAIN: Final = frozenset(
    (errno.ENOENT, errno.EPERM, errno.EACCES, errno.ENAMETOOLONG, errno.EMLINK)
)
_OVERLAY: Final = "user.overlay."
_CAPABILITY: Final = "security.capability"


@attrs.frozen
class Copied:
    """What a copy has copied.

    Args:
        entries: files, directories and links.
        size: bytes of content, holes not counted.
        left_out: sockets and devices, by their paths from the top: they can not be copied.  Of
            very many, `NAMED` of them.
    """

    entries: int
    size: int
    left_out: tuple[str, ...] = ()


@attrs.frozen
class Rules:
    """How things arrive.

    Args:
        owner: of everything that is made.
        trusted: whether set-user-id, set-group-id and file capabilities, which give rights, arrive.
        max_size: bytes of content that are copied at most; None: all.
        source, target: the ids of a container that it comes from, or goes to, if it has its own;
            owners are as the container counts them.
    """

    owner: Owner = None
    trusted: bool = False
    max_size: int | None = None
    source: IdMap | None = None
    target: IdMap | None = None

    def owner_of(self, uid: int, gid: int) -> tuple[int, int] | None:
        """Return who gets the copy of what belongs to *uid* and *gid*; None: whoever writes it.

        Raises:
            ConfigError: nobody in the container has such an id.
        """
        owner = self.owner
        if owner == "keep":
            owner = self.source.inside(uid, gid) if self.source else (uid, gid)
        if self.target is None:
            return owner
        if owner is None or (self.owner == "keep" and self.target.is_single):
            return self.target.root()  # as in layers: with no other id, all is its own
        return self.target.outside(*owner)

    def mode(self, status: os.stat_result) -> int:
        """Return the permission bits that a copy gets."""
        bits = stat.S_IMODE(status.st_mode)
        if self.trusted or stat.S_ISDIR(status.st_mode):
            return bits
        return bits & ~(stat.S_ISUID | stat.S_ISGID)

    def takes(self, attribute: str) -> bool:
        """Whether an extended attribute travels."""
        if attribute == _CAPABILITY:
            return self.trusted
        return attribute.startswith("user.") and not attribute.startswith(_OVERLAY)


# ---- content -----------------------------------------------------------------------------------


def copy_data(source: int, target: int, size: int, spend: Callable[[int], None]) -> None:
    """Copy a file's content, keeping its holes.

    Args:
        source: for reading, at any position.
        target: for writing, empty.
        size: of the source; what is added meanwhile is not copied.
        spend: told of bytes before they are copied; may raise.
    """
    if size == 0:
        _copy_unsized(source, target, spend)
        return
    for start, end in data_of(source, size):
        _copy_range(source, target, start, end, spend)
    os.ftruncate(target, size)


def data_of(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where, in the first *size* bytes of an open file, there is more than holes: start, end."""
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(file, offset, os.SEEK_DATA)
            end = min(os.lseek(file, offset, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            end = size  # a file system that does not know
        if offset < size:
            yield offset, end
        offset = end


def _copy_unsized(source: int, target: int, spend: Callable[[int], None]) -> None:
    taken = 0
    while taken < UNSIZED and (chunk := os.pread(source, CHUNK, taken)):
        spend(len(chunk))
        write_all(target, chunk)
        taken += len(chunk)


def _copy_range(
    source: int, target: int, start: int, end: int, spend: Callable[[int], None]
) -> None:
    in_kernel = True
    while start < end:
        count = min(CHUNK, end - start)
        spend(count)
        done = 0
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, count, start, start)
            except OSError as error:
                if error.errno not in _SPLICE_REFUSED:
                    raise
            in_kernel = done > 0
        if not in_kernel:
            chunk = os.pread(source, count, start)
            if not chunk:  # it has become shorter
                return
            done = os.pwrite(target, chunk, start)
        start += done


def copy_attributes(source: int, target: int, rules: Rules) -> None:
    """Copy those extended attributes that travel, as far as both file systems have them."""
    try:
        names = [name for name in os.listxattr(source) if rules.takes(name)]
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return
        raise
    for name in names:
        try:
            hands.setxattr(target, name, hands.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES | {errno.ENODATA}:
                raise


# ---- files -------------------------------------------------------------------------------------


class Copier:
    """Copies one file or tree; made for one copy.

    Args:
        rules: how things arrive.
        what: for the message of `FileTooLarge`.
    """

    def __init__(self, rules: Rules, what: str) -> None:
        self._rules = rules
        self._what = what
        self._entries = 0
        self._size = 0
        self._left_out: list[str] = []
        # Of sources with several names: where the copy is, and which file that was.
        self._links: dict[tuple[int, int], tuple[str, tuple[int, int]]] = {}

    @property
    def trusted(self) -> bool:
        """Whether what is copied is the caller's own."""
        return self._rules.trusted

    def result(self) -> Copied:
        """Return what was copied."""
        return Copied(self._entries, self._size, tuple(self._left_out))

    def file(self, source: int, parent: int, name: str) -> None:
        """Copy what is no directory to *name* in an open directory, replacing what is none either.

        Args:
            source: an O_PATH descriptor.
            parent, name: where; nothing there is followed.

        Raises:
            OSError: EISDIR: a directory is in the way; ENXIO: it is a socket or device.
            FileTooLarge: it is, or they all are together.
        """
        cancel.check()
        status = os.fstat(source)
        self._entries += 1
        with aside(parent) as made:
            if stat.S_ISLNK(status.st_mode):
                hands.symlink(os.readlink("", dir_fd=source), made, dir_fd=parent)
                self._dress(parent, made, status)
            elif stat.S_ISFIFO(status.st_mode):
                hands.mkfifo(made, 0o600, dir_fd=parent)
                change_mode(parent, made, self._rules.mode(status))
                self._dress(parent, made, status)
            else:
                self._regular(source, status, parent, made, name)
                return
            put_in_place(parent, made, name)

    def _regular(
        self, source: int, status: os.stat_result, parent: int, made: str, name: str
    ) -> None:
        with closing(reopen(source, os.O_RDONLY)) as content:
            with closing(create(parent, made)) as target:
                self._fill(content, status, target)
            try:
                put_in_place(parent, made, name)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # A file is mounted on it: its own content changes, its owner and mode stay.
                with closing(open_leaf(parent, name, os.O_WRONLY | os.O_TRUNC)) as target:
                    copy_data(content, target, status.st_size, self._spend)

    def _fill(self, content: int, status: os.stat_result, target: int) -> None:
        copy_data(content, target, status.st_size, self._spend)
        self._finish(content, target, status)

    def _finish(self, source: int, target: int, status: os.stat_result) -> None:
        """Give an open file or directory what the source has.

        The owner comes first: chown(2) takes set-id bits and file capabilities.
        """
        owner = self._rules.owner_of(status.st_uid, status.st_gid)
        if owner is not None:
            hands.fchown(target, *owner)
        hands.chmod(target, self._rules.mode(status))
        copy_attributes(source, target, self._rules)
        hands.utime(target, (status.st_atime_ns, status.st_mtime_ns))

    def _dress(self, parent: int, made: str, status: os.stat_result) -> None:
        """Give a link or FIFO its owner and times, by name."""
        owner = self._rules.owner_of(status.st_uid, status.st_gid)
        if owner is not None:
            hands.chown(made, *owner, dir_fd=parent)
        times = (status.st_atime_ns, status.st_mtime_ns)
        hands.utime_name(made, times, dir_fd=parent)

    def _spend(self, count: int) -> None:
        cancel.check()
        self._size += count
        limit = self._rules.max_size
        if limit is not None and self._size > limit:
            raise FileTooLarge(f"cannot copy {self._what}: there are more than {limit} bytes")

    # ---- trees

    def tree(self, source: int, target: int, *, made: bool) -> None:
        """Copy what is in a directory into another.

        Directories that are there already keep owner, mode and times; other things are replaced.
        After a failure a part is there.

        Args:
            source: an O_PATH descriptor of a directory.
            target: an open directory.
            made: it was made for this, and gets the source's owner, mode and times.

        Raises:
            OSError: EISDIR, ENOTDIR: a directory is where a file is to be, or the reverse.
            FileTooLarge: they all are together.
        """
        # The open directories of the copy below the target; whether each was made here.
        opened: list[tuple[int, bool]] = [(target, made)]
        steps = trees.walk(source)
        try:
            for step in steps:
                if step.kind == "enter":
                    self._entries += 1
                    if step.path:
                        opened.append(self._enter(opened[-1][0], step.name))
                elif step.kind == "leave":
                    fd, new = opened[-1]
                    if new:
                        self._finish(step.fd, fd, step.status)
                    if step.path:
                        os.close(opened.pop()[0])
                else:
                    self._other(step, target, opened[-1][0])
        finally:
            steps.close()
            for fd, _ in opened[1:]:
                os.close(fd)

    def _enter(self, parent: int, name: str) -> tuple[int, bool]:
        made = False
        with contextlib.suppress(FileExistsError):
            hands.mkdir(name, 0o700, dir_fd=parent)
            made = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return hands.open(name, flags, dir_fd=parent), made

    def _other(self, step: trees.Step, top: int, parent: int) -> None:
        kind = stat.S_IFMT(step.status.st_mode)
        if kind not in {stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO}:
            if len(self._left_out) < NAMED:
                self._left_out.append(step.path)
            return
        several = step.status.st_nlink > 1 and len(step.path) < _LINKED
        if several and self._link(step, top, parent):
            return
        self.file(step.fd, parent, step.name)
        if several:
            with contextlib.suppress(OSError):  # whatever happened to it, it is copied again then
                copy = hands.lstat(step.name, dir_fd=parent)
                identity = step.status.st_dev, step.status.st_ino
                self._links[identity] = step.path, (copy.st_dev, copy.st_ino)

    def _link(self, step: trees.Step, top: int, parent: int) -> bool:
        """Make a further name of a copy; False when there is none, or it is another file now."""
        known = self._links.get((step.status.st_dev, step.status.st_ino))
        if known is None:
            return False
        path, identity = known
        try:
            with (
                closing(hands.open_beneath(top, path, LEAF, no_symlinks=True)) as copy,
                aside(parent) as made,
            ):
                status = os.fstat(copy)
                if (status.st_dev, status.st_ino) != identity:
                    return False
                hands.link(copy, made, dir_fd=parent)
                put_in_place(parent, made, step.name)
        except OSError as error:
            if error.errno not in _COPIED_AGAIN:
                raise
            return False
        self._entries += 1
        return True
