"""The account files of a root, /etc/passwd and /etc/group: as an image has them, and as they are.

Owns looking through a stack of layer trees as overlay would show them, and reading what lies in a
running container.  Every component is opened without following links, the image's links are
resolved by us within the trees, and only a regular file is opened for reading: the image chose
them, and merely opening one of this host's devices may do something (a watchdog reboots it).
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
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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

    The image's links are resolved within the trees: an absolute one from their top, and ".." does
    not leave it.

    None: no tree has it, a whiteout hides it, it is not a regular file, or more than `_LOOKS_MAX`
    names lead there.  Longer than 1 MiB, the rest is left out and the parser refuses the last line.
    """
    above: list[str] = []
    ahead = [name, "etc"]  # the next one last
    for _ in range(_LOOKS_MAX):
        while ahead and ahead[-1] in {"", ".", ".."}:
            if ahead.pop() == "..":
                del above[-1:]
        if not ahead:
            return None
        above.append(ahead.pop())
        found = _open(trees, above)
        if found is None:
            return None
        try:
            mode = os.fstat(found).st_mode
            if stat.S_ISLNK(mode):
                text = os.readlink("", dir_fd=found)
                above = [] if text.startswith("/") else above[:-1]
                ahead += reversed(text.split("/"))
            elif not stat.S_ISDIR(mode):
                return None if ahead or not stat.S_ISREG(mode) else _read(found)
        finally:
            os.close(found)
    return None


_LOOKS_MAX: Final = 40
_HIDDEN: Final = frozenset(
    (errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.ENAMETOOLONG)
)
"""What opening says of a whiteout, a link, a file or a socket: whatever lies below is hidden."""


def _open(trees: list[str], parts: list[str]) -> int | None:
    """Return an O_PATH descriptor of what a stack shows at a path without links, None for nothing."""
    for tree in trees:
        at, hides = os.open(tree, _DIRECTORY), False
        try:
            for part in parts[:-1]:
                at, above = os.open(part, _DIRECTORY, dir_fd=at), at
                os.close(above)
                hides = hides or _is_opaque(at)
            return os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        except FileNotFoundError:
            if hides:
                return None
        except OSError as error:
            if error.errno not in _HIDDEN:
                raise
            return None
        finally:
            os.close(at)
    return None


def _read(found: int) -> bytes | None:
    try:
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return file.read(LIMIT)
    except PermissionError:  # as for a name that can not be opened
        return None


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
