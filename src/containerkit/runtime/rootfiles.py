"""The account files of a root, /etc/passwd and /etc/group: as an image has them, and as they are.

Owns looking through a stack of layer trees as overlay would show them, and reading what lies in a
running container.  Every component is opened
without following links, and only a regular file is opened for reading: the image chose them, and
merely opening one of this host's devices may do something (a watchdog reboots it).
Neighbours: `launch.identity` parses what is read here.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import HINTS, refusals

if TYPE_CHECKING:
    from containerkit.model.rootfs import Rootfs

LIMIT: Final = 1 << 20
_OPAQUE: Final = ("trusted.overlay.opaque", "user.overlay.opaque")
_CACHED: Final = 256


class Accounts:
    """The passwd and group files of a root; None where it has none."""

    __slots__ = ("group", "passwd")

    def __init__(self, passwd: bytes | None, group: bytes | None) -> None:
        self.passwd = passwd
        self.group = group


def accounts(root: Path, rootfs: Rootfs) -> Accounts:
    """Return passwd and group of a root file system; remembered, since layers never change."""
    lowers: tuple[str, ...] = getattr(rootfs.mounts[0], "lowers", ())
    return _accounts(str(root), lowers)


@lru_cache(maxsize=_CACHED)
def _accounts(root: str, lowers: tuple[str, ...]) -> Accounts:
    trees = [os.path.join(root, lower) for lower in lowers]
    return Accounts(read_etc(trees, "passwd"), read_etc(trees, "group"))


@refusals("read an account file of the image")
def read_etc(trees: list[str], name: str) -> bytes | None:
    """Return ``/etc/NAME`` of a stack of trees, topmost first.

    None: no tree has it, a whiteout hides it, or it is not a regular file.  Longer than 1 MiB, the
    rest is left out and the parser refuses the last line.
    """
    for tree in trees:
        top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = _look(top, name)
        finally:
            os.close(top)
        if found is not _BELOW:
            return found
    return None


_BELOW: Final = b"look further down"
_HIDDEN: Final = frozenset((errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES))
"""What opening says of a whiteout, a link, a file or a socket: whatever lies below is hidden."""


def _look(tree: int, name: str) -> bytes | None:
    """What one tree says: content, None for "there is none", _BELOW for nothing either way."""
    try:
        etc = os.open(
            "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree
        )
    except FileNotFoundError:
        return _BELOW
    except OSError as error:
        if error.errno not in _HIDDEN:
            raise
        return None
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=etc)
    except FileNotFoundError:
        return None if _is_opaque(etc) else _BELOW
    except OSError as error:
        if error.errno not in _HIDDEN:
            raise
        return None
    else:
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                return None
            with open(f"/proc/self/fd/{found}", "rb") as file:
                return file.read(LIMIT)
        except PermissionError:  # as for a name that can not be opened
            return None
        finally:
            os.close(found)
    finally:
        os.close(etc)


def _is_opaque(directory: int) -> bool:
    for attribute in _OPAQUE:
        try:
            if os.getxattr(directory, attribute) == b"y":
                return True
        except OSError:
            continue
    return False


# ---- of a container that runs


@refusals("read an account file of the container")
def read_account(root: int, path: str) -> bytes | None:
    """Return a file of a running root; None when it has none, or something else lies there.

    The container chose it: it is looked at before it is opened, and read by its size, so that no
    device, FIFO or file of the kernel's is ever opened with our rights (/proc/kmsg forgets what was
    read).

    Args:
        root: a descriptor of the root.
        path: absolute, in there.
    """
    from containerkit import _native

    try:
        found = _native.path_open(root, path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in HINTS:  # of the host, not of what lies there
            raise
        return None
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            return None
        if not status.st_size:
            return b""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(f"/proc/self/fd/{found}", flags)
        with open(fd, "rb") as file:
            return file.read(min(status.st_size, LIMIT + 1))
    except (BlockingIOError, PermissionError):  # somebody holds a lease on it
        return None
    finally:
        os.close(found)
