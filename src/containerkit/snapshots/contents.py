"""What a copy of a file has of the original: data, attributes, owner, mode, time.

Owns: one file's copy, and what becomes of owners and file capabilities with other ids.  Must not: look
up paths; names are single ones in open directories, and links never followed.
Neighbour: `snapshots.copy` walks the trees.

Spec: capabilities(7), "File capability extended attribute versioning"; user_namespaces(7); ioctl_ficlone(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from containerkit.errors import CorruptContent
from containerkit.model.idmap import NOBODY, IdMap

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE: Final = 0x40049409
_RANGE: Final = 64 << 20
_CHUNK: Final = 1 << 20
_CAPABILITY: Final = "security.capability"
_REVISION_2: Final = 0x02000000
_REVISION_3: Final = 0x03000000
_REVISION_MASK: Final = 0xFF000000
_OWN: Final = ("trusted.overlay.", "user.overlay.")
_CANNOT: Final = frozenset(
    (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
)
"""What a file system, or a filter of system calls, says to a way of copying that it does not have."""


def marked(fd: int, name: str) -> bytes | None:
    """Return one of overlayfs's own attributes, as root or as an ordinary user has set it."""
    for prefix in _OWN:
        try:
            return os.getxattr(fd, prefix + name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
                raise
    return None


def not_hidden(layers: Path, names: Sequence[str]) -> Sequence[str]:
    """Return those of a stack, top first, that none of its layers hides altogether.

    A layer that is opaque itself hides all below it; overlayfs asks that of no layer's root.
    """
    for number, name in enumerate(names, 1):
        with contextlib.suppress(OSError):
            fd = os.open(layers / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if marked(fd, "opaque") == b"y":
                    return names[:number]
            finally:
                os.close(fd)
    return names


def open_source(directory: int, name: str) -> int:
    """Open a regular file for reading.

    Raises:
        CorruptContent: it is something else by now.
    """
    fd = os.open(name, _READ, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise CorruptContent(f"cannot copy {name}: it is no file any more")
    return fd


class Contents:
    """Copies of files, with other ids.

    Args:
        ids: whom the owners become; None: they stay.
        owners: False: none is set, nor are capabilities.
    """

    def __init__(self, ids: IdMap | None, *, owners: bool) -> None:
        self._ids = ids
        self._owners = owners
        self._clones = self._ranges = True

    # ---- kinds

    def copy_file(self, source: int, name: str, target: int) -> int:
        """Copy a regular file from one directory to another; return its size."""
        original = open_source(source, name)
        try:
            status = os.fstat(original)
            made = os.open(name, _NEW, 0o600, dir_fd=target)
            try:
                self._copy_data(original, made, status.st_size)
                self._dress(original, made, status)
            finally:
                os.close(made)
        finally:
            os.close(original)
        return status.st_size

    def dress_directory(self, original: int, made: int) -> None:
        """Give a directory, after everything in it, what the original has."""
        self._dress(original, made, os.fstat(original))

    def dress_name(self, status: os.stat_result, name: str, target: int) -> None:
        """Give what is neither file nor directory, and was made just now, what the original has."""
        uid, gid, mode = self._shifted(status)
        if self._owners:
            os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, mode, dir_fd=target)
        os.utime(name, ns=_times(status), dir_fd=target, follow_symlinks=False)

    # ---- metadata

    def _dress(self, original: int, made: int, status: os.stat_result) -> None:
        uid, gid, mode = self._shifted(status)
        if self._owners:
            os.fchown(made, uid, gid)
        self._copy_attributes(original, made)  # chown(2) takes capabilities away
        os.fchmod(made, mode)
        os.utime(made, ns=_times(status))

    def _shifted(self, status: os.stat_result) -> tuple[int, int, int]:
        """Return owner, group and mode; set-id bits would mean somebody else where one is lost."""
        uid, gid, mode = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        if self._ids is None:
            return uid, gid, mode
        new_uid, new_gid = self._ids.uid_outside(uid), self._ids.gid_outside(gid)
        if new_uid is None:
            mode &= ~stat.S_ISUID
        if new_gid is None:
            mode &= ~stat.S_ISGID
        return (
            NOBODY if new_uid is None else new_uid,
            NOBODY if new_gid is None else new_gid,
            mode,
        )

    def _copy_attributes(self, original: int, made: int) -> None:
        try:
            names = os.listxattr(original)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return
        for name in names:
            if name == _CAPABILITY:
                if self._owners:
                    self._copy_capabilities(original, made)
            elif name.startswith("user.") and not name.startswith(_OWN):
                value = os.getxattr(original, name)
                try:
                    os.setxattr(made, name, value)
                except OSError as error:
                    if error.errno != errno.EOPNOTSUPP:  # an old tmpfs
                        raise

    def _copy_capabilities(self, original: int, made: int) -> None:
        value = os.getxattr(original, _CAPABILITY)
        if self._ids is not None:
            root = self._ids.uid_outside(0)
            (magic,) = struct.unpack_from("<I", value)
            # Those of another namespace's root mean nothing in this one.
            if root is None or magic & _REVISION_MASK != _REVISION_2:
                return
            head = struct.pack("<I", magic & ~_REVISION_MASK | _REVISION_3)
            value = head + value[4:] + struct.pack("<I", root)
        os.setxattr(made, _CAPABILITY, value)

    # ---- data

    def _copy_data(self, original: int, made: int, size: int) -> None:
        if not size:
            return
        if self._clones:
            try:
                fcntl.ioctl(made, _FICLONE, original)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                self._clones = False
            else:
                return
        os.ftruncate(made, size)
        end = 0
        while end < size:
            start, end = _extent(original, end, size)
            self._copy_range(original, made, start, end)

    def _copy_range(self, original: int, made: int, at: int, end: int) -> None:
        while at < end:
            done = self._copy_some(original, made, at, min(_RANGE, end - at))
            if not done:  # it became shorter
                return
            at += done

    def _copy_some(self, original: int, made: int, at: int, count: int) -> int:
        if self._ranges:
            try:
                return os.copy_file_range(original, made, count, at, at)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                self._ranges = False
        return os.pwrite(made, os.pread(original, min(count, _CHUNK), at), at)


def _extent(fd: int, at: int, size: int) -> tuple[int, int]:
    """Return where the next data of a file begins and ends, after which there is a hole."""
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
        return min(start, size), min(os.lseek(fd, start, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno == errno.EINVAL:
            return at, size
        raise


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_mtime_ns
