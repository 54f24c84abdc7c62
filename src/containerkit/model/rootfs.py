"""Root file systems as values: what snapshots and the host image produce and launch consumes.

Owns the three values.  Must not mount anything, nor know where the store is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import attrs

from containerkit.errors import InvalidSpec


class Overlay(NamedTuple):
    """A stack of layers, with or without a place for what is written.

    A named tuple, as `HostBind`: an attrs class costs 0.5 ms at import, on the path of a start.

    Attributes:
        target: absolute path inside the container, "/" for the root.
        lowers: top first; each relative to the store ("layers/" and 64 digits), or an absolute
            host path, which the engine opens as a detached tree.
        writable: False for no upper.
    """

    target: str
    lowers: tuple[str, ...]
    writable: bool = True


class HostBind(NamedTuple):
    """A host directory as it is, where an overlay of it is refused.

    Attributes:
        source: absolute host path.
        target: absolute path inside the container.
        read_only: False lets the container write to the host.
    """

    source: str
    target: str
    read_only: bool = True


def _mounts(value: Iterable[Overlay | HostBind]) -> tuple[Overlay | HostBind, ...]:
    mounts = tuple(value)
    if not mounts or not isinstance(mounts[0], Overlay) or mounts[0].target != "/":
        raise InvalidSpec("a root file system must begin with an overlay on /")
    targets = [mount.target for mount in mounts]
    if len(set(targets)) != len(targets):
        raise InvalidSpec("a root file system has two mounts on one target")
    for mount in mounts:
        if not mount.target.startswith("/") or ".." in mount.target.split("/"):
            raise InvalidSpec(f"a root file system has a mount on {mount.target!r}")
        if isinstance(mount, Overlay) and not mount.lowers:
            raise InvalidSpec(f"the overlay on {mount.target} has no layers")
        if isinstance(mount, HostBind) and not mount.source.startswith("/"):
            raise InvalidSpec(f"the bind on {mount.target} has no absolute source")
    return mounts


@attrs.frozen
class Rootfs:
    """The root file system of a container, before its own mounts.

    Args:
        mounts: the first is an overlay on "/"; parents come before what lies below them.

    Raises:
        InvalidSpec: not so, two mounts on one target, or an overlay without layers.
    """

    mounts: tuple[Overlay | HostBind, ...] = attrs.field(converter=_mounts)
