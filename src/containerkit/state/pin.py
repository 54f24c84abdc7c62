"""Pins: what a running operation needs, written down so that no collector removes it.

Owns: the catalog's lease rows and their liveness files.  Must not: remove content.
Neighbours: `images.pull` takes one, `snapshots.gc` counts the living ones as roots.

A pin is alive while its process holds the flock of ``ingest/lease-ID``: a killed process leaves
rows that the next collection drops.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.model.digest import Digest
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

_PREFIX: Final = "lease-"


class Pin:
    """A set of blobs and layers that stays; a context manager."""

    __slots__ = ("_catalog", "_id", "_lock", "_root")

    def __init__(self, root: StoreRoot, catalog: Catalog) -> None:
        self._root = root
        self._catalog = catalog
        self._id = secrets.token_hex(16)
        self._lock = FileLock(root.ingest / f"{_PREFIX}{self._id}")

    def add(self, digests: Iterable[Digest]) -> None:
        """Pin blobs and ChainIDs; only after this may their presence be looked at.

        A collector that decided before is done removing when this returns; a later one sees it.
        """
        rows = [(self._id, str(digest)) for digest in digests]
        with (
            self._root.sweep_lock(shared=True),
            self._catalog.transaction(durable=False) as db,
        ):
            db.executemany("INSERT OR IGNORE INTO leases VALUES (?, ?)", rows)

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._catalog.transaction(durable=False, frees=True) as db:
                db.execute("DELETE FROM leases WHERE lease = ?", (self._id,))
        finally:
            self._lock.release(unlink=True)


def are_left(ingest: Path) -> bool:
    """Whether a killed pull or commit has left a pin."""
    for path in ingest.glob(f"{_PREFIX}*"):
        lock = FileLock(path)
        if lock.try_acquire():
            lock.release()
            return True
    return False


def drop_dead_pins(ingest: Path, catalog: Catalog) -> None:
    """Forget the pins whose process is gone."""
    known = {row[0] for row in catalog.rows("SELECT DISTINCT lease FROM leases")}
    files = {path.name.removeprefix(_PREFIX) for path in ingest.glob(f"{_PREFIX}*")}
    dead: list[tuple[str]] = []
    for lease in known | files:
        lock = FileLock(ingest / f"{_PREFIX}{lease}")
        if lock.try_acquire():
            lock.release(unlink=True)
            dead.append((lease,))
    if dead:
        with catalog.transaction(durable=False, frees=True) as db:
            db.executemany("DELETE FROM leases WHERE lease = ?", dead)
