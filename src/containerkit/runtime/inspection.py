"""A container at one moment, put together from one look.

Owns `Container.inspect`.  Must not: change anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.errors import ContainerNotFound
from containerkit.model.info import ContainerInfo
from containerkit.runtime import codec
from containerkit.runtime import status as words

if TYPE_CHECKING:
    from containerkit.runtime.handle import Handle


def inspect(handle: Handle) -> ContainerInfo:
    """Return all of a container.

    Raises:
        ContainerNotFound: it was removed.
    """
    look = handle._look()
    if look.status == "removed":
        raise ContainerNotFound(f"cannot inspect container {handle.id[:12]}: it was removed")
    row, state = handle._read_row(), look.state
    return ContainerInfo(
        id=handle.id,
        name=row.name,
        status=look.status,
        image=row.reference,
        image_digest=row.image,
        config=handle.config,
        labels=codec.load(row.labels),
        lifetime=row.lifetime,
        pid=handle.pid if look.is_live else None,
        exit=words.exit_of(state, alive=look.alive),
        health=words.health_of(state, alive=look.alive),
        restarts=state.restarts if state else 0,
        created=handle.created,
        started=words.time_of(state.started_ns) if state else None,
        finished=words.time_of(state.finished_ns) if state else None,
        dropped_log_bytes=state.dropped if state else 0,
    )
