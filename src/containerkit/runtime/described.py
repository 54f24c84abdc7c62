"""Events of a root with the names of their containers, where the events tell ids only.

Owns the look into the catalog.  Neighbours: ``stdio.events`` asks, once for each container.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from containerkit.errors import EngineClosed
from containerkit.model.event import EventFilter, EventFilters
from containerkit.runtime import codec
from containerkit.stdio.events import Described, Events

if TYPE_CHECKING:
    from containerkit.runtime.keeper import Keeper
    from containerkit.stdio.logs import Moment


def open_events(
    keeper: Keeper,
    since: Moment | None,
    until: Moment | None,
    filters: EventFilters,
    *,
    follow: bool,
    timeout: float | None = None,
) -> Events:
    """Return the events of a root; see `Engine.events`."""
    return Events(
        keeper.root,
        since=since,
        until=until,
        follow=follow,
        wanted=EventFilter(**filters),
        describe=describer(keeper),
        timeout=timeout,
    )


def describer(keeper: Keeper) -> Callable[[str], Described | None]:
    """Return what looks containers of a root up; None for those that are not there any more."""

    def describe(identity: str) -> Described | None:
        try:
            row = keeper.records.get(identity)
        except EngineClosed:  # the engine was closed, who follows goes on
            return None
        if row is None:
            return None
        return Described(row.name, row.reference, codec.load(row.labels))

    return describe
