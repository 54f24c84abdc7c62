"""Trees, walked by descriptor: name by name, following no link.

Owns the order of a walk, its depth, and removal.  Must not copy (`copies`, `archive` do).

A walk goes down by descriptors that it holds, never up by ``..``: whoever renames a directory
meanwhile moves what is walked, not the walk.  A tree that changes shows each name at most once, as
it was when it was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Generator
from typing import Final, Literal, NamedTuple

from containerkit._native import file_system_of
from containerkit.runtime import hands
from containerkit.runtime.beneath import LEAF, closing
from containerkit.runtime.fileinfo import KERNEL

DEPTH: Final = 256
"""Directories below each other; a walk holds a descriptor of each, and a copy two."""

NAMES: Final = 1_000_000
"""Names in one directory: they are held in memory, and cost those who make them next to nothing."""

LONGEST: Final = 4 * 4096
"""Characters of a path from the top; one of `DEPTH` long names would be four times as long."""

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Step(NamedTuple):
    """One step of a walk.

    Attributes:
        kind: "enter" a directory, "leave" it, or what is no directory.
        path: names from the top, joined by "/"; "" for the top itself.
        name: the last of them.
        parent: a descriptor of the directory that it is in; -1 for the top.
        fd: a descriptor, good until the next step: of a directory, for reading; of anything else
            an O_PATH one.
        status: as it was when it was opened.
    """

    kind: Literal["enter", "leave", "other"]
    path: str
    name: str
    parent: int
    fd: int
    status: os.stat_result


class _Level(NamedTuple):
    step: Step
    names: list[str]


def walk(top: int, *, skip: Callable[[str], bool] = lambda _: False) -> Generator[Step, None, None]:
    """Walk a tree: names in order, each directory before what is in it and left after that.

    What is mounted in it belongs to it, except the kernel's own file systems: a walk of "/" shows
    /proc empty, one of "/proc/sys" shows that.  Closed, it lets go of what it has open; an error of whoever walks would keep that alive.

    Args:
        top: an O_PATH descriptor of the top; it stays the caller's.
        skip: says of a path which directory is not to be looked into; it is entered and left.

    Raises:
        OSError: a directory can not be read; ELOOP: it is deeper than `DEPTH`; ENAMETOOLONG: a path
            is longer than `LONGEST`; EFBIG: as `names_of`.
    """
    status = os.fstat(top)
    if not stat.S_ISDIR(status.st_mode):
        yield Step("other", "", "", -1, top, status)
        return
    levels: list[_Level] = []
    try:
        levels.append(_enter(top, "", "", -1, status, hidden=skip("")))
        yield levels[0].step
        while levels:
            here, names = levels[-1]
            if not names:
                yield here._replace(kind="leave")
                os.close(levels.pop().step.fd)
                continue
            name = names.pop()
            try:
                found = hands.open(name, LEAF, dir_fd=here.fd)
            except FileNotFoundError:  # gone since it was listed
                continue
            path = f"{here.path}/{name}" if here.path else name
            with closing(found):
                if len(path) > LONGEST:
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
                status = os.fstat(found)
                if not stat.S_ISDIR(status.st_mode):
                    yield Step("other", path, name, here.fd, found, status)
                    continue
                if len(levels) > DEPTH:
                    raise OSError(errno.ELOOP, f"it is deeper than {DEPTH} directories")
                mounted = status.st_dev != here.status.st_dev
                hidden = skip(path) or (mounted and file_system_of(found) in KERNEL)
                levels.append(_enter(found, path, name, here.fd, status, hidden=hidden))
            yield levels[-1].step
    finally:
        for level in levels:
            os.close(level.step.fd)


def _enter(
    found: int,
    path: str,
    name: str,
    parent: int,
    status: os.stat_result,
    *,
    hidden: bool,
) -> _Level:
    fd = hands.open(".", _OPEN, dir_fd=found)
    try:
        names = [] if hidden else names_of(fd)[::-1]
    except BaseException:
        os.close(fd)
        raise
    return _Level(Step("enter", path, name, parent, fd, status), names)


def names_of(directory: int) -> list[str]:
    """Return the names in an open directory, in order, each once however it changes meanwhile.

    Raises:
        OSError: EFBIG: there are more than `NAMES`.
    """
    with os.scandir(directory) as entries:
        found = {entry.name for entry in itertools.islice(entries, NAMES + 1)}
    if len(found) > NAMES:
        raise OSError(errno.EFBIG, f"a directory has more than {NAMES} names")
    return sorted(found)


def mount_of(fd: int) -> int:
    """Return the number of the mount that a descriptor lies on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
        return int(info.read().partition(b"mnt_id:")[2].split()[0])


def remove(parent: int, name: str, *, recursive: bool) -> None:
    """Remove what *name* is in an open directory; a link is removed, not what it leads to.

    Raises:
        OSError: ENOTEMPTY: not so, and not *recursive*; EBUSY: something is mounted in it, and
            nothing of that is touched.
    """
    try:
        hands.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        if not recursive:
            hands.rmdir(name, dir_fd=parent)
            return
    with closing(hands.open(name, LEAF | os.O_DIRECTORY, dir_fd=parent)) as top:
        # What is mounted in it may be the host's: rather nothing is removed of it.
        mount = mount_of(parent)
        with contextlib.closing(walk(top)) as steps:
            for step in steps:
                if step.kind == "other":
                    hands.unlink(step.name, dir_fd=step.parent)
                elif step.kind == "enter" and mount_of(step.fd) != mount:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), step.path)
                elif step.kind == "leave" and step.parent >= 0:
                    hands.rmdir(step.name, dir_fd=step.parent)
    hands.rmdir(name, dir_fd=parent)
