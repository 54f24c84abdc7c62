"""Find and remove what a crash left, and nothing that lives.

Owns the walk over ``owners/`` and ``containers/``.  A held lock is a living launcher or a
supervised container; what a free one means, the mark of the container's directory says:

    no mark            debris: a `run`, or a container that was being made or removed
    owner, dead        it goes with its launcher
    owner, alive       it waits to be started, or has ended; so too while others share it
    detached           it is kept; if its record says that it runs, it was lost; since an earlier
                       boot, it may have lost its row, and is removed then

A launcher's processes are gone with it (its pid namespace), so only names are left to remove:
control groups, sockets, directories, rows.

Neighbours: `launcher` writes its record before it makes anything; `Engine.open` runs this.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import ContainerKitError, HostError, refusals
from containerkit.runtime import cgroups, home, idclaims, leases, marks
from containerkit.runtime.alive import belonging, lost_its_owner
from containerkit.state import events, pin, record
from containerkit.state.atomic import names_in, open_regular, remove_tree, write_all_at
from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.runtime.records import Records
    from containerkit.state.catalog import Catalog

AHEAD: Final = "."
"""A directory that a launcher made ahead begins with this and the launcher's id."""

_ENDING_SECONDS: Final = 10.0
_PAUSE: Final = 0.002
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})


class Recovered(NamedTuple):
    """What was removed.

    Attributes:
        launchers: ids of dead launchers whose groups and spares were removed.
        containers: ids of containers that nobody supervised.
    """

    launchers: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


@refusals("clear away what was left in the root")
def recover(root: Path) -> Recovered:
    """Remove the debris of dead processes in one root.

    Blocking: while launchers of dead processes are ending what they ran, at most 10 s.

    Atomicity: may run in any number of processes at once.
    """
    launchers, living, ending = [], set(), []
    for name in names_in(root / "owners"):
        with _free(f"{root}/owners/{name}") as (free, fd):
            if free:
                _bury(root, name)
                launchers.append(name)
            elif free is False and lost_its_owner(fd):
                ending.append(name)
            elif free is False:
                living.add(name)
    deadline = time.monotonic() + _ENDING_SECONDS
    for name in ending:
        if _await_end(root, name, deadline):
            launchers.append(name)
        elif (root / "owners" / name).exists():
            living.add(name)
    containers = tuple(_recover_containers(root, living))
    idclaims.sweep(root)
    if pin.are_left(root / "ingest"):
        _drop_pins(root)
    home.forget_boots(root)
    return Recovered(tuple(launchers), containers)


# ---- launchers


@refusals("write the record of a launcher")
def write_record(
    root: Path, launcher_id: str, groups: tuple[Path, ...], *, owned: bool = True
) -> FileLock:
    """Write down which groups a launcher is about to have, before they are made.

    Args:
        root: the engine's root directory.
        launcher_id: names the record.
        groups: their directories.
        owned: it ends with this process, unless it is told to leave.

    Returns:
        The record's lock, held shared: released when the launcher has taken it too.
    """
    lines = [belonging(owned=owned), *map(str, groups)]
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    lock = FileLock(root / "owners" / launcher_id, shared=True)
    lock.acquire()
    try:
        write_all_at(lock.fd, data, 0)
    except BaseException:
        lock.release(unlink=True)
        raise
    return lock


def _await_end(root: Path, name: str, deadline: float) -> bool:
    """Wait for a launcher to end, and bury it; False when it has buried itself, or goes on."""
    while True:
        with _free(f"{root}/owners/{name}") as (free, fd):
            if free:
                _bury(root, name)
                return True
            left = free is False and not lost_its_owner(fd)  # it was let go, and just hears of it
        if free is None or left or time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)


def _bury(root: Path, name: str) -> None:
    """Remove what a dead launcher has left; its record's lock is held."""
    path = root / "owners" / name
    _remove_ahead(root, name)
    home.forget(home.run_directory(root), name)
    if _remove_groups(path):
        path.unlink(missing_ok=True)


def _remove_groups(path: Path) -> bool:
    """Remove a dead launcher's groups; False when something still dies in them.

    The kernel closes a process's files, and so lets go of its lock, before it kills what is left in
    the pid namespace that it was the first process of.  What has another name is not its, whatever
    the record says.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    groups = [Path(line) for line in text.split("\n")]
    groups = [group for group in groups if cgroups.is_group_of(group, path.name)]
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        for group in groups:
            cgroups.remove_tree(group)
        groups = [group for group in groups if group.is_dir()]
        if not groups or time.monotonic() > deadline:
            return not groups
        time.sleep(_PAUSE)


def _remove_ahead(root: Path, launcher_id: str) -> None:
    for name in names_in(root / "containers"):
        if name.startswith(f"{AHEAD}{launcher_id}-"):
            remove_tree(root / "containers" / name)


# ---- containers


def _recover_containers(root: Path, living: set[str]) -> Iterator[str]:
    """Yield the ids of those that are removed."""
    with_rows, unsure = [], {}
    for name in names_in(root / "containers"):
        if name.startswith(AHEAD):
            continue
        mark = marks.read(f"{root}/containers/{name}")
        if mark is None:
            if _remove_unmarked(root / "containers" / name):
                yield name
        elif marks.owner_of(mark) is None:
            look_for_lost(root, name, living)
            if marks.may_lack_row(mark):
                unsure[name] = mark
        elif marks.owner_of(mark) in living:
            continue
        elif leases.is_used(root / "containers" / name):  # those who share it still read its log
            look_for_lost(root, name, living)
        elif _remove_owned(root, name, mark):
            with_rows.append(name)
            yield name
    if with_rows:
        _forget_rows(root, with_rows)
    if unsure:
        yield from _remove_without_row(root, unsure)


def _remove_unmarked(directory: Path) -> bool:
    with _free(f"{directory}/{record.NAME}") as (free, _fd):
        if free and marks.read(directory) is None:
            return _removed(directory)
    if free is not None:
        return False
    # Without a lock file: it is being made, and still empty, or somebody began to remove it.
    try:
        directory.rmdir()
    except OSError:
        if not directory.is_dir() or (directory / record.NAME).exists():
            return False
        return _removed(directory)
    return True


def _removed(directory: Path) -> bool:
    """Remove a directory that looked like debris; False when somebody puts something into it.

    Who makes a container makes its lock again when that was taken for debris.
    """
    try:
        remove_tree(directory)
    except HostError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _remove_owned(root: Path, name: str, mark: str) -> bool:
    """Remove what belonged to a dead launcher; False when it has come to another one since."""
    if str(marks.owner_of(mark)) in names_in(root / "owners"):  # a new one, since the walk
        return False
    with _untouched(root, name, mark) as directory:
        if directory is None:
            return False
        marks.drop(directory)
        _removed(directory)  # else it is debris from here on, which the next recovery removes
    events.append(root, "remove", name)
    return True


@contextmanager
def _untouched(root: Path, name: str, mark: str) -> Iterator[Path | None]:
    """Keep others from starting and removing a container meanwhile.

    None: somebody supervises it, or does that just now, or its mark is another one by now.
    """
    directory = root / "containers" / name
    lock = FileLock(directory, directory=True)
    try:
        if not lock.try_acquire():
            yield None
            return
    except FileNotFoundError:
        yield None
        return
    with lock, _free(f"{directory}/{record.NAME}") as (free, _fd):
        yield None if free is False or marks.read(directory) != mark else directory


def _remove_without_row(root: Path, unsure: dict[str, str]) -> Iterator[str]:
    """Remove those containers whose row a power cut has undone; the others are sure from now on.

    Args:
        root: the engine's root directory.
        unsure: ids, and the mark of each.
    """
    with _records(root) as records:
        known = {row.id for row in records.all()}
    for name, mark in unsure.items():
        with _untouched(root, name, mark) as directory:
            if directory is None:
                continue
            if name in known:
                marks.write(directory, marks.DETACHED)
                continue
            marks.drop(directory)
            remove_tree(directory)
        yield name


def look_for_lost(root: Path, name: str, living: Collection[str] = ()) -> None:
    """Write down that a container was lost, when its launcher died before it could tell its end.

    Or, if that is not among the *living* ones, when the disk refused what it told; or it is damaged.
    """
    directory = f"{root}/containers/{name}"
    state = record.read(directory, damaged=record.unknown)
    if state is None or not state.is_live or state.launcher in living:
        return
    with _free(f"{directory}/{record.NAME}") as (free, _fd):
        state = record.read(directory, damaged=record.unknown) if free else None
        if state is not None and state.is_live:
            record.write(Path(directory, record.NAME), record.lost(state, time.time_ns()))
            events.append(root, "die", name, cause="lost")


def _forget_rows(root: Path, names: list[str]) -> None:
    # A row without a mark is no container: whoever meets one drops it, should this fail.
    with contextlib.suppress(ContainerKitError, OSError), _records(root) as records:
        records.forget(names)


def _drop_pins(root: Path) -> None:
    # On a disk so full that it can not be, the next collection does.
    with contextlib.suppress(ContainerKitError), _catalog(root) as catalog:
        pin.drop_dead_pins(root / "ingest", catalog)


@contextmanager
def _records(root: Path) -> Iterator[Records]:
    from containerkit.runtime.records import Records

    with _catalog(root) as catalog:
        yield Records(catalog)


@contextmanager
def _catalog(root: Path) -> Iterator[Catalog]:
    from containerkit.state.catalog import Catalog

    catalog = Catalog(root / "catalog.sqlite")
    try:
        yield catalog
    finally:
        catalog.close()


# ---- locks


@contextmanager
def _free(path: str) -> Iterator[tuple[bool | None, int]]:
    """Hold the lock of *path* meanwhile if nobody else does; None: there is no such file.

    The second is a descriptor of the file.

    Never makes the file: who removes it at the same time wants its directory empty.
    """
    try:
        fd = open_regular(path, os.O_RDWR)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        yield None, -1
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False, fd
        else:
            # Renamed or removed since it was opened: its holder did that, not a crash.
            yield _is_named(fd, path), fd
    finally:
        os.close(fd)


def _is_named(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
