"""Single steps on a container's files, also those that an ordinary user alone is refused.

Owns: the steps, as those of `os` on open directories and single names.  Each is tried first, so that
nothing costs more where nothing is refused; what is refused may be asked of a helper.  Must not: decide
what is done, or look up a path but beneath a root.
Neighbours: `beneath`, `copies`, `trees`, `extract` work by these; `helper` does what is refused.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, Final

from containerkit._native import path_open
from containerkit.runtime.helper import asked

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open(  # noqa: A001 - as os.open
    name: str, flags: int, mode: int = 0o777, *, dir_fd: int
) -> int:
    """Open a name in a directory; one that is made belongs to this process."""
    try:
        return os.open(name, flags, mode, dir_fd=dir_fd)
    except PermissionError as error:
        return _descriptor(error, "open", [dir_fd], name, flags, mode)


def open_beneath(root: int, path: str, flags: int, *, no_symlinks: bool = False) -> int:
    """Do `containerkit._native.path_open`."""
    try:
        return path_open(root, path, flags, no_symlinks=no_symlinks)
    except PermissionError as error:
        return _descriptor(error, "open_beneath", [root], path, flags, no_symlinks)


def reopen(fd: int, flags: int) -> int:
    """Open in earnest the file or directory that an O_PATH descriptor stands for."""
    try:
        return os.open(_path(fd), flags)
    except PermissionError as error:
        return _descriptor(error, "reopen", [fd], flags)


def lstat(name: str, *, dir_fd: int) -> os.stat_result:
    """Return what a name in a directory is."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except PermissionError as error:
        found = _descriptor(error, "open", [dir_fd], name, _LOOK, 0)
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def readlink(name: str, *, dir_fd: int) -> str:
    """Return what a link in a directory leads to."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except PermissionError as error:
        found = _descriptor(error, "open", [dir_fd], name, _LOOK, 0)
    try:
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
    """Make a directory in another."""
    _step(lambda: os.mkdir(name, mode, dir_fd=dir_fd), "mkdir", [dir_fd], name, mode)


def mkfifo(name: str, mode: int, *, dir_fd: int) -> None:
    """Make a FIFO in a directory."""
    _step(lambda: os.mkfifo(name, mode, dir_fd=dir_fd), "mkfifo", [dir_fd], name, mode)


def symlink(target: str, name: str, *, dir_fd: int) -> None:
    """Make a link in a directory."""
    _step(lambda: os.symlink(target, name, dir_fd=dir_fd), "symlink", [dir_fd], target, name)


def link(fd: int, name: str, *, dir_fd: int) -> None:
    """Give the file of a descriptor one more name."""

    def plain() -> None:
        # With a descriptor of its directory it is linkat(2) that is called, which can follow links.
        os.link(_path(fd), name, dst_dir_fd=dir_fd, follow_symlinks=True)

    _step(plain, "link", [fd, dir_fd], name)


def unlink(name: str, *, dir_fd: int) -> None:
    """Remove a name that is no directory's."""
    _step(lambda: os.unlink(name, dir_fd=dir_fd), "unlink", [dir_fd], name)


def rmdir(name: str, *, dir_fd: int) -> None:
    """Remove an empty directory."""
    _step(lambda: os.rmdir(name, dir_fd=dir_fd), "rmdir", [dir_fd], name)


def rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Give what is in one directory a name in the same, or another."""

    def plain() -> None:
        os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    _step(plain, "rename", [src_dir_fd, dst_dir_fd], old, new)


def fchown(fd: int, uid: int, gid: int) -> None:
    """Give a file to others, as this process counts them."""
    _step(lambda: os.fchown(fd, uid, gid), "chown", [fd], uid, gid)


def chown(name: str, uid: int, gid: int, *, dir_fd: int) -> None:
    """Give what a name is to others; a link itself."""

    def plain() -> None:
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)

    _step(plain, "chown_name", [dir_fd], uid, gid, name)


def chmod(fd: int, mode: int) -> None:
    """Set the mode of what a descriptor stands for, O_PATH ones too."""
    _step(lambda: os.chmod(_path(fd), mode), "chmod", [fd], mode)


def utime(fd: int, times: tuple[int, int]) -> None:
    """Set the times, in ns, of an open file."""
    _step(lambda: os.utime(fd, ns=times), "utime", [fd], *times)


def utime_name(name: str, times: tuple[int, int], *, dir_fd: int) -> None:
    """Set the times, in ns, of what a name is; of a link itself."""

    def plain() -> None:
        os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)

    _step(plain, "utime_name", [dir_fd], name, *times)


def getxattr(fd: int, name: str) -> bytes:
    """Return an attribute of what a descriptor stands for."""
    try:
        return os.getxattr(_path(fd), name)
    except PermissionError as error:
        return base64.b64decode(asked(error, "getxattr", [fd], name)[0])


def setxattr(fd: int, name: str, value: bytes) -> None:
    """Set an attribute of an open file."""
    text = base64.b64encode(value).decode("ascii")
    _step(lambda: os.setxattr(fd, name, value), "setxattr", [fd], name, text)


def _step(plain: Callable[[], None], step: str, fds: list[int], *arguments: Any) -> None:
    try:
        plain()
    except PermissionError as error:
        asked(error, step, fds, *arguments)


def _descriptor(error: PermissionError, step: str, fds: list[int], *arguments: Any) -> int:
    found = asked(error, step, fds, *arguments)[1]
    if found is None:
        raise error
    return found


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"
