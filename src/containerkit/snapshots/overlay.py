"""Layers as overlay trees: made once, shared by everybody, described as mount values.

Owns: ``ROOT/layers`` and the catalog's rows of it.  Must not: mount, fetch, or parse archives.
Neighbours: `images` unpacks into a ``Unpacking`` and asks for root file systems, which `launch` has
mounted; `snapshots.gc` removes what nobody needs.

Life of a tree: absent → unpacking (one holder of ``.lock-CHAINID``; the tree grows in
``.ingest-CHAINID``) → published by one rename, after its digests held → leased, any number of
times (shared flocks on the directory) → removed (exclusive flock, rename to ``.trash-…``, delete).
Trees are not fsynced: the row says in which boot the tree was made, and whether a later syncfs
covered it.  A tree of another boot that none covered counts as absent.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from containerkit.errors import ContainerKitError, HostError, ImageNotFound, refusals
from containerkit.snapshots.durable import sync_file_system
from containerkit.state.atomic import names_in, remove_tree
from containerkit.state.lock import FileLock
from containerkit.state.root import boot_id

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.model.collected import Collected
    from containerkit.model.descriptor import Descriptor
    from containerkit.model.digest import Digest
    from containerkit.model.rootfs import Rootfs
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

EMPTY: Final = ".empty"
"""The lower directory of an image without layers: overlay wants at least one."""
# Removal holds a layer's lock for one rename.
_REMOVAL_SECONDS = 30.0
_MOST_IDLE = 128
# The kernel writes dirty pages after 5 to 30 seconds of its own accord.
_SETTLE_SECONDS = 15.0

_all: weakref.WeakSet[Snapshots] = weakref.WeakSet()


class Unpacking:
    """A layer being made by this process alone; from ``Snapshots.unpack``.

    Attributes:
        done: the tree is there; nothing is to do.
        destination: an empty directory to unpack into.
        root: the root directory that it is in.
    """

    __slots__ = ("_chain_id", "_snapshots", "destination", "done", "root")

    def __init__(self, snapshots: Snapshots, chain_id: Digest, destination: Path) -> None:
        self._snapshots = snapshots
        self._chain_id = chain_id
        self.destination = destination
        self.root = snapshots._root.path
        self.done = False

    @refusals("empty a place to unpack in")
    def clear(self) -> None:
        """Empty the destination, whatever an earlier try left in it."""
        self._snapshots._discard(self.destination)
        self.destination.mkdir(mode=0o755)

    def publish(self, *, diff_id: Digest, blob: Descriptor, size: int, entries: int) -> None:
        """Give the tree its name; all its digests have been checked.

        Args:
            diff_id: of the tar that was unpacked.
            blob: what it came from, and can be unpacked from again.
            size: bytes of its files.
            entries: in the archive.

        Atomicity: others see no tree, or the whole one.
        """
        facts = (str(diff_id), str(blob.digest), blob.media_type, blob.size, size, entries)
        self._snapshots._publish(self._chain_id, self.destination, facts)
        self.done = True


class Snapshots:
    """The unpacked layers of one root; usable from every thread.

    Args:
        root: the opened root directory.
        catalog: its catalog.
        content: its blobs; only ``collect`` looks at them.
    """

    __slots__ = (
        "__weakref__",
        "_boot",
        "_catalog",
        "_content",
        "_counts",
        "_directory",
        "_guard",
        "_locks",
        "_root",
        "_timer",
    )

    def __init__(self, root: StoreRoot, catalog: Catalog, content: ContentStore) -> None:
        self._root = root
        self._directory = root.layers
        self._catalog = catalog
        self._content = content
        self._boot = boot_id()
        (self._directory / EMPTY).mkdir(mode=0o755, exist_ok=True)
        self._own_nothing()
        _all.add(self)

    def _own_nothing(self) -> None:
        """Begin without locks: at first, and in a forked child, whose copies `FileLock` closed."""
        self._guard = threading.Lock()
        self._locks: dict[Digest, FileLock] = {}
        self._counts: dict[Digest, int] = {}
        self._timer: threading.Timer | None = None

    def path(self, chain_id: Digest) -> Path:
        """Return where the tree is, or would be."""
        return self._directory / chain_id.encoded

    def usable(self, chain_ids: Sequence[Digest]) -> frozenset[Digest]:
        """Return those whose trees are here and whole."""
        marks = ",".join("?" * len(chain_ids))
        found = self._catalog.rows(
            f"SELECT chain_id FROM layers WHERE chain_id IN ({marks}) AND (durable OR boot = ?)",  # noqa: S608 -- marks only
            (*map(str, chain_ids), self._boot),
        )
        known = {row[0] for row in found}
        return frozenset(
            chain_id
            for chain_id in chain_ids
            if str(chain_id) in known and self.path(chain_id).is_dir()
        )

    def trees(self) -> tuple[Digest, ...]:
        """Return the ChainIDs of all trees that have their names, whole or not."""
        from containerkit.model.digest import Digest

        names = [name for name in names_in(self._directory) if name[0] != "."]
        return tuple(Digest("sha256", name) for name in sorted(names))

    @contextmanager
    def unpack(
        self,
        chain_id: Digest,
        *,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
        again: bool = False,
    ) -> Iterator[Unpacking]:
        """Become the only one that makes this layer, after whoever is doing it now.

        Leaving the block without ``publish`` removes what was unpacked.

        Args:
            chain_id: of the layer.
            deadline: ``time.monotonic`` seconds until which to wait for the other; None: for ever.
            cancelled: set it to end the waiting.
            again: although its tree is here.

        Raises:
            Timeout: somebody else was still at it.
        """
        destination = self._directory / f".ingest-{chain_id.encoded}"
        lock = FileLock(self._directory / f".lock-{chain_id.encoded}")
        names_in(self._directory)  # it is there, or that is told
        lock.acquire(deadline=deadline, cancelled=cancelled)
        try:
            unpacking = Unpacking(self, chain_id, destination)
            unpacking.done = not again and bool(self.usable([chain_id]))
            if not unpacking.done:
                unpacking.clear()
            try:
                yield unpacking
            finally:
                self._discard(destination)
        finally:
            lock.release(unlink=True)

    def rootfs(self, chain_ids: Sequence[Digest]) -> Rootfs:
        """Return the root file system of a stack of layers, lowest first.

        Spec: image-spec layer.md, Applying Changesets.
        """
        from containerkit.model.rootfs import Overlay, Rootfs
        from containerkit.snapshots.contents import not_hidden

        names = [chain_id.encoded for chain_id in reversed(chain_ids)]
        lowers = tuple(f"layers/{name}" for name in not_hidden(self._directory, names))
        return Rootfs(mounts=(Overlay(target="/", lowers=lowers or (f"layers/{EMPTY}",)),))

    def lease(self, chain_ids: Sequence[Digest]) -> Lease:
        """Keep the trees from being removed until the lease is released.

        The locks of one process are shared and counted; an idle one is kept for the next start.

        Raises:
            ImageNotFound: a tree is not there.
        """
        taken: list[Digest] = []
        try:
            with self._guard:
                for chain_id in chain_ids:
                    if chain_id not in self._locks:
                        self._locks[chain_id] = self._shared(chain_id)
                    self._counts[chain_id] = self._counts.get(chain_id, 0) + 1
                    taken.append(chain_id)
        except BaseException:
            self._give_back(taken)
            raise
        return Lease(self, tuple(taken))

    def drop_idle(self) -> None:
        """Unlock the layers that nothing in this process uses."""
        with self._guard:
            for chain_id in [one for one in self._locks if not self._counts.get(one)]:
                self._locks.pop(chain_id).release()

    def settle(self) -> None:
        """Wait until the trees made in this boot are on disk, and record it."""
        rows = self._catalog.rows(
            "SELECT token FROM layers WHERE NOT durable AND boot = ?", (self._boot,)
        )
        if rows:
            sync_file_system(self._directory)
            with self._catalog.transaction(durable=False) as db:
                db.executemany("UPDATE layers SET durable = 1 WHERE token = ?", rows)

    def settle_later(self) -> None:
        """Do ``settle`` in the background in a while, for all that was made until then.

        Not at once: by then the kernel has written most of it anyway, and a short-lived process is
        not held up at its end by a file system that is busy with other things.
        """
        with self._guard:
            if self._timer is None:
                timer = threading.Timer(_SETTLE_SECONDS, self._settle_quietly)
                timer.name = "containerkit-settle"
                timer.daemon = True
                # Without a thread it stays as one that was given up: recorded as not durable.
                with contextlib.suppress(HostError), refusals("start a thread"):
                    timer.start()
                    self._timer = timer

    def _settle_quietly(self) -> None:
        with self._guard:
            self._timer = None
        # What could not be written stays recorded as not durable; nobody waits for an answer.
        with contextlib.suppress(ContainerKitError):
            self.settle()

    def close(self) -> None:
        """Give up a ``settle`` that has not begun, give back all locks."""
        with self._guard:
            timer, self._timer = self._timer, None
            while self._locks:
                self._locks.popitem()[1].release()
            self._counts.clear()
        if timer is not None:
            timer.cancel()
            timer.join()

    def collect(self, *, debris: bool = True) -> Collected:
        """Remove blobs and layers that nothing needs; see `snapshots.gc`."""
        from containerkit.snapshots.gc import collect

        return collect(self._root, self._catalog, self._content, self, debris=debris)

    @refusals("take a layer away")
    def take_away(self, chain_id: Digest) -> bool:
        """Rename the tree out of sight unless somebody uses it; ``remove_debris`` deletes it.

        Returns:
            Whether it is gone.
        """
        lock = FileLock(self.path(chain_id), directory=True)
        try:
            if not lock.try_acquire():
                return False
        except FileNotFoundError:
            return True
        self.path(chain_id).rename(self._trash())
        lock.release()
        return True

    @refusals("remove layers that were taken away")
    def remove_debris(self) -> None:
        """Delete what was taken away, and what killed processes were unpacking."""
        for entry in list(self._directory.iterdir()):
            if entry.name.startswith(".trash-"):
                remove_tree(entry)
            elif entry.name.startswith((".ingest-", ".lock-")):
                hexadecimal = entry.name.rpartition("-")[2]
                lock = FileLock(self._directory / f".lock-{hexadecimal}")
                if lock.try_acquire():
                    self._discard(self._directory / f".ingest-{hexadecimal}")
                    lock.release(unlink=True)

    def _shared(self, chain_id: Digest) -> FileLock:
        if len(self._locks) > _MOST_IDLE:
            for idle in [one for one in self._locks if not self._counts.get(one)]:
                self._locks.pop(idle).release()
        lock = FileLock(self.path(chain_id), shared=True, directory=True)
        try:
            return lock.acquire(deadline=time.monotonic() + _REMOVAL_SECONDS)
        except FileNotFoundError as e:
            raise ImageNotFound(
                f"cannot use layer {chain_id}: it is not unpacked in this root",
                hint="its image was removed; pull it again",
            ) from e

    def _give_back(self, chain_ids: Sequence[Digest]) -> None:
        with self._guard:
            for chain_id in chain_ids:
                left = self._counts.get(chain_id, 0) - 1
                if left > 0:
                    self._counts[chain_id] = left
                else:
                    self._counts.pop(chain_id, None)

    def _publish(self, chain_id: Digest, tree: Path, facts: tuple[object, ...]) -> None:
        trash = self._trash()
        stale = FileLock(self.path(chain_id), directory=True)
        try:
            # Nobody leases a tree that is not usable; removal may be at it just now.
            stale.acquire(deadline=time.monotonic() + _REMOVAL_SECONDS)
            self.path(chain_id).rename(trash)
            stale.release()
        except FileNotFoundError:
            pass
        # The row first: a tree whose row a kill prevented would count as unknown, and a row
        # without a tree counts as absent.
        with self._catalog.transaction(durable=False) as db:
            db.execute(
                "INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (str(chain_id), *facts, self._boot, secrets.token_hex(16)),
            )
        tree.rename(self.path(chain_id))
        remove_tree(trash)

    def _trash(self) -> Path:
        return self._directory / f".trash-{secrets.token_hex(8)}"

    @refusals("remove what was unpacked")
    def _discard(self, tree: Path) -> None:
        """Remove a tree that has no name; gone from its place at once."""
        trash = self._trash()
        try:
            tree.rename(trash)
        except FileNotFoundError:
            return
        remove_tree(trash)


class Lease:
    """Layers in use; a context manager, released once."""

    __slots__ = ("_chain_ids", "_snapshots")

    def __init__(self, snapshots: Snapshots, chain_ids: tuple[Digest, ...]) -> None:
        self._snapshots = snapshots
        self._chain_ids = chain_ids

    def release(self) -> None:
        """Say that the layers are not used any more; doing it twice is harmless."""
        chain_ids, self._chain_ids = self._chain_ids, ()
        if chain_ids:
            self._snapshots._give_back(chain_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _forked() -> None:
    for snapshots in _all:
        snapshots._own_nothing()


os.register_at_fork(after_in_child=_forked)
