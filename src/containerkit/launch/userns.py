"""A container in a user namespace of its own: its steps, and ids as the host counts them.

Owns which ids a plan has, and where.  The child is in the launcher's user namespace while it mounts,
so that the contained processes have no rights over mounts, network, host name; it enters its own
late, before it gives up the rest (JOIN_USER).  Pure.  Neighbours: `compile` and `execute`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch import defaults
from containerkit.launch.ops import Code, Op
from containerkit.model.idmap import IdMap

if TYPE_CHECKING:
    from containerkit.launch.identity import Identity
    from containerkit.launch.mounts import Slots
    from containerkit.launch.request import HostFacts
    from containerkit.model.security import Security


def ids_of(security: Security, chosen: IdMap | None) -> IdMap | None:
    """Return the ids of a container, None: the host's.

    Args:
        security: its own.
        chosen: for "auto".

    Raises:
        ConfigError: nothing was chosen for "auto".
    """
    if isinstance(security.userns, IdMap):
        return security.userns
    if security.userns == "auto" and chosen is None:
        raise ConfigError("userns 'auto': no ids were chosen")
    return chosen if security.userns == "auto" else None


def refuse_nested(ids: IdMap | None, facts: HostFacts) -> None:
    """Refuse a user namespace of its own where the launcher is in one already.

    Raises:
        MissingFeature: its layers could not be shown with other ids (mount_setattr(2)).
    """
    if ids is not None and facts.ids is not None:
        raise MissingFeature(
            "cannot give the container a user namespace of its own: it is in that of the user who"
            " runs this program, and only the host's root can map the ids of its files again",
            hint='run as root, or leave it in that one: userns="host", as with Security.default()',
            feature="userns",
        )


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


def map_step(ids: IdMap, slots: Slots) -> Op:
    """Return the prepare step that makes the user namespace."""
    uids, gids = (
        "".join(f"{inside} {outside} {count}\n" for inside, outside, count in lines)
        for lines in (ids.uids, ids.gids)
    )
    return Op(
        Code.ID_MAP,
        fd=(slots.fill(), -1, -1),
        arena=(uids, gids, None),
        value=(packed_root(ids), 0),
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
