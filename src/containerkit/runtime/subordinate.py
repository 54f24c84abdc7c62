"""Which of an ordinary user's subordinate ids a container of its own user namespace gets.

Owns the arithmetic, pure but for `check_own`: which numbers a container has inside, how many ids that
takes, where in the user's grant they lie, how the container's files count then.  Must not: know who
has what (`idranges` does).

A launcher's user namespace has the user as 0, and the granted ids from 1 on; ids are counted so here,
unless it says "of the host".  Containers without a namespace of their own have ids there by the
numbers that images use, so ranges keep away from these as far as the grant allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from containerkit.errors import MissingFeature
from containerkit.launch.identity import known_ids
from containerkit.model.idmap import NOBODY, IdMap
from containerkit.state import userns

if TYPE_CHECKING:
    from pathlib import Path

    from containerkit.launch.identity import Identity
    from containerkit.model.idmap import Lines
    from containerkit.model.options import ContainerOptions

Shape = tuple[tuple[int, int], ...]
"""What a container has inside: (first, how many) of each stretch of numbers, in order."""

LEAST: Final = 1024
"""Numbers from 0 on that every range has."""

NOBODY_ALONE: Final[Shape] = ((NOBODY, 1),)
"""Of a container that is user 65534 and no other: it needs no file to be its own."""

_MOST: Final = 256
"""Single numbers beyond those; a namespace holds 340 stretches (user_namespaces(7))."""
_IMAGES_END: Final = 1 << 16
_USUAL_END: Final = (
    65_000  # from there to 65,535 are those that images call nobody, nogroup, nonroot
)
_USUAL: Final = 10_000


def shape_of(
    identity: Identity, passwd: bytes | None, group: bytes | None, *, alone: bool
) -> Shape:
    """Return the numbers that a container needs inside.

    Args:
        identity: who it starts as.
        passwd, group: of its image: whoever is named there can own files.
        alone: whether to be nobody and no other is enough, if that is who it is.
    """
    own = {identity.uid, identity.gid}
    if alone and own.union(identity.groups) == {NOBODY}:
        return NOBODY_ALONE
    named = {one for one in known_ids(passwd, group) if one < _IMAGES_END}
    chosen = own | {NOBODY}
    for number in (*identity.groups, *sorted(named)):
        if number >= LEAST and len(chosen) < _MOST:
            chosen.add(number)
    return ((0, LEAST), *_stretches(one for one in chosen if one >= LEAST))


def _stretches(numbers: Iterable[int]) -> Shape:
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and sum(found[-1]) == number:
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((number, 1))
    return tuple(found)


def size_of(shape: Shape) -> int:
    """Return how many ids a shape takes."""
    return sum(count for _, count in shape)


def ids_from(first: int, shape: Shape) -> IdMap:
    """Return the ids of a container whose range begins with *first*: its stretches, one by one."""
    lines = []
    for inside, count in shape:
        lines.append((inside, first, count))
        first += count
    return IdMap(lines)


def shape_in(ids: IdMap) -> Shape:
    """Return the numbers that a range has inside."""
    return tuple((inside, count) for inside, _, count in ids.uids)


def span_of(ids: IdMap) -> tuple[int, int]:
    """Return the first id of a range, and how many it has."""
    return ids.uids[0][1], sum(count for _, _, count in ids.uids)


def pool_of(count: int) -> tuple[int, int]:
    """Return where ranges may lie when so many ids are granted: the first, and the end."""
    if count >= _IMAGES_END + LEAST * 2:
        return _IMAGES_END + 1, count + 1
    end = min(count + 1, _USUAL_END)
    return max(1, min(_USUAL, end // 2)), end


def free_in(pool: tuple[int, int], taken: Iterable[tuple[int, int]], count: int) -> int | None:
    """Return the first of so many ids in a row that nobody has; None: there are none.

    Single ones come from the bottom and ranges from the top, so that few of the former do not split
    what the latter need.

    Args:
        pool: the first id, and the end.
        taken: (first, how many) of what others have.
        count: how many are wanted.
    """
    gaps, low = [], pool[0]
    for first, size in sorted(taken):
        gaps.append((low, min(first, pool[1])))
        low = max(low, first + size)
    gaps.append((low, pool[1]))
    fitting = [(start, end) for start, end in gaps if end - start >= count]
    if not fitting:
        return None
    return fitting[0][0] if count == 1 else fitting[-1][1] - count


# ---- files


def of_files(own: IdMap, within: IdMap) -> IdMap:
    """Return the ids by which a container's files are counted, as this host has them.

    Args:
        own: the container's, as its launcher counts.
        within: those of the launcher's user namespace.
    """
    return IdMap(
        _composed(own.uids, within.uids, alone=own.uid_outside(0) is None),
        _composed(own.gids, within.gids, alone=own.gid_outside(0) is None),
    )


def _composed(own: Lines, within: Lines, *, alone: bool) -> Lines:
    """Return the lines of one inside the other.

    Without a root the layers are no copy, and have the ids of all; what is the container's own comes
    before those of the same number.
    """
    found = [(inside, _outside(within, first), count) for inside, first, count in own]
    if alone:
        cuts = {number for inside, first, _ in own for number in (inside, first)}
        for first, outside, count in within:
            start = first
            for cut in (
                *sorted(cut for cut in cuts if first <= cut < first + count),
                first + count,
            ):
                if cut > start:
                    found.append((start, outside + start - first, cut - start))
                start = cut + 1
    return tuple(found)


def _outside(lines: Lines, number: int) -> int:
    return next(
        outside + number - first
        for first, outside, count in lines
        if first <= number < first + count
    )


# ---- as asked for


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
