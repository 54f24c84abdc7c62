"""Find and remove what a crash left, and nothing that lives.

Owns the walk over ``owners/`` and ``containers/``.  A held lock is a living launcher or a
supervised container; a free one is debris, whatever its age; none at all may be a removal under
way and gets a minute.  A launcher's processes are gone with
it (its pid namespace), so only names are left to remove: control groups and directories.

Neighbours: `launcher` writes the owner records before it makes anything; `Engine.open` runs this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from containerkit.runtime import cgroups
from containerkit.state.atomic import remove_tree
from containerkit.state.lock import FileLock

PENDING: Final = "."
"""Before a launcher has taken its lock, its record's name begins with this."""

_PENDING_SECONDS: Final = 60.0


class Recovered(NamedTuple):
    """What was removed.

    Attributes:
        launchers: ids of dead launchers whose groups and spares were removed.
        containers: ids of containers that nobody supervised.
    """

    launchers: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


def recover(root: Path) -> Recovered:
    """Remove the debris of dead processes in one root.

    Atomicity: may run in any number of processes at once.
    """
    launchers = []
    for entry in _entries(root / "owners"):
        if _is_dead(entry):
            launcher_id = entry.name.removeprefix(PENDING)
            _remove_groups(Path(entry.path))
            _remove_spares(root, launcher_id)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
            launchers.append(launcher_id)
    containers = [
        entry.name
        for entry in _entries(root / "containers")
        if not entry.name.startswith(PENDING) and _remove_container(Path(entry.path))
    ]
    return Recovered(tuple(launchers), tuple(containers))


def write_record(root: Path, launcher_id: str, groups: tuple[Path, ...]) -> Path:
    """Write down which groups a launcher is about to have, before they are made."""
    path = root / "owners" / (PENDING + launcher_id)
    path.write_text("".join(f"{group}\n" for group in groups), encoding="utf-8")
    return path


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return list(entries)


def _is_dead(entry: os.DirEntry[str]) -> bool:
    """Whether nobody holds the lock of an owner's record; one not yet claimed gets a minute."""
    try:
        if (
            entry.name.startswith(PENDING)
            and time.time() - entry.stat().st_mtime < _PENDING_SECONDS
        ):
            return False
        lock = FileLock(Path(entry.path))
        if not lock.try_acquire():
            return False
        lock.release()
    except FileNotFoundError:
        return False
    return True


def _remove_groups(record: Path) -> None:
    try:
        paths = record.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for path in paths:
        if Path(path).name.startswith(cgroups.PREFIX):
            cgroups.remove_tree(Path(path))


def _remove_spares(root: Path, launcher_id: str) -> None:
    """Directories that were locked and not yet given to a container."""
    for entry in _entries(root / "containers"):
        if entry.name.startswith(f"{PENDING}{launcher_id}-"):
            remove_tree(Path(entry.path))


def _remove_container(directory: Path) -> bool:
    """Remove a container that nobody supervises; its lock is taken meanwhile.

    Its lock is opened, never made: one that is missing means that the launcher is just removing
    the directory, or died while it did, and only time tells which.
    """
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        return False
    except FileNotFoundError:
        if not _is_old(directory):
            return False
        remove_tree(directory)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(directory)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _is_old(path: Path) -> bool:
    """Whether nothing was made or removed in a directory for a minute; one that is gone is not."""
    try:
        return time.time() - path.stat().st_mtime > _PENDING_SECONDS
    except FileNotFoundError:
        return False
