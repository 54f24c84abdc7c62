"""The part of `Engine` that takes care of its root and looks at its host.

Owns the signatures and their text; each method is one call of the module that does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from containerkit.runtime.recover import Recovered, recover

if TYPE_CHECKING:
    from containerkit.images.images import Images
    from containerkit.model.check import CheckReport
    from containerkit.model.collected import Collected
    from containerkit.model.host import HostReport
    from containerkit.model.usage import DiskUsage, Pruned
    from containerkit.runtime.containers import Containers, Labels
    from containerkit.runtime.keeper import Keeper


class _Opened(Protocol):
    """What of an engine is needed to take care of it."""

    root: Path
    _keeper: Keeper

    @property
    def images(self) -> Images: ...

    @property
    def containers(self) -> Containers: ...


class Caring:
    """The part of `Engine` that takes care."""

    def recover(self: _Opened) -> Recovered:
        """Remove what crashed processes left in this root; `open` has done it once.

        Returns:
            The ids of dead launchers, and of the containers that went with them.

        Blocking: while launchers of dead processes are ending what they ran, at most 10 s.
        """
        return recover(self.root)

    def gc(self: _Opened) -> Collected:
        """Remove content that nothing refers to; never what a pull or a container needs."""
        from containerkit.care.containers import drop_orphans

        drop_orphans(self._keeper)
        return self.images.gc()

    def prune(self: _Opened, *, label: Labels = None) -> Pruned:
        """Remove stopped containers, images without a name, and content that nothing refers to.

        Args:
            label: only containers with it, see `Containers.list`.

        Returns:
            What went, and how many bytes.

        Atomicity: what is started, named or pulled meanwhile stays.
        """
        from containerkit.care.prune import prune

        return prune(self._keeper, self.containers, self.images, label=label)

    def check(self: _Opened, *, repair: bool = False) -> CheckReport:
        """Look whether the root holds what its catalog says, byte by byte; it may be in use.

        Blobs are hashed, trees are compared with their blobs unpacked again, images with both,
        containers' directories with their rows.

        Args:
            repair: drop what is not as it should be, and unpack again what can be; what only a
                registry has is brought by the next pull.

        Blocking: for as long as reading and unpacking all content takes.
        """
        from containerkit.care.check import Parts, check

        return check(Parts.of(self.images), self._keeper, repair=repair)

    def disk_usage(self: _Opened) -> DiskUsage:
        """Return how many bytes images, layers, containers and caches take of the disk."""
        from containerkit.care.disk_usage import disk_usage

        return disk_usage(self.root)

    def probe(self) -> HostReport:
        """Look at what this host offers, feature by feature; ``print`` shows it as a table.

        Each says what it is for, what stands in where it is missing, and what gives it.  Nothing
        on the host is changed to find out.
        """
        from containerkit.care.probe import probe

        return probe()
