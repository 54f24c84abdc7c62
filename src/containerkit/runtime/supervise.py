"""A launcher of its own for a container that outlives its maker: detached, or shared by several.

Owns: what that launcher hangs on, and when it lets go of this process.  Must not: start anything in
it (`begin` does).

It begins as every other: owned by the process that spawned it, so that one killed half-way leaves
nothing.  When the container has started it is told to leave, and lives until that has ended for
good.  The one of a shared container hangs from the first on what those who share it hold open (see
`shared`), and on no process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from containerkit.launch.limits import uses_uncommon
from containerkit.runtime.cgroups import UNCOMMON
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.leases import open_watch

if TYPE_CHECKING:
    from containerkit.model.limits import Limits
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.records import Row


def spawn(keeper: Keeper, row: Row, limits: Limits) -> Launcher:
    """Return a launcher for one container, which has these limits.

    A detached one's ends with this process until it is told to leave; a shared one's with the last
    of those who share it.

    Blocking: until it is set up, some milliseconds.
    """
    watch = None if row.shared is None else open_watch(keeper.directory(row.id))
    try:
        return Launcher(
            keeper.root,
            netns_pool=0,
            spares=0,
            classic_overlay=keeper.runner.classic_overlay,
            detached=row.shared is None,
            uncommon=uses_uncommon(limits),
            owner=watch,
        )
    finally:
        if watch is not None:
            os.close(watch)


def plan_holds(compiled_for: Launcher, launcher: Launcher, limits: Limits) -> bool:
    """Whether a launcher can follow a plan that was compiled for another of this process.

    Args:
        compiled_for: that one.
        launcher: the one in question.
        limits: of the container.
    """
    one, other = compiled_for.group, launcher.group
    return (
        not uses_uncommon(limits)
        and compiled_for.version == launcher.version
        and bool(one.names) == bool(other.names)
        and one.controllers.symmetric_difference(other.controllers) <= set(UNCOMMON)
        and not {
            file
            for file in one.files.symmetric_difference(other.files)
            if file.partition(".")[0] not in UNCOMMON
        }
    )
