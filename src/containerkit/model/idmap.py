"""Which ids of a container stand for which ids of the host.

Owns the `IdMap` value and its arithmetic.  Must not choose ranges (`runtime.idranges` does) or look
at the host.  Spec: user_namespaces(7), "User and group ID mappings".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import attrs

from containerkit.errors import ConfigError

NOBODY: Final = 65534
"""What the kernel calls those who have no number: /proc/sys/kernel/overflowuid."""

_LAST: Final = (1 << 32) - 2  # -1 is no id
_LINES: Final = 340

Lines = tuple[tuple[int, int, int], ...]


def _lines(value: Iterable[Iterable[int]]) -> Lines:
    try:
        lines = tuple([tuple(line) for line in value])
    except TypeError as error:
        raise ConfigError(
            f"an id map is made of (inside, outside, count), not {value!r}"
        ) from error
    found = []
    for line in lines:
        if len(line) != 3 or any(isinstance(one, bool) or not isinstance(one, int) for one in line):
            raise ConfigError(f"an id map is made of (inside, outside, count), not {line!r}")
        inside, outside, count = line
        if count < 1 or min(inside, outside) < 0 or max(inside, outside) + count - 1 > _LAST:
            raise ConfigError(f"the id map {line!r} is not between 0 and {_LAST}")
        found.append((inside, outside, count))
    if not found or len(found) > _LINES:
        raise ConfigError(f"an id map has 1 to {_LINES} ranges, not {len(found)}")
    for side, name in ((0, "inside"), (1, "outside")):
        ordered = sorted(found, key=lambda line: line[side])
        for low, high in pairwise(ordered):
            if low[side] + low[2] > high[side]:
                raise ConfigError(f"the id map has {high[side]} twice {name}")
    return tuple(found)


def _move(lines: Lines, number: int, source: int, target: int) -> int | None:
    for line in lines:
        if line[source] <= number < line[source] + line[2]:
            return line[target] + number - line[source]
    return None


@attrs.frozen
class IdMap:
    """The ids of a user namespace.

    Args:
        uids: ranges of users, each (first inside, first outside, how many).
        gids: of groups; left out: as users.

    Raises:
        ConfigError: no ranges, numbers out of range, or an id twice.
    """

    uids: Lines = attrs.field(converter=_lines)
    gids: Lines = attrs.field(converter=_lines)

    @gids.default
    def _as_users(self) -> Lines:
        return self.uids

    @classmethod
    def of_range(cls, first: int, count: int = 65536) -> IdMap:
        """Return the map of the ids from 0 on to a range of the host's."""
        return cls(((0, first, count),))

    @property
    def is_single(self) -> bool:
        """Whether there is one user and one group."""
        return [count for _, _, count in (*self.uids, *self.gids)] == [1, 1]

    def uid_outside(self, uid: int) -> int | None:
        """Return the host's number of a user of the container; None: it has none."""
        return _move(self.uids, uid, 0, 1)

    def gid_outside(self, gid: int) -> int | None:
        """Return the host's number of a group of the container; None: it has none."""
        return _move(self.gids, gid, 0, 1)

    def uid_inside(self, uid: int) -> int | None:
        """Return what a user of the host is in the container; None: nobody there."""
        return _move(self.uids, uid, 1, 0)

    def gid_inside(self, gid: int) -> int | None:
        """Return what a group of the host is in the container; None: nobody there."""
        return _move(self.gids, gid, 1, 0)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the host's numbers of a user and a group of the container.

        Raises:
            ConfigError: it has no such user or group.
        """
        found = self.uid_outside(uid), self.gid_outside(gid)
        if found[0] is None or found[1] is None:
            raise ConfigError(f"{uid}:{gid} is outside of the container's user namespace")
        return found[0], found[1]

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return what a user and a group of the host are called in the container."""
        found = self.uid_inside(uid), self.gid_inside(gid)
        return (
            NOBODY if found[0] is None else found[0],
            NOBODY if found[1] is None else found[1],
        )

    def root(self) -> tuple[int, int]:
        """Return the host's user and group for what belongs to the container's root.

        Without one, those of its first ids.
        """
        uid, gid = self.uid_outside(0), self.gid_outside(0)
        return min(self.uids)[1] if uid is None else uid, min(self.gids)[1] if gid is None else gid
