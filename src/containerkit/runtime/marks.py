"""Marks: what a container's directory hangs on, as one symbolic link in it.

``containers/ID/kept`` points to "owner:" and the id of a launcher: with that launcher the container
goes; or to "detached", followed by ":" and the host's boot where nobody waited for its row to be on
the disk: it may have lost that when it is met in another boot.  A directory without a mark is no
container (any more, or yet): when nobody holds its lock it is debris.  So opening a root needs no
catalog to tell the two apart, and removing a container begins by an unlink, which needs no space on the disk.

Owns the link.  Must not: remove anything else.
Neighbours: `birth` and `begin` write it, `recover` and every look at a container read it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import refusals
from containerkit.runtime import leases, packets
from containerkit.state.root import boot_id

if TYPE_CHECKING:
    from containerkit.state.record import State

NAME: Final = "kept"
DETACHED: Final = "detached"
_OWNER: Final = "owner:"
_OWNER_DIED: Final = packets.CAUSES.index("owner-died")


def owner_mark(launcher_id: str) -> str:
    """Return the mark of a container that ends with a launcher."""
    return _OWNER + launcher_id


def detached_mark() -> str:
    """Return the mark of a detached container whose row a power cut may still undo."""
    return f"{DETACHED}:{boot_id()}"


def may_lack_row(mark: str) -> bool:
    """Whether a power cut came after this mark, and may have undone the row that belongs to it."""
    return mark.startswith(f"{DETACHED}:") and mark != detached_mark()


def owner_of(mark: str) -> str | None:
    """Return the launcher's id in a mark, None for a detached one."""
    return mark[len(_OWNER) :] if mark.startswith(_OWNER) else None


@refusals("read the mark of a container")
def read(directory: str | os.PathLike[str]) -> str | None:
    """Return the mark of a directory; None when it has none, or is not there."""
    try:
        return os.readlink(f"{os.fspath(directory)}/{NAME}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # no link: not ours
            raise
        return None


def is_orphaned(
    directory: str | os.PathLike[str],
    mark: str,
    state: State | None,
    has_owner: Callable[[str], bool],
) -> bool:
    """Whether what a container hangs on has died, so that it goes at the next recovery.

    A shared one stays as long as somebody uses it, whatever became of its launcher.

    Args:
        directory: of the container.
        mark: of it.
        state: its record.
        has_owner: says whether a launcher lives, and who it belongs to.
    """
    owner = owner_of(mark)
    if owner is not None and state is not None and state.cause == _OWNER_DIED:
        return not state.is_live  # its launcher is about to end as well
    return owner is not None and not has_owner(owner) and not leases.is_used(Path(directory))


@refusals("mark a container")
def write(directory: Path, mark: str) -> None:
    """Give a directory its mark, or another one, in one step.

    Raises:
        FileNotFoundError: the directory is gone.
    """
    aside = directory / f".kept-{secrets.token_hex(8)}"
    os.symlink(mark, aside)
    try:
        os.rename(aside, directory / NAME)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


@refusals("take a container's mark away")
def drop(directory: Path) -> bool:
    """Take the mark away; return whether there was one."""
    try:
        os.unlink(directory / NAME)
    except FileNotFoundError:
        return False
    return True
