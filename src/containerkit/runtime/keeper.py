"""What the handles of one engine share: its root, rows, launcher and images.

Owns: who is alive among launchers, the leases of shared containers, secrets of created ones.  No
logic of containers: `birth`, `begin`, `verbs` have it.  Neighbours: `engine` makes one.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerkit.errors import EngineClosed
from containerkit.runtime.alive import has_owner, is_alive

if TYPE_CHECKING:
    from containerkit.images.wiring import Stores
    from containerkit.runtime.records import Records
    from containerkit.runtime.runner import Runner


living: weakref.WeakSet[Keeper] = weakref.WeakSet()
"""Those of this process, by which a pickled handle finds its engine again."""


class Keeper:
    """Shared by the handles of one engine.

    Args:
        runner: starts containers in this process's launcher.
        stores: of the root.
        reopen: a function of a module, for pickles: (root, id) → handle.

    Attributes:
        root: the engine's root directory.
        closed: whether the engine is.
        leases: of shared containers that this engine has taken.
        secrets: contents by container, of those that this process created.
    """

    __slots__ = (
        "__weakref__",
        "_records",
        "closed",
        "guard",
        "leases",
        "reopen",
        "root",
        "runner",
        "secrets",
        "stores",
    )

    def __init__(
        self, runner: Runner, stores: Stores, *, reopen: Callable[[str, str], Any]
    ) -> None:
        self.root: Path = runner.root
        self.runner = runner
        self.stores = stores
        self.reopen = reopen
        self.closed = False
        self.own_nothing()
        living.add(self)

    def own_nothing(self) -> None:
        """Begin without leases and secrets: at first, and in a forked child."""
        self.guard = threading.Lock()
        self._records: Records | None = None
        self.leases: list[Callable[[], object]] = []
        self.secrets: dict[str, Mapping[str, Any]] = {}

    @property
    def records(self) -> Records:
        """The rows.

        Raises:
            EngineClosed: the engine is closed.
        """
        if self._records is None:
            from containerkit.runtime.records import Records

            self.require_open()
            self._records = Records(self.stores.catalog)
        return self._records

    def require_open(self) -> None:
        """Refuse what a closed engine can not do.

        Raises:
            EngineClosed: it is closed.
        """
        if self.closed:
            raise EngineClosed(f"cannot use the engine of {self.root}: it is closed")

    def directory(self, container_id: str) -> Path:
        """Return where a container's files are."""
        return self.root / "containers" / container_id

    def is_alive(self, launcher_id: str) -> bool:
        """Whether a launcher lives."""
        return is_alive(self.root, launcher_id)

    def has_owner(self, launcher_id: str) -> bool:
        """Whether a launcher lives, and so does the process that it ends with, if any."""
        return has_owner(self.root, launcher_id)

    def close(self) -> None:
        """Give back what shared containers were taken; handles only look from now on."""
        try:
            while self.leases:
                self.leases[-1]()
        finally:
            self.closed = True
            self._records = None


def _forked() -> None:
    """In a forked child: locks may have been held, and what was taken is the parent's."""
    for keeper in list(living):
        keeper.stores.forked()
        keeper.own_nothing()


os.register_at_fork(after_in_child=_forked)
