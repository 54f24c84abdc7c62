"""Find and remove what a crash left, and nothing that lives.

Owns the walk over ``owners/`` and ``containers/``.  A held lock is a living launcher or a
supervised container; a free one is debris, whatever its age.  A launcher's processes are gone with
it (its pid namespace), so only names are left to remove: control groups and directories.

Neighbours: `launcher` writes its record before it makes anything; `Engine.open` runs this.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from containerkit.runtime import cgroups
from containerkit.state.atomic import remove_tree
from containerkit.state.lock import FileLock

AHEAD: Final = "."
"""A directory that a launcher made ahead begins with this and the launcher's id."""


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
    for name in os.listdir(root / "owners"):
        record = root / "owners" / name
        with _free(record) as free:
            if free:
                _remove_groups(record)
                _remove_ahead(root, name)
                record.unlink(missing_ok=True)
                launchers.append(name)
    containers = []
    for name in os.listdir(root / "containers"):
        directory = root / "containers" / name
        if name.startswith(AHEAD):
            continue
        with _free(directory / "lock") as free:
            # Without a lock file: somebody began to remove it.
            if free or (free is None and directory.is_dir()):
                remove_tree(directory)
                containers.append(name)
    return Recovered(tuple(launchers), tuple(containers))


def write_record(root: Path, launcher_id: str, groups: tuple[Path, ...]) -> FileLock:
    """Write down which groups a launcher is about to have, before they are made.

    Returns:
        The record's lock, held shared: released when the launcher has taken it too.
    """
    lock = FileLock(root / "owners" / launcher_id, shared=True)
    lock.acquire()
    os.write(lock.fd, "".join(f"{group}\n" for group in groups).encode("utf-8", "surrogateescape"))
    return lock


@contextmanager
def _free(path: Path) -> Iterator[bool | None]:
    """Hold the lock of *path* meanwhile if nobody else does; None: there is no such file.

    Never makes the file: who removes it at the same time wants its directory empty.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Renamed or removed since it was opened: its holder did that, not a crash.
            yield _is_named(fd, path)
    finally:
        os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_groups(record: Path) -> None:
    text = record.read_text(encoding="utf-8", errors="surrogateescape")
    for path in text.splitlines():
        if Path(path).name.startswith(cgroups.PREFIX):
            cgroups.remove_tree(Path(path))


def _remove_ahead(root: Path, launcher_id: str) -> None:
    for name in os.listdir(root / "containers"):
        if name.startswith(f"{AHEAD}{launcher_id}-"):
            remove_tree(root / "containers" / name)
