"""Whether what a container has written is the same, to a user, as what its image has there.

Owns: what counts for that: overlayfs copies a file up as soon as it is opened for writing.
Must not: look anything up; all is descriptors.  Neighbour: `compare` walks.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.runtime.beneath import closing, reopen
from containerkit.runtime.copies import CHUNK

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap

PREFIXES: Final = ("trusted.overlay.", "user.overlay.")
"""What overlayfs's own attributes begin with."""


class Owners(NamedTuple):
    """By which ids owners are counted; None: as they are.

    Attributes:
        upper: what the container has written.
        lowers: its image's layers.
    """

    upper: IdMap | None = None
    lowers: IdMap | None = None


AS_THEY_ARE: Final = Owners()


def same(
    fd: int, status: os.stat_result, other: int, lower: os.stat_result, owners: Owners
) -> bool:
    """Whether two files, neither a directory, are the same to a user."""
    if not _told_alike(status, lower, owners) or status.st_rdev != lower.st_rdev:
        return False
    if status.st_mtime_ns != lower.st_mtime_ns:
        return False
    if stat.S_ISLNK(status.st_mode):
        return os.readlink("", dir_fd=fd) == os.readlink("", dir_fd=other)
    if not stat.S_ISREG(status.st_mode):
        return True
    return (
        status.st_size == lower.st_size
        and _attributes(fd) == _attributes(other)
        and _same_content(fd, other)
    )


def same_directory(
    directory: int,
    status: os.stat_result,
    other: int,
    lower: os.stat_result,
    owners: Owners,
    *,
    times: bool,
) -> bool:
    """Whether two directories themselves are; *times*: also when something was made in them."""
    if not _told_alike(status, lower, owners):
        return False
    if times and status.st_mtime_ns != lower.st_mtime_ns:
        return False
    return _attributes(directory) == _attributes(other)


def _told_alike(status: os.stat_result, lower: os.stat_result, owners: Owners) -> bool:
    """Whether mode and owners are the same to a user."""
    return _told(status, owners.upper) == _told(lower, owners.lowers)


def _told(status: os.stat_result, ids: IdMap | None) -> tuple[int, int, int]:
    owner = status.st_uid, status.st_gid
    return (status.st_mode, *(owner if ids is None else ids.inside(*owner)))


def _attributes(fd: int) -> dict[str, bytes]:
    where = f"/proc/self/fd/{fd}"
    try:
        names = [name for name in os.listxattr(where) if not name.startswith(PREFIXES)]
        return {name: os.getxattr(where, name) for name in names}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise


def _same_content(fd: int, other: int) -> bool:
    with closing(reopen(fd, os.O_RDONLY)) as mine, closing(reopen(other, os.O_RDONLY)) as theirs:
        while True:
            chunk = os.read(mine, CHUNK)
            if chunk != os.read(theirs, CHUNK):
                return False
            if not chunk:
                return True
