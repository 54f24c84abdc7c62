"""What is known of one file, as a value.

Owns `FileInfo`.  Must not touch a file system.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    import os

    from containerkit.model.idmap import IdMap

FileType = Literal["file", "directory", "symlink", "fifo", "socket", "char-device", "block-device"]

_TYPES: Final[dict[int, FileType]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char-device",
    stat.S_IFBLK: "block-device",
}

KERNEL: Final = frozenset(
    (
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x62656570,  # configfs
        0x65735543,  # fusectl
        0x42494E4D,  # binfmt_misc
    )
)
"""File systems without files of their own (linux/magic.h): what they show is made as it is read."""


def _time(given: float | datetime) -> datetime:
    """Return seconds since 1970 as a time."""
    if isinstance(given, datetime):
        return given
    try:
        return datetime.fromtimestamp(given, UTC)
    except (ValueError, OverflowError, OSError):
        beyond = (9999, 12, 31) if given > 0 else (1, 1, 1)
        return datetime(*beyond, tzinfo=UTC)


@attrs.frozen
class FileInfo:
    """One file of a container.

    Args:
        name: its last name; "/" for the root.
        type: "file", "directory", "symlink", "fifo", "socket", "char-device" or "block-device".
        size: bytes of a file; of anything else what the file system says.
        mode: permission bits, with set-user-id, set-group-id and sticky.
        uid, gid: owner, as numbers.
        mtime: last change of the content, in UTC; the first or last time there is, for what lies beyond.
        target: where a symbolic link leads, as it says; None for all else.
    """

    name: str
    type: FileType
    size: int
    mode: int = attrs.field(repr=oct)
    uid: int
    gid: int
    mtime: datetime = attrs.field(converter=_time)
    target: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "file"

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.type == "directory"

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.type == "symlink"

    @property
    def modified(self) -> datetime:
        """The same as ``mtime``."""
        return self.mtime


def type_of(mode: int) -> FileType:
    """Return the type in the ``st_mode`` of a file."""
    return _TYPES[stat.S_IFMT(mode)]


def info_of(
    name: str,
    status: os.stat_result,
    target: str | None = None,
    ids: IdMap | None = None,
) -> FileInfo:
    """Return what *status* says, with owners as a container with *ids* counts them."""
    owner = status.st_uid, status.st_gid
    uid, gid = owner if ids is None else ids.inside(*owner)
    return FileInfo(
        name=name,
        type=type_of(status.st_mode),
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        uid=uid,
        gid=gid,
        mtime=status.st_mtime,
        target=target,
    )
