"""What images want of unpacked layers; `snapshots` provides it, the engine brings both together.

Owns: the protocols.  Must not: implement anything.

Life of a layer's tree, as seen from here: ask ``usable``; for each that is not, enter ``unpack``,
which waits for whoever is at it; then either it is ``done``, or one fills ``destination`` and calls
``publish``.  To run from trees, take a ``lease`` first, and only then use the paths of ``rootfs``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.model.collected import Collected
    from containerkit.model.descriptor import Descriptor
    from containerkit.model.digest import Digest
    from containerkit.model.rootfs import Rootfs


class Lease(Protocol):
    """Layers in use until it is released."""

    def release(self) -> None:
        """Say that the layers are not used any more; doing it twice is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class Unpacking(Protocol):
    """A layer that this process alone is making."""

    @property
    def done(self) -> bool:
        """Whether the tree is there; nothing is to do then."""

    @property
    def destination(self) -> Path:
        """An empty directory to unpack into."""

    @property
    def root(self) -> Path:
        """The root directory that it is in."""

    def clear(self) -> None:
        """Empty the destination for another try."""

    def publish(self, *, diff_id: Digest, blob: Descriptor, size: int, entries: int) -> None:
        """Give the tree its name."""


class Snapshotter(Protocol):
    """The unpacked layers of one root."""

    def usable(self, chain_ids: Sequence[Digest]) -> frozenset[Digest]:
        """Return those whose trees are here and whole."""

    def unpack(
        self,
        chain_id: Digest,
        *,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> AbstractContextManager[Unpacking]:
        """Become the only one that makes this layer."""

    def rootfs(self, chain_ids: Sequence[Digest]) -> Rootfs:
        """Return a stack of layers, lowest first, as mount values."""

    def lease(self, chain_ids: Sequence[Digest]) -> Lease:
        """Keep the trees until the lease is released."""

    def settle_later(self) -> None:
        """Have new trees written to disk in the background."""

    def collect(self, *, debris: bool = True) -> Collected:
        """Remove blobs and layers that nothing needs."""
