"""What the handles of one engine share: its root, rows, launcher and images.

Owns: who is alive among launchers, the leases of shared containers, secrets of created ones.  No
logic of containers: `birth`, `begin`, `verbs` have it.  Neighbours: `engine` makes one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerkit.errors import NotReady
from containerkit.runtime.alive import is_alive

if TYPE_CHECKING:
    from containerkit.images.images import Images
    from containerkit.runtime.records import Records
    from containerkit.runtime.runner import Runner
    from containerkit.state.lock import FileLock


class Keeper:
    """Shared by the handles of one engine.

    Args:
        runner: starts containers in this process's launcher.
        records: makes the rows' collection, on first use.
        images: returns the images of the root.
        reopen: a function of a module, for pickles: (root, id) → handle.

    Attributes:
        root: the engine's root directory.
        leases: of shared containers that this engine has taken.
        secrets: contents by container, of those that this process created and that have not ended.
    """

    __slots__ = (
        "__weakref__",
        "_made",
        "_records",
        "closed",
        "guard",
        "images",
        "leases",
        "reopen",
        "root",
        "runner",
        "secrets",
    )

    def __init__(
        self,
        runner: Runner,
        *,
        records: Callable[[], Records],
        images: Callable[[], Images],
        reopen: Callable[[str, str], Any],
    ) -> None:
        self.root: Path = runner.root
        self.runner = runner
        self.images = images
        self.reopen = reopen
        self._records = records
        self.closed = False
        self.own_nothing()

    def own_nothing(self) -> None:
        """Begin without leases and secrets: at first, and in a forked child."""
        self.guard = threading.Lock()
        self._made: Records | None = None
        self.leases: dict[str, list[FileLock]] = {}
        self.secrets: dict[str, Mapping[str, Any]] = {}

    @property
    def records(self) -> Records:
        """The rows.

        Raises:
            NotReady: the engine is closed.
        """
        if self.closed:
            raise NotReady(f"cannot use the engine of {self.root}: it is closed")
        if self._made is None:
            self._made = self._records()
        return self._made

    def directory(self, container_id: str) -> Path:
        """Return where a container's files are."""
        return self.root / "containers" / container_id

    def is_alive(self, launcher_id: str) -> bool:
        """Whether a launcher lives."""
        return is_alive(self.root, launcher_id)
