"""The garbage collector: removes blobs and layers that no image, pin or lease needs.

Owns: the decision what goes.  Must not: drop images or names (`images` does, when asked).
Neighbours: `snapshots.overlay` and `content` remove, `state.pin` says what pulls need.

It decides and renames under the root's sweep lock, which a pull shares for the moment in which it
pins: so whatever a pull finds present after pinning stays.  Deleting trees comes after.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from containerkit.errors import BlobNotFound, ConfigError
from containerkit.model.collected import Collected
from containerkit.model.digest import Digest
from containerkit.state.atomic import names_in
from containerkit.state.pin import drop_dead_pins

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.snapshots.overlay import Snapshots
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

_SWEEP_SECONDS = 60.0

_BLOBS = """
    SELECT digest FROM images UNION SELECT id FROM images UNION SELECT digest FROM image_layers
    UNION SELECT digest FROM leases UNION SELECT blob FROM layers
"""
_LAYERS = """
    SELECT chain_id FROM image_layers UNION SELECT digest FROM leases
    UNION SELECT chain_id FROM container_layers
"""


def collect(
    root: StoreRoot,
    catalog: Catalog,
    content: ContentStore,
    snapshots: Snapshots,
    *,
    debris: bool = True,
) -> Collected:
    """Remove unreferenced content; never what a running pull or container needs.

    Args:
        root: the root directory.
        catalog: its catalog.
        content: its blobs.
        snapshots: its layers.
        debris: also throw away partial downloads of killed pulls, which could be resumed.

    Returns:
        How much went; ``size`` in bytes, trees by their files' sizes.

    Raises:
        Timeout: another collection did not end.
    """
    snapshots.drop_idle()
    deadline = time.monotonic() + _SWEEP_SECONDS
    names_in(root.path)  # it is there, or that is told
    with root.sweep_lock(shared=False).holding(deadline=deadline):
        drop_dead_pins(root.ingest, catalog)
        layers, freed = _sweep_layers(root, catalog, snapshots)
        needed = {row[0] for row in catalog.rows(_BLOBS)}
        blobs = 0
        for digest in content.list():
            if str(digest) not in needed:
                with contextlib.suppress(BlobNotFound):
                    freed += content.size(digest)
                    content.remove(digest)
                    blobs += 1
    snapshots.remove_debris()
    if debris:
        freed += content.remove_debris()
    catalog.tidy()
    return Collected(blobs, layers, freed)


def _sweep_layers(root: StoreRoot, catalog: Catalog, snapshots: Snapshots) -> tuple[int, int]:
    needed = {row[0] for row in catalog.rows(_LAYERS)}
    sizes: dict[str, int] = dict(catalog.rows("SELECT chain_id, size FROM layers"))
    there = {f"sha256:{name}" for name in names_in(root.layers) if name[0] != "."}
    gone: list[str] = []
    for name in (there | sizes.keys()) - needed:
        with contextlib.suppress(ConfigError):
            if snapshots.take_away(Digest.parse(name)):
                gone.append(name)
    if gone:
        with catalog.transaction(durable=False, frees=True) as db:
            db.executemany("DELETE FROM layers WHERE chain_id = ?", [(name,) for name in gone])
    return len(there.intersection(gone)), sum(sizes.get(name, 0) for name in gone)
