"""Ranges of user and group ids for containers with a user namespace of their own.

Owns: which range a container gets, so that no two containers of this host share an id, whoever runs
them and in whatever root.  Must not know what a range is used for.

A range is 65,536 ids, an ordinary user's as many as its container needs (`subordinate`).  Who has one
is on the disk (`idclaims`).

A process keeps the ranges of its runs that have ended for its next ones.  A kept container notes its
range beside its mark, since the claims may be gone after a boot.

Neighbours: `runner` takes ranges for runs, `birth` passes one on to a container, `begin` makes sure of
it again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, HostError, InUse, refusals
from containerkit.model.idmap import IdMap
from containerkit.runtime import idclaims, subordinate
from containerkit.runtime.idclaims import LAST, POOL, SIZE
from containerkit.runtime.subordinate import Shape
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.model.options import ContainerOptions
    from containerkit.model.security import Security

NOTE: Final = "ids"
"""In a container's directory, a link to the first of its ids."""

WHOLE: Final[Shape] = ((0, SIZE),)


def wants_range(root: Path, options: ContainerOptions) -> bool:
    """Whether options ask for a range, and there are any.

    In a user namespace there are none, but for an ordinary user with subordinate ids.
    """
    security = options.get("security")
    if security is None or security.userns != "auto":
        return False
    return not userns.is_within() or grants_any(root)


def grants_any(root: Path) -> bool:
    """Whether ranges of a root's containers are cut out of an ordinary user's subordinate ids."""
    return userns.is_needed() and not userns.ids_of(root).single


def ids_of(directory: Path | str, security: Security | None) -> IdMap | None:
    """Return the ids of a kept container, as its launcher counts; None: those of the launcher."""
    if security is None or security.userns == "host":
        return None
    return security.userns if isinstance(security.userns, IdMap) else noted(directory)


def example(shape: Shape = WHOLE) -> IdMap:
    """Return what a range looks like, for plans that are only read."""
    return subordinate.ids_from(POOL[0] if shape == WHOLE else SIZE + 1, shape)


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
        self._free: list[IdMap] = []
        self._taken: set[IdMap] = set()

    def take(self, shape: Shape = WHOLE) -> IdMap:
        """Return the ids of a range that nobody has.

        Raises:
            HostError: all are taken, or the claims can not be written.
            MissingFeature: so many are not granted.
        """
        with self._guard:
            for ids in reversed(self._free):
                if subordinate.shape_in(ids) == shape:
                    self._free.remove(ids)
                    return ids
        try:
            first = idclaims.allocate(self._root, self._holder, shape)
        except HostError:
            if not self._release_free():
                raise
            first = idclaims.allocate(self._root, self._holder, shape)
        ids = subordinate.ids_from(first, shape)
        with self._guard:
            self._taken.add(ids)
        return ids

    def _release_free(self) -> bool:
        """Give up what is kept for next runs of other shapes; return whether there was any."""
        with self._guard:
            free, self._free = self._free, []
            self._taken.difference_update(free)
        for ids in free:
            idclaims.release(self._root, ids, self._holder)
        return bool(free)

    def give_back(self, ids: IdMap) -> None:
        """Let a later start have a range; nothing with its ids is left."""
        with self._guard:
            if ids in self._taken:
                self._free.append(ids)

    @contextmanager
    def for_kept(self, container_id: str, shape: Shape | None) -> Iterator[IdMap | None]:
        """Give a range for a container that is created meanwhile, and is to keep it.

        None: it needs none.
        """
        if shape is None:
            yield None
            return
        ids = self.take(shape)
        try:
            yield ids
        except BaseException:
            self.give_back(ids)
            idclaims.release(self._root, ids, f"container {container_id}")
            raise

    def pass_on(self, ids: IdMap, directory: Path) -> None:
        """Leave a range to the kept container of a directory, which has no mark yet.

        Raises:
            InUse: the launcher that had it has died, and another container has come to it since.
        """
        with refusals("note the container's ids"):
            os.symlink(_written(ids), directory / NOTE)
        name = idclaims.name_of(self._root, ids)
        with idclaims.locked(self._root) as place:
            if idclaims.read(place, name) != (str(self._root), self._holder) and not idclaims.claim(
                place, name, self._root, self._holder
            ):
                raise InUse(
                    f"cannot create container {directory.name[:12]}: its launcher has died, and"
                    " another container has its user ids since",
                    hint="create it again",
                )
            idclaims.write(place, name, self._root, f"container {directory.name}")
        with self._guard:
            self._taken.discard(ids)

    def close(self) -> None:
        """Give all of them up: the launcher has ended."""
        with self._guard:
            taken, self._taken = self._taken, set()
            self._free.clear()
        for ids in taken:
            idclaims.release(self._root, ids, self._holder)


# ---- kept containers


@refusals("read the container's ids")
def noted(directory: Path | str) -> IdMap | None:
    """Return the ids of a kept container that has a range.

    Raises:
        ConfigError: somebody else wrote what says which.
    """
    try:
        text = os.readlink(f"{directory}/{NOTE}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    first, _, stretches = text.partition(":")
    try:
        if not stretches:
            return _whole(idclaims.number_in(first))
        return subordinate.ids_from(_positive(first), _shape(stretches))
    except (ValueError, ConfigError):
        raise ConfigError(
            f"cannot read the container's ids: {directory}/{NOTE} was damaged"
        ) from None


def _written(ids: IdMap) -> str:
    """Return a range as it is noted: the first id, and unless it is a whole one its stretches."""
    shape = subordinate.shape_in(ids)
    first = str(subordinate.span_of(ids)[0])
    stretches = ",".join(f"{inside}+{count}" for inside, count in shape)
    return first if shape == WHOLE else f"{first}:{stretches}"


def _shape(text: str) -> Shape:
    stretches = [stretch.split("+") for stretch in text.split(",")]
    return tuple((_positive(inside, 0), _positive(count)) for inside, count in stretches)


def _positive(text: str, least: int = 1) -> int:
    number = idclaims.number_in(text)
    if number is None or number < least:
        raise ValueError(text)
    return number


def _whole(first: int | None) -> IdMap:
    if not first or first % SIZE or first + SIZE > LAST:
        raise ValueError(first)
    return IdMap.of_range(first, SIZE)


def hold(root: Path, container_id: str) -> None:
    """Make sure that a kept container has its range, before it starts.

    Raises:
        HostError, ConfigError: what says which it is has gone, or was damaged.
        InUse: after a boot, another container has come to it first.
    """
    directory = root / "containers" / container_id
    ids = noted(directory)
    if ids is None:
        raise HostError(
            f"cannot start container {container_id[:12]}: {directory}/{NOTE}, which says what user"
            " ids it has, is gone",
            hint="remove it, and create it anew",
        )
    holder, name = f"container {container_id}", idclaims.name_of(root, ids)
    with idclaims.locked(root) as place:
        if idclaims.claim(place, name, root, holder) or idclaims.read(place, name) == (
            str(root),
            holder,
        ):
            return
    first, count = subordinate.span_of(ids)
    raise InUse(
        f"cannot start container {container_id[:12]}: another one has its user ids,"
        f" {first} to {first + count - 1}",
        hint="start it when that one is removed, or create it anew",
    )


def release(root: Path, container_id: str, ids: IdMap | None) -> None:
    """Give up the range of a kept container that was removed."""
    if ids is not None:
        idclaims.release(root, ids, f"container {container_id}")
