"""Whole files, read and replaced by descriptor; what `files` does with one of them.

Owns: how much is read of a file that changes meanwhile, and what a replaced one keeps.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from containerkit.errors import FileTooLarge
from containerkit.runtime import hands
from containerkit.runtime.beneath import (
    LEAF,
    aside,
    closing,
    create,
    open_leaf,
    put_in_place,
    refuse_special,
    write_all,
)
from containerkit.runtime.copies import CHUNK, UNSIZED
from containerkit.runtime.fileinfo import FileInfo, info_of

if TYPE_CHECKING:
    from containerkit.model.idmap import IdMap

ROOT_OWNER: Final = (0, 0)
WHOLE: Final = 1 << 30
"""Bytes of a file that is read as one, where nobody says how many: a hole of terabytes costs nothing."""


def size_limit(value: int | str | None) -> int | None:
    """Return a limit in bytes that was given as them or as a text such as "1MiB"."""
    if value is None or isinstance(value, int):
        return value
    from containerkit.model.limits import parse_size

    return parse_size(value, what="max_size")


def stat_at(directory: int, name: str, ids: IdMap | None = None) -> FileInfo:
    """Return what is known of a name in an open directory, of a link itself."""
    with closing(hands.open(name, LEAF, dir_fd=directory)) as found:
        return info_at(found, name, ids)


def info_at(found: int, name: str, ids: IdMap | None) -> FileInfo:
    """Return what is known of what an O_PATH descriptor stands for."""
    status = os.fstat(found)
    link = os.readlink("", dir_fd=found) if stat.S_ISLNK(status.st_mode) else None
    return info_of(name, status, link, ids)


def read_whole(fd: int, path: str, limit: int | None) -> bytes:
    """Read a file as long as it is now; one that does not say, to its end."""
    size = os.fstat(fd).st_size
    if limit is not None and size > limit:
        raise _too_large(path, limit)
    most = size or UNSIZED
    if limit is not None:
        most = min(most, limit + 1)
    content = bytearray()
    while len(content) < most and (chunk := os.read(fd, min(CHUNK, most - len(content)))):
        content += chunk
    if limit is not None and len(content) > limit:
        raise _too_large(path, limit)
    return bytes(content)


def _too_large(path: str, limit: int) -> FileTooLarge:
    return FileTooLarge(
        f"cannot read {path}: it has more than {limit} bytes",
        path=path,
        hint="max_size says how many",
    )


def replace_whole(
    parent: int,
    name: str,
    data: bytes | bytearray | memoryview,
    mode: int | None,
    owner: tuple[int, int] | None,
    maker: tuple[int, int] | None = None,
) -> None:
    """Write a file aside and put it in place; arguments as `Files.write_bytes`.

    Owners are as the host counts them; *maker* has a new one that *owner* is not given for.
    """
    try:
        before = hands.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        bits, ids = 0o644, maker or ROOT_OWNER
    else:
        refuse_special(before)
        bits, ids = stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
    with aside(parent) as made:
        with closing(create(parent, made)) as fd:
            write_all(fd, data)
            hands.fchown(fd, *(owner or ids))
            hands.chmod(fd, bits if mode is None else mode)
        try:
            put_in_place(parent, made, name)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            with closing(open_leaf(parent, name, os.O_WRONLY | os.O_TRUNC)) as fd:
                write_all(fd, data)
