"""One container for several processes: who takes it, who starts it, who removes it.

Owns the leases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.runtime.container import Container

if TYPE_CHECKING:
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.runner import Startable


def share(
    keeper: Keeper,
    key: str,
    image: Startable,
    reference: str,
    command: Command | None,
    options: ContainerOptions,
) -> Container:
    """Join the container of a key, or start it."""
    raise NotImplementedError
