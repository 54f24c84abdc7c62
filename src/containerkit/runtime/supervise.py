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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from containerkit.launch.devices import MORE, wants_devices
from containerkit.launch.presets import limits_of
from containerkit.launch.request import check_given
from containerkit.launch.reuse import UNCOMMON, uses_uncommon
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.leases import open_watch

if TYPE_CHECKING:
    from containerkit.model.options import ContainerOptions
    from containerkit.runtime.keeper import Keeper


def spawn(keeper: Keeper, options: ContainerOptions, *, shared: str | None = None) -> Launcher:
    """Return a launcher for one container, which is being set up.

    A detached one's ends with this process until it is told to leave; a shared one's with the last
    of those who share it.

    Args:
        keeper: of the engine.
        options: of the container.
        shared: the id of one that several processes share; None: it is a detached one.
    """
    watch = None if shared is None else open_watch(keeper.directory(shared))
    try:
        return Launcher(
            keeper.root,
            netns_pool=1,
            classic_overlay=keeper.runner.classic_overlay,
            detached=shared is None,
            lone=True,
            uncommon=_uncommon(options),
            owner=watch,
            wait=False,
        )
    finally:
        if watch is not None:
            os.close(watch)


@contextmanager
def ahead(keeper: Keeper, options: ContainerOptions) -> Iterator[list[Launcher]]:
    """Have the launcher of a container set itself up while that is created, if it is detached.

    Whoever starts the container takes it from the list; what is left there at the end is ended.
    """
    check_given(options)
    made = []
    if options.get("lifetime") == "detached":
        made.append(spawn(keeper, options))
    try:
        yield made
    finally:
        for launcher in made:
            launcher.close()


def _uncommon(options: ContainerOptions) -> tuple[str, ...]:
    """Return the groups that few containers have, and this one needs."""
    security = options.get("security")
    limits = (name for name in UNCOMMON if name != MORE)
    return (
        *(limits if uses_uncommon(limits_of(options)) else ()),
        *((MORE,) if security is not None and wants_devices(security) else ()),
    )


def plan_holds(compiled_for: Launcher, launcher: Launcher, options: ContainerOptions) -> bool:
    """Whether a launcher can follow a plan that was compiled for another of this process.

    Args:
        compiled_for: that one.
        launcher: the one in question.
        options: of the container.
    """
    one, other = compiled_for.group, launcher.group
    return (
        not _uncommon(options)
        and compiled_for.version == launcher.version
        and bool(one.names) == bool(other.names)
        and one.controllers.symmetric_difference(other.controllers) <= set(UNCOMMON)
        and not {
            file
            for file in one.files.symmetric_difference(other.files)
            if file.partition(".")[0] not in UNCOMMON
        }
    )
