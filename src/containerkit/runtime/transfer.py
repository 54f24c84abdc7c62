"""From one side to the other: which name a copy gets, as ``docker cp`` decides it.

Owns that decision alone (docker container cp, "SRC_PATH" and "DEST_PATH"); the same for both
directions.  Neighbours: `beneath` opens, `copies` copies.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from containerkit.runtime import hands
from containerkit.runtime.beneath import DIRECTORY, LEAF, Side, closing, leaf, make_directory
from containerkit.runtime.copies import Copier
from containerkit.runtime.paths import cut

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def transfer(source: Side, path: str, target: Side, to: str, copier: Copier) -> None:
    """Copy what *path* is on one side to *to* on the other.

    A container's link is not copied under a name that the caller gave or will give again: the next
    copy to that name would go through it, to where the container wants.  What it leads to is copied.

    Raises:
        OSError: one of them can not be used so.
        FileTooLarge: it is more than the copier may copy.
    """
    flags = LEAF if copier.trusted and not path.endswith("/") else os.O_PATH
    with closing(source.open(path, flags)) as found:
        is_directory = stat.S_ISDIR(os.fstat(found).st_mode)
        name = _own_name(path)
        try:
            there = target.open(to, DIRECTORY)
        except FileNotFoundError:
            if not is_directory and to.endswith("/"):
                raise
        except NotADirectoryError:
            if is_directory:
                raise
        else:
            with closing(there):
                if not is_directory:
                    copier.file(found, there, name or os.path.basename(path.rstrip("/")))
                elif name is None:
                    _into(copier, found, there)
                else:
                    with _named(there, name) as (directory, made):
                        copier.tree(found, directory, made=made)
            return
        _anew(target, to, found, copier, is_directory=is_directory)


def _anew(target: Side, to: str, found: int, copier: Copier, *, is_directory: bool) -> None:
    """Copy to a name that is no directory."""
    if is_directory:
        place = cut(to)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with (
            closing(target.open(place.parent, DIRECTORY)) as parent,
            _named(parent, place.name) as (directory, made),
        ):
            copier.tree(found, directory, made=made)
        return
    parent, name = leaf(target, to, "write")
    with closing(parent):
        copier.file(found, parent, name)


def _own_name(path: str) -> str | None:
    """Return the name a directory keeps in another; None: only what is in it is meant."""
    place = cut(path)
    return None if place is None else place.name


def _into(copier: Copier, found: int, there: int) -> None:
    with closing(hands.open(".", _OPEN, dir_fd=there)) as top:
        copier.tree(found, top, made=False)


@contextmanager
def _named(parent: int, name: str) -> Iterator[tuple[int, bool]]:
    """Give the directory *name* in another, open, and whether it was made now."""
    try:
        make_directory(parent, name, 0o700)
        made = True
    except FileExistsError:
        made = False
    with closing(hands.open(name, _OPEN, dir_fd=parent)) as directory:
        yield directory, made
