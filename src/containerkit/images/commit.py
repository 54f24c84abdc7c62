"""An image made here of layers that are here, and perhaps one more.

Owns: the steps, and what the image's documents say of its layers.  Must not: know what the new layer
holds or where it comes from, nor the collection.
Flow: pin what is below → the new layer's blob, written as its tar is made → its tree, unpacked from
that as any other's → config → manifest → record image and name in one durable transaction.

As in a pull, everything is pinned before it is looked for.  Killed at any moment, it leaves blobs and
trees that nothing refers to, which the collector removes: no image, no name.
Neighbours: `runtime.commit` gives the layer and the config.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import attrs

from containerkit.errors import BlobNotFound, ContainerKitError
from containerkit.images import records
from containerkit.images.layer import Store, bring_layer
from containerkit.images.records import ImageRecord, LayerRecord
from containerkit.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.image_config import HistoryEntry, ImageConfig
from containerkit.model.image_document import encode_config, encode_manifest, oci_layer
from containerkit.model.image_limits import ImageLimits
from containerkit.model.manifest import parse_manifest
from containerkit.model.platform import Platform
from containerkit.state import cancel
from containerkit.state.pin import Pin

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.images.images import Images
    from containerkit.images.snapshotter import Snapshotter
    from containerkit.model.reference import Reference
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

_PIECES: Final = 256 << 10
_MEDIA_TYPE: Final = f"{OCI_LAYER}+gzip"


class Base(NamedTuple):
    """What the new image lies on.

    Attributes:
        layers: lowest first.
        history: of them, as far as it is known.
    """

    layers: tuple[LayerRecord, ...]
    history: tuple[HistoryEntry, ...]


@attrs.define(eq=False)
class Commit:
    """One new image; a context manager, within which nothing that it needs is collected.

    Args:
        limits: what an image of this root may be.
    """

    root: StoreRoot
    catalog: Catalog
    content: ContentStore
    snapshots: Snapshotter
    limits: ImageLimits
    _pin: Pin = attrs.field(init=False)
    _base: Base = Base((), ())
    _added: LayerRecord | None = None

    def __attrs_post_init__(self) -> None:
        self._pin = Pin(self.root, self.catalog)

    def __enter__(self) -> Self:
        self._pin.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._pin.__exit__(None, None, None)

    # ---- below

    def begin(self, image: Digest, chain: Sequence[Digest]) -> tuple[int, int]:
        """Take an image's layers; return the entries and the bytes that may still come on them.

        Args:
            image: digest of its manifest; it may have been removed.
            chain: ChainIDs of the layers, which are leased, lowest first.

        Raises:
            ImageNotFound, BlobNotFound: not all of them are here any more.
        """
        self._pin.add([image, *chain])
        known = records.load(self.catalog, [image])
        layers = known[0].layers if known else records.of_trees(self.catalog, chain)
        self._pin.add([layer.digest for layer in layers])
        for layer in layers:
            if not self.content.contains(layer.digest):
                raise BlobNotFound(
                    f"the blob of its image's layer {layer.digest} is not in the store",
                    hint="pull the image again",
                )
        self._base = Base(layers, self._history_of(known[0].id) if known else ())
        entries, size = records.unpacked(self.catalog, chain) if chain else (0, 0)
        return max(0, self.limits.entries - entries), max(0, self.limits.size - size)

    def _history_of(self, config: Digest) -> tuple[HistoryEntry, ...]:
        """Return what an image says of its layers; nothing if that is not here, or does not fit."""
        self._pin.add([config])
        try:
            data = self.content.read(config, self.limits.config)
            parsed = ImageConfig.parse(data, limit=self.limits.config, layers=self.limits.layers)
        except ContainerKitError:
            return ()
        return parsed.history

    # ---- the new layer

    def add_layer(self, pieces: Iterable[bytes]) -> bool:
        """Store a layer's tar; return False, storing nothing, when there are no pieces.

        Raises:
            HostError: the disk is full or broken.
        """
        from containerkit.layers.compression import gzipped

        tar = _Tar(pieces)
        first = next(tar.chunks, None)
        if first is None:
            return False
        with self.content.draft() as draft:
            for made in gzipped(tar.from_first(first)):
                draft.write(made)
            diff_id = tar.digest
            self._pin.add([draft.digest])
            draft.publish()
            chain = chain_ids([*(layer.diff_id for layer in self._base.layers), diff_id])[-1]
            self._added = LayerRecord(draft.digest, _MEDIA_TYPE, draft.size, diff_id, chain)
        return True

    def _unpack(self, layer: LayerRecord) -> None:
        from containerkit.layers.apply import Allowance

        self._pin.add([layer.chain_id])
        below = [one.chain_id for one in self._base.layers]
        entries, size = records.unpacked(self.catalog, below) if below else (0, 0)
        allowance = Allowance(self.limits, entries=entries, size=size)
        with cancel.cancellable() as cancelled:
            bring_layer(
                layer,
                Store(self.content, self.snapshots, self.limits, allowance),
                None,
                reference=str(layer.digest),
                emit=lambda _: None,
                cancelled=cancelled,
            )

    # ---- the image

    def finish(
        self,
        config: ImageConfig,
        reference: Reference | None,
        *,
        created_by: str,
        comment: str,
        author: str,
    ) -> Digest:
        """Record the image; return the digest of its manifest.

        Args:
            config: what it says of the process, and its platform.
            reference: its name, which is taken from whatever has it; None: it has none.
            created_by: what made the new layer.
            comment: about it.
            author: of it, and of the image.

        Raises:
            InvalidSpec: it says something that no image may.
            ArchiveError: it is more than the limits allow.
            ImageNotFound: the image was removed while it was made.
        """
        layers = self._base.layers
        if self._added is not None:
            self._unpack(self._added)
            layers = (*layers, self._added)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = HistoryEntry(now, created_by, comment, author, self._added is None)
        config = attrs.evolve(
            config,
            created_text=now,
            diff_ids=tuple(layer.diff_id for layer in layers),
            history=(*_fitting(self._base), entry),
        )
        data = encode_config(config, author=author)
        ImageConfig.parse(data, limit=self.limits.config, layers=self.limits.layers)
        described = Descriptor(OCI_CONFIG, Digest.of(data), len(data))
        manifest = encode_manifest(described, [layer.descriptor for layer in layers])
        parse_manifest(manifest, OCI_MANIFEST, limits=self.limits)
        image = _record(config, described, manifest, layers)
        self._pin.add([described.digest, image.digest])
        self.content.put(data, described.digest)
        self.content.put(manifest, image.digest)
        with self.catalog.transaction() as db:
            records.record(db, image, time.time())
            if reference is not None:
                records.name(db, reference, image.digest, image.digest)
        self.catalog.tidy()
        return image.digest


def committing(images: Images) -> Commit:
    """Return the making of an image in a collection."""
    return Commit(
        images._root,
        images._catalog,
        images._content,
        images._snapshots,
        images._limits or ImageLimits(),
    )


class _Tar:
    """A tar in pieces of any size, as chunks that are worth handing on; hashed meanwhile."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._hasher = Digest.of(b"").hasher()
        self.chunks = self._chunks(pieces)

    @property
    def digest(self) -> Digest:
        """Of what was taken so far."""
        return Digest("sha256", self._hasher.hexdigest())

    def from_first(self, first: bytes) -> Iterator[bytes]:
        """Yield all chunks, the first having been taken."""
        yield first
        yield from self.chunks

    def _chunks(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        waiting: list[bytes] = []
        size = 0
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _PIECES:
                yield self._joined(waiting)
                size = 0
        if waiting:
            yield self._joined(waiting)

    def _joined(self, waiting: list[bytes]) -> bytes:
        chunk = b"".join(waiting)
        waiting.clear()
        self._hasher.update(chunk)
        return chunk


def _fitting(base: Base) -> tuple[HistoryEntry, ...]:
    """Return a history that tells of as many layers as there are."""
    if sum(not entry.empty_layer for entry in base.history) == len(base.layers):
        return base.history
    return (HistoryEntry(None, "", "", "", empty_layer=False),) * len(base.layers)


def _record(
    config: ImageConfig, described: Descriptor, manifest: bytes, layers: tuple[LayerRecord, ...]
) -> ImageRecord:
    stored = sum(layer.size for layer in layers)
    return ImageRecord(
        Digest.of(manifest),
        described.digest,
        OCI_MANIFEST,
        str(Platform(config.os, config.architecture or "unknown", config.variant)),
        len(manifest) + described.size + stored,
        tuple(layer._replace(media_type=oci_layer(layer.media_type)) for layer in layers),
    )
