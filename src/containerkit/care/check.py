"""`engine.check()`: whether a root holds what its catalog says, byte by byte, and its repair.

Owns: what counts as a problem, and what repairs it.  Must not: fetch anything: what can only come
from a registry is said to be missing, and the next pull brings it.

What it looks at, in this order, since each judges by the ones before: blobs against their digests;
trees against their blobs, unpacked again beside them; images against both; containers.  A root in
use may be checked: what is being pulled, made or removed meanwhile is no problem.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import attrs

from containerkit.care.containers import check_containers
from containerkit.care.trees import difference_inside
from containerkit.errors import BlobNotFound, CorruptContent
from containerkit.images import records
from containerkit.images.layer import Store, apply_again
from containerkit.images.records import ImageRecord, LayerRecord
from containerkit.model.check import CheckReport, Problem
from containerkit.model.digest import Digest
from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.images.images import Images
    from containerkit.runtime.keeper import Keeper
    from containerkit.snapshots.overlay import Snapshots
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot


class Parts(NamedTuple):
    """The parts of an engine that care looks into."""

    root: StoreRoot
    catalog: Catalog
    content: ContentStore
    snapshots: Snapshots

    @classmethod
    def of(cls, images: Images) -> Self:
        """Return the parts that a collection of images was made of."""
        snapshots = cast("Snapshots", images._snapshots)  # behind its protocol
        return cls(images._root, images._catalog, images._content, snapshots)


def check(parts: Parts, keeper: Keeper | None = None, *, repair: bool = False) -> CheckReport:
    """Look at everything in a root; see `Engine.check`.

    Args:
        parts: of the root.
        keeper: of its containers; None leaves them out.
        repair: see there.
    """
    report = _Check(parts, repair=repair).run()
    if keeper is None:
        return report
    problems, containers = check_containers(keeper, repair=repair)
    return attrs.evolve(report, problems=(*report.problems, *problems), containers=containers)


class _Check:
    """One check, and what it knows so far."""

    def __init__(self, parts: Parts, *, repair: bool) -> None:
        self._root, self._catalog, self._content, self._snapshots = parts
        self._repair = repair
        self._problems: list[Problem] = []
        self._bad_blobs: set[Digest] = set()
        self._bad_trees: set[Digest] = set()

    def run(self) -> CheckReport:
        blobs = sum(self._blob(digest) for digest in self._content.list())
        trees = sum(self._tree(layer) for layer in self._layers())
        self._unknown_trees()
        images = records.load(self._catalog)
        for image in images:
            self._image(image)
        return CheckReport(tuple(self._problems), blobs, trees, len(images))

    def _found(self, problem: Problem) -> None:
        self._problems.append(problem)

    # ---- blobs

    def _blob(self, digest: Digest) -> bool:
        try:
            for _ in self._content.chunks(digest):
                pass
        except BlobNotFound:
            return False  # collected meanwhile
        except CorruptContent as error:
            self._bad_blobs.add(digest)
            if self._repair:
                with contextlib.suppress(BlobNotFound):
                    self._content.remove(digest)
            self._found(Problem("changed blob", str(digest), error.message, self._repair))
        return True

    def _has_blob(self, digest: Digest) -> bool:
        return digest not in self._bad_blobs and self._content.contains(digest)

    # ---- trees

    def _layers(self) -> Iterator[LayerRecord]:
        rows = self._catalog.rows(
            "SELECT blob, media_type, blob_size, diff_id, chain_id FROM layers ORDER BY chain_id"
        )
        for blob, media_type, size, diff_id, chain_id in rows:
            yield LayerRecord(
                Digest.parse(blob),
                media_type,
                size,
                Digest.parse(diff_id),
                Digest.parse(chain_id),
            )

    def _tree(self, layer: LayerRecord) -> bool:
        """Compare a tree with what its blob holds; one that has none can not be compared."""
        if not self._snapshots.usable([layer.chain_id]) or not self._has_blob(layer.digest):
            return False
        with self._snapshots.unpack(layer.chain_id, again=True) as unpacking:
            try:
                applied = apply_again(layer, Store(self._content, self._snapshots), unpacking)
                tree = self._snapshots.path(layer.chain_id)
                found = difference_inside(self._root.path, tree, unpacking.destination)
            except (BlobNotFound, FileNotFoundError):  # collected meanwhile
                return False
            if found is None:
                return True
            # Not while a container uses it: its files would stay those of the old tree.
            repaired = self._repair and self._is_free(layer.chain_id)
            if repaired:
                unpacking.publish(
                    diff_id=layer.diff_id,
                    blob=layer.descriptor,
                    size=applied.size,
                    entries=applied.entries,
                )
        if not repaired:
            self._bad_trees.add(layer.chain_id)
        detail = f"{found}; it is in use" if self._repair and not repaired else found
        self._found(Problem("changed tree", str(layer.chain_id), detail, repaired))
        return True

    def _is_free(self, chain_id: Digest) -> bool:
        self._snapshots.drop_idle()
        lock = FileLock(self._snapshots.path(chain_id), directory=True)
        free = lock.try_acquire()
        lock.release()
        return free

    def _unknown_trees(self) -> None:
        """Trees get their row before their name, so one without a row is no tree of ours."""
        there = self._snapshots.trees()
        known = {row[0] for row in self._catalog.rows("SELECT chain_id FROM layers")}
        for chain_id in there:
            if str(chain_id) not in known and self._snapshots.path(chain_id).is_dir():
                repaired = self._repair and self._snapshots.take_away(chain_id)
                detail = "the catalog knows no such layer"
                self._found(Problem("unknown tree", str(chain_id), detail, repaired))
        if self._repair:
            self._snapshots.remove_debris()

    # ---- images

    def _image(self, image: ImageRecord) -> None:
        usable = self._snapshots.usable([layer.chain_id for layer in image.layers])
        lacking = [
            name
            for name, digest in (("manifest", image.digest), ("config", image.id))
            if not self._has_blob(digest)
        ]
        for layer in image.layers:
            whole = layer.chain_id in usable and layer.chain_id not in self._bad_trees
            if self._has_blob(layer.digest):
                continue
            if whole:
                self._found(
                    Problem(
                        "missing blob",
                        str(layer.digest),
                        f"a layer of {_name(image)}; its tree is here; pull the image again",
                    )
                )
            else:
                lacking.append(f"layer {layer.digest}")
        if not lacking or not records.load(self._catalog, [image.digest]):
            return
        repaired = False
        if self._repair:
            repaired = records.forget(self._catalog, image.digest, image.references)
        detail = f"{_name(image)} lacks its {', '.join(lacking)}"
        self._found(Problem("broken image", str(image.digest), detail, repaired))


def _name(image: ImageRecord) -> str:
    return image.references[0] if image.references else str(image.id)
