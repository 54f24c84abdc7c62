"""A container in a user namespace of its own: its steps, and ids as the host counts them.

Owns which ids a plan has, and where.  The child is in the launcher's user namespace while it mounts,
so that the contained processes have no rights over mounts, network, host name; it enters its own
late, before it gives up the rest (JOIN_USER).  Pure.  Neighbours: `compile` and `execute`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import defaults
from containerkit.launch.identity import among
from containerkit.launch.ops import F_AS_IS, Code, Op
from containerkit.launch.request import Ids
from containerkit.model.idmap import IdMap

if TYPE_CHECKING:
    from containerkit.launch.identity import Identity
    from containerkit.launch.mounts import Slots
    from containerkit.model.security import Security


def ids_of(security: Security, chosen: IdMap | None, within: Ids | None) -> IdMap | None:
    """Return the ids of a container as its launcher counts them; None: the launcher's.

    Args:
        security: its own.
        chosen: for "auto", as the launcher counts.
        within: those of the launcher's user namespace; None: it is in the host's.

    Raises:
        ConfigError: nothing was chosen for "auto".
    """
    if security.userns == "host":
        return None
    if isinstance(security.userns, IdMap):
        return security.userns if within is None else _among(security.userns, within)
    if chosen is not None:
        return chosen
    if within is None:
        raise ConfigError("userns 'auto': no ids were chosen")
    return _among(security.userns, within)


def _among(asked: str | IdMap, within: Ids) -> IdMap:
    """Return ids that are the same inside and outside, as layers have them.

    For "auto" where nothing was chosen, all but 0, which is who runs this program; 0 where there is
    nobody else.
    """
    if isinstance(asked, IdMap):
        ranges = [
            [(inside, count) for inside, _, count in lines] for lines in (asked.uids, asked.gids)
        ]
    else:
        ranges = [_without_first(rows) for rows in within[:2]]
    return IdMap(*([(first, first, count) for first, count in rows] for rows in ranges))


def _without_first(rows: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    others = [(max(first, 1), first + count - max(first, 1)) for first, count in rows]
    return [row for row in others if row[1] > 0] or list(rows)


def identity_among(
    identity: Identity, ids: IdMap | None, within: Ids | None, notes: list[str]
) -> Identity:
    """Return what can be had of an identity in a container.

    Args:
        identity: who it is to be.
        ids: the container's own; None: those of its launcher.
        within: those of the launcher's user namespace; None: all.
        notes: gets a sentence for what is not there.

    Raises:
        MissingFeature: the user or its group is not there.
    """
    if within is None:
        return identity
    if ids is None:
        return among(identity, within, notes)
    there = Ids(
        *(tuple((inside, count) for inside, _, count in lines) for lines in (ids.uids, ids.gids))
    )
    missing = there.missing(identity.uid, identity.gid)
    if _is_range(ids):
        return _among_range(identity, ids, there, missing, notes)
    if missing and not within.missing(identity.uid, identity.gid):
        raise MissingFeature(
            f"cannot run as {missing} in a user namespace of its own: that is who runs this program"
            " itself, and only the host's root can have files seen with other ids",
            hint='choose another, as user="1000:1000"; or userns="host", as with'
            " Security.default(); an IdMap may have that id too",
            feature="userns",
        )
    notes.append(
        "its user namespace has but the id of who runs this program: no others are granted"
        if there.single
        else "who runs this program is nobody in its user namespace, and so is root of the image:"
        " their files are open to it as to any other"
    )
    return among(identity, there, notes)


def _is_range(ids: IdMap) -> bool:
    """Whether a container within has other numbers inside than outside: ids that are no other's."""
    return any(inside != outside for inside, outside, _ in ids.uids)


def _among_range(
    identity: Identity, ids: IdMap, there: Ids, missing: str | None, notes: list[str]
) -> Identity:
    alone = ids.uid_outside(0) is None
    if missing:
        raise MissingFeature(
            f"cannot run as {missing} in a user namespace of its own: it was started with other ids",
            hint="start it as another user than 65534, and it has more"
            if alone
            else "it has those up to 1023, those that its image names, and those it was started with",
            feature="userns",
        )
    if alone:
        notes.append(
            "who runs this program is nobody in its user namespace, and so are the owners of all of the"
            " image's files: these are open to it as to any other"
        )
    return among(identity, there, notes)


def owner_of(ids: IdMap | None, identity: Identity) -> tuple[int, int]:
    """Return a container's user and group as the host counts them.

    Raises:
        ConfigError: one of its ids is outside of its user namespace.
    """
    if ids is None:
        return identity.uid, identity.gid
    uid, gid = ids.uid_outside(identity.uid), ids.gid_outside(identity.gid)
    lost = [group for group in identity.groups if ids.gid_outside(group) is None]
    if uid is None or gid is None or lost:
        who = f"user {identity.uid}" if uid is None else f"group {(lost or [identity.gid])[0]}"
        raise ConfigError(
            f"{who} is outside of the container's user namespace",
            hint="a range of 'auto' has the ids from 0 to 65535; an IdMap may have others",
        )
    return uid, gid


def map_step(ids: IdMap, slots: Slots, *, shown: bool, copied: bool) -> Op:
    """Return the prepare step that makes the user namespace.

    Args:
        ids: its own.
        slots: of the plan.
        shown: layers are shown with its ids; else they have their own.
        copied: they have its ids already.
    """
    uids, gids = (
        "".join(f"{inside} {outside} {count}\n" for inside, outside, count in lines)
        for lines in (ids.uids, ids.gids)
    )
    return Op(
        Code.ID_MAP,
        flags=0 if shown and not copied else F_AS_IS,
        fd=(slots.fill(), -1, -1),
        arena=(uids, gids, None),
        value=(packed_root(ids) if shown else 0, 0),
    )


def packed_root(ids: IdMap | None) -> int:
    """Return the host's ids of a container's root as steps have them; 0 without a namespace."""
    if ids is None:
        return 0
    uid, gid = ids.root()
    return uid << 32 | gid


def join_step(ids: IdMap, identity: Identity, slot: int = -1) -> Op:
    """Return the child step that enters it; *slot* -1: in an exec."""
    return Op(Code.JOIN_USER, fd=(slot, -1, -1), value=owner_of(ids, identity))


def devpts(ids: IdMap | None) -> Op:
    """Return the step that mounts /dev/pts, for group tty of the container."""
    if ids is None:
        return defaults.DEVPTS
    return defaults.devpts(ids.gid_outside(5))
