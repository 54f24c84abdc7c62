"""What a start begins with, and what the launcher has taken of it.

Owns the two values, and how a start says that its launcher is gone.  Neighbours: `runner` makes one
of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.image_config import ImageConfig
    from containerkit.model.rootfs import Rootfs
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.launcher import Launcher


class LauncherDied(Exception):
    """The launcher ended before it answered; its socket says so, not the container's fault."""


class Startable(Protocol):
    """What can be started: an image with its files in place."""

    @property
    def digest(self) -> str:
        """What names it for ever."""

    @property
    def config(self) -> ImageConfig:
        """What it says of the process to start."""

    @property
    def _rootfs(self) -> Rootfs:
        """Its files, as mounts."""


class Started(NamedTuple):
    """A start that the launcher has taken.

    Attributes:
        id: of the container.
        plan: what is being done.
        channel: where the launcher tells how it went; the caller's to finish.
        let_go: called when nothing is left of it.
        launcher: that was asked.
    """

    id: str
    plan: Plan
    channel: Channel
    let_go: Callable[[], object]
    launcher: Launcher
