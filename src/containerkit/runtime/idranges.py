"""Ranges of user and group ids for containers with a user namespace of their own.

Owns: which range a container gets, so that no two containers of this host share an id, whoever runs
them and in whatever root.  Must not know what a range is used for.

A range is 65,536 ids.  Who has one says so in a file named by its first id in `PLACE`, changed only
under one lock:

    ROOT                   the engine's root directory
    launcher ID            a process's own, for its runs: until that launcher has died
    container ID           a kept container's, also when it does not run: until it is removed

A process keeps the ranges of its runs that have ended for its next ones.  A claim whose holder is no
longer there is stale: whoever wants that range takes it over, and `recover` removes those of its root.
A kept container notes its range beside its mark, since the claims are gone after a boot.

Neighbours: `runner` takes ranges for runs, `birth` passes one on to a container, `begin` makes sure of
it again.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, HostError, InUse, MissingFeature, refusals
from containerkit.model.idmap import IdMap
from containerkit.runtime.alive import is_alive
from containerkit.state import userns
from containerkit.state.atomic import publish_file
from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.model.options import ContainerOptions
    from containerkit.model.security import Security

PLACE: Final = Path("/run/containerkit/ids")
SIZE: Final = 65536
NOTE: Final = "ids"
"""In a container's directory, a link to the first of its ids."""

# Far from what useradd gives away (subuid(5)), below the numbers that some programs take for negative.
_POOL: Final = (1 << 30, 1 << 31)
_USER: Final = "containerkit"
_LAST: Final = (1 << 32) - 2
_DIGITS: Final = 10
_TRIES: Final = 64
_LOCK_SECONDS: Final = 25.0


def wants_range(options: ContainerOptions) -> bool:
    """Whether options ask for a range, and there are any: in a user namespace there are not."""
    security = options.get("security")
    return security is not None and security.userns == "auto" and not userns.is_within()


def ids_of(directory: Path | str, security: Security | None) -> IdMap | None:
    """Return the ids of a kept container, None: the host's."""
    if security is None or security.userns == "host":
        return None
    return security.userns if isinstance(security.userns, IdMap) else noted(directory)


def check_own(root: Path, options: ContainerOptions) -> None:
    """Refuse an `IdMap` that this process's containers can not have, being in a user namespace.

    Raises:
        MissingFeature: it has ids that are not granted, or not by the numbers that layers have.
    """
    security = options.get("security")
    if security is None or not isinstance(security.userns, IdMap) or not userns.is_within():
        return
    asked = security.userns
    there = IdMap(*userns.ids_of(root)) if userns.is_needed() else IdMap(userns.WHOLE)
    for lines, inside_of in ((asked.uids, there.uid_inside), (asked.gids, there.gid_inside)):
        for inside, outside, count in lines:
            last = count - 1
            if (inside_of(outside), inside_of(outside + last)) != (inside, inside + last):
                raise MissingFeature(
                    f"cannot have {outside} to {outside + last} of the host as {inside} to"
                    f" {inside + last}: layers are shown with other ids by the host's root only",
                    hint=f"there are, as (inside, outside, count): {there.uids} of users,"
                    f" {there.gids} of groups; an IdMap may have parts of these",
                    feature="userns",
                )


def example() -> IdMap:
    """Return what a range looks like, for plans that are only read."""
    return IdMap.of_range(_POOL[0], SIZE)


class Ranges:
    """The ranges of one launcher; usable from several threads.

    Args:
        root: the engine's root directory.
        launcher_id: whose containers they are for.
    """

    __slots__ = ("_free", "_guard", "_holder", "_root", "_taken")

    def __init__(self, root: Path, launcher_id: str) -> None:
        self._root = root
        self._holder = f"launcher {launcher_id}"
        self._guard = threading.Lock()
        self._free: list[int] = []
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return the first id of a range that nobody has.

        Raises:
            HostError: all are taken, or the claims can not be written.
        """
        with self._guard:
            if self._free:
                return self._free.pop()
        first = _allocate(self._root, self._holder)
        with self._guard:
            self._taken.add(first)
        return first

    def give_back(self, first: int) -> None:
        """Let a later start have a range; nothing with its ids is left."""
        with self._guard:
            if first in self._taken:
                self._free.append(first)

    @contextmanager
    def for_kept(self, container_id: str, options: ContainerOptions) -> Iterator[int | None]:
        """Give the first id of a range for a container that is created meanwhile, and is to keep it.

        None: its options ask for none.
        """
        if not wants_range(options):
            yield None
            return
        first = self.take()
        try:
            yield first
        except BaseException:
            self.give_back(first)
            _release(first, self._root, f"container {container_id}")
            raise

    def pass_on(self, first: int, directory: Path) -> None:
        """Leave a range to the kept container of a directory, which has no mark yet.

        Raises:
            InUse: the launcher that had it has died, and another container has come to it since.
        """
        with refusals("note the container's ids"):
            os.symlink(str(first), directory / NOTE)
        with _locked() as place:
            if _read(place, first) != (str(self._root), self._holder) and not _claim(
                place, first, self._root, self._holder
            ):
                raise InUse(
                    f"cannot create container {directory.name[:12]}: its launcher has died, and"
                    " another container has its user ids since",
                    hint="create it again",
                )
            _write(place, first, self._root, f"container {directory.name}")
        with self._guard:
            self._taken.discard(first)

    def close(self) -> None:
        """Give all of them up: the launcher has ended."""
        with self._guard:
            taken, self._taken = self._taken, set()
            self._free.clear()
        for first in taken:
            _release(first, self._root, self._holder)


# ---- kept containers


@refusals("read the container's ids")
def noted(directory: Path | str) -> IdMap | None:
    """Return the ids of a kept container that has a range.

    Raises:
        ConfigError: somebody else wrote what says which.
    """
    first = _noted(directory)
    return None if first is None else IdMap.of_range(first, SIZE)


def _noted(directory: Path | str) -> int | None:
    try:
        text = os.readlink(f"{directory}/{NOTE}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    first = _number(text)
    if not first or first % SIZE or first + SIZE > _LAST:
        raise ConfigError(f"cannot read the container's ids: {directory}/{NOTE} was damaged")
    return first


def _number(text: str) -> int | None:
    """Return a number as it is written here and in subuid(5); None: it is none, or no id's."""
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None


def hold(root: Path, container_id: str) -> None:
    """Make sure that a kept container has its range, before it starts.

    Raises:
        HostError, ConfigError: what says which it is has gone, or was damaged.
        InUse: after a boot, another container has come to it first.
    """
    directory = root / "containers" / container_id
    with refusals("read the container's ids"):
        first = _noted(directory)
    if first is None:
        raise HostError(
            f"cannot start container {container_id[:12]}: {directory}/{NOTE}, which says what user"
            " ids it has, is gone",
            hint="remove it, and create it anew",
        )
    holder = f"container {container_id}"
    with _locked() as place:
        if _claim(place, first, root, holder) or _read(place, first) == (str(root), holder):
            return
    raise InUse(
        f"cannot start container {container_id[:12]}: another one has its user ids,"
        f" {first} to {first + SIZE - 1}",
        hint="start it when that one is removed, or create it anew",
    )


def release(root: Path, container_id: str, ids: IdMap | None) -> None:
    """Give up the range of a kept container that was removed."""
    if ids is not None:
        _release(ids.uids[0][1], root, f"container {container_id}")


def sweep(root: Path) -> None:
    """Remove the stale claims of a root."""
    try:
        names = os.listdir(PLACE)
    except OSError:
        return
    for first in filter(None, map(_number, names)):
        found = _read(PLACE, first)
        if found is not None and found[0] == str(root) and _is_stale(*found):
            with contextlib.suppress(OSError), _locked() as place:
                if _read(place, first) == found and _is_stale(*found):
                    os.unlink(place / str(first))


# ---- claims


@contextmanager
def _locked() -> Iterator[Path]:
    """Be the only one that looks at claims and changes them meanwhile."""
    with refusals("choose ids for the container"):
        PLACE.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(PLACE / "lock")
        with lock.holding(deadline=time.monotonic() + _LOCK_SECONDS):
            yield PLACE


def _allocate(root: Path, holder: str) -> int:
    start, end = _pool()
    count = (end - start) // SIZE
    with _locked() as place:
        tried = [random.randrange(count) for _ in range(_TRIES)]  # noqa: S311 - spread, no secret
        for number in (*tried, *range(count)):
            first: int = start + number * SIZE
            if _claim(place, first, root, holder):
                return first
    raise HostError(
        f"cannot choose ids for the container: all {count} ranges are taken",
        hint=f"remove containers; a larger range can be given to {_USER!r} in /etc/subuid",
    )


def _pool() -> tuple[int, int]:
    """Return where ranges are: what the host gives in /etc/subuid and /etc/subgid, if it does."""
    users, groups = (_granted(path) for path in ("/etc/subuid", "/etc/subgid"))
    for start, count in users & groups:
        first = -(-start // SIZE) * SIZE
        if first + SIZE <= start + count:
            return first, start + count
    return _POOL


def _granted(path: str) -> set[tuple[int, int]]:
    """Return the lines of our name in a file of subuid(5)."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        name, *numbers = line.split(":")
        start, count = map(_number, numbers) if len(numbers) == 2 else (None, None)
        if name == _USER and start is not None and count and start + count - 1 <= _LAST:
            found.add((start, count))
    return found


def _claim(place: Path, first: int, root: Path, holder: str) -> bool:
    """Write a claim unless another holds the range."""
    found = _read(place, first)
    if found is not None and not _is_stale(*found):
        return False
    _write(place, first, root, holder)
    return True


def _read(place: Path, first: int) -> tuple[str, str] | None:
    """Return root and holder of a claim, empty when it was not written whole; None: there is none."""
    try:
        data = (place / str(first)).read_bytes()
    except FileNotFoundError:
        return None
    root, end, holder = os.fsdecode(data).rpartition("\n")[0].rpartition("\n")
    return (root, holder) if end else ("", "")


def _write(place: Path, first: int, root: Path, holder: str) -> None:
    publish_file(place, str(first), os.fsencode(f"{root}\n{holder}\n"), durable=False)


def _release(first: int, root: Path, holder: str) -> None:
    # Left where the host refuses that: it is stale.
    with contextlib.suppress(OSError), _locked() as place:
        if _read(place, first) == (str(root), holder):
            os.unlink(place / str(first))


def _is_stale(root: str, holder: str) -> bool:
    if "\0" in root + holder:
        return True
    kind, _, name = holder.partition(" ")
    if kind == "launcher":
        return not is_alive(Path(root), name)
    return kind != "container" or not os.path.isdir(f"{root}/containers/{name}")
