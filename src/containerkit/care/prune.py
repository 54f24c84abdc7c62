"""`engine.prune()`: removes what nothing uses any more.

Owns: in which order, so that what a container kept from going goes too.  Must not: remove anything
that runs, or has a name that an image was given.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from containerkit.care.containers import drop_orphans
from containerkit.care.disk_usage import disk_usage
from containerkit.errors import InvalidStatus
from containerkit.model.usage import Pruned

if TYPE_CHECKING:
    from containerkit.images.images import Images
    from containerkit.runtime.containers import Containers, Labels
    from containerkit.runtime.keeper import Keeper


def prune(keeper: Keeper, containers: Containers, images: Images, *, label: Labels) -> Pruned:
    """Remove stopped containers and images without a name; see `Engine.prune`."""
    before = disk_usage(keeper.root).total
    gone = []
    for container in containers.list(status="stopped", label=label):
        with contextlib.suppress(InvalidStatus):  # started again meanwhile
            container.remove()
            gone.append(container.id)
    drop_orphans(keeper)
    keeper.runner.lowers.drop_idle()
    nameless = images.prune()
    images.gc()
    freed = before - disk_usage(keeper.root).total
    return Pruned(tuple(gone), nameless, max(0, freed))
