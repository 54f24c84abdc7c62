"""A pull: from a name to an image that is here, whole, and recorded.

Owns: the steps and their order.  Must not: speak HTTP, parse archives, or know the collection.
Flow: resolve → manifest (through indexes) → config → pin everything → layers, two at a time,
largest first → record image and name in one durable transaction.

Everything that is found present is looked for after it was pinned, so no collector removes it
meanwhile.  Killed at any moment, a pull leaves verified blobs, whole trees, partial files that
the next one resumes, and a dead pin: no image, no name.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import attrs

from containerkit.errors import (
    BlobNotFound,
    ContainerKitError,
    CorruptContent,
    HostError,
    ImageNotFound,
    InvalidSpec,
    SizeMismatch,
)
from containerkit.images import records
from containerkit.images.layer import Store, bring_layer, fetch_into
from containerkit.images.records import ImageRecord, LayerRecord
from containerkit.images.workers import run_tasks
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.image_config import ImageConfig
from containerkit.model.image_limits import ImageLimits
from containerkit.model.manifest import Manifest, parse_manifest
from containerkit.model.platform import Platform
from containerkit.model.progress import Action, Progress
from containerkit.model.reference import Reference
from containerkit.state import events
from containerkit.state.pin import Pin

if TYPE_CHECKING:
    from containerkit.content.store import ContentStore
    from containerkit.images.snapshotter import Snapshotter
    from containerkit.images.source import Source
    from containerkit.model.descriptor import Descriptor
    from containerkit.state.catalog import Catalog
    from containerkit.state.root import StoreRoot

# Two trees grow at a time: they are independent, and a third would only wait for the two cores'
# worth of threads that each keeps busy (docs/decisions).
_LAYERS_AT_A_TIME = 2
_INDEX_DEPTH = 3


class _Target(NamedTuple):
    """What the name led to."""

    digest: Digest
    source: Digest
    data: bytes
    manifest: Manifest


def _usual(limits: ImageLimits | None) -> ImageLimits:
    return ImageLimits() if limits is None else limits


@attrs.define(eq=False)
class Pull:
    """One pull; ``run`` does it.

    Args:
        reference: what to pull.
        platform: None: this host's, and an image without index is taken as it is.
        source: the registries.
        limits: what the image may be; None: the usual ones.
        deliver: called with each event, in this thread.
        cancelled: set it to end early.
    """

    root: StoreRoot
    catalog: Catalog
    content: ContentStore
    snapshots: Snapshotter
    reference: Reference
    platform: Platform | None
    source: Source
    limits: ImageLimits = attrs.field(converter=_usual)
    deliver: Callable[[Progress], object]
    cancelled: threading.Event

    def run(self) -> Digest:
        """Pull; return the manifest digest of the image, which is recorded under its name."""
        with Pin(self.root, self.catalog) as pin:
            target = self._resolve(pin)
            self._say("resolve", detail=f"{self._repository()}@{target.digest}")
            config = self._config(target.manifest.config, pin)
            image = self._image(target, config)
            pin.add(one for layer in image.layers for one in (layer.digest, layer.chain_id))
            self._bring(image)
            self.content.put(target.data, target.digest)
            self._record(image, target.source)
        told = str(target.manifest.config.digest)
        events.append(self.root.path, "pull", told, image=str(self.reference))
        self._say("done", detail=f"{self._repository()}@{target.digest}")
        return image.digest

    # ---- the manifest

    def _resolve(self, pin: Pin) -> _Target:
        source = self._known_source()
        known = None if source is None else records.find_name(self.catalog, str(self.reference))
        if (
            known is not None
            and known.source == source
            and self._fits(known.image, self.platform or Platform.host())
        ):
            pin.add([known.image])
            kept = self._kept(known.image, self.limits.manifest)
            manifest = None if kept is None else parse_manifest(kept, None, limits=self.limits)
            if kept is not None and isinstance(manifest, Manifest):
                return _Target(known.image, known.source, kept, manifest)
        data, descriptor = self.source.manifest()
        top = descriptor.digest
        for _ in range(_INDEX_DEPTH):
            manifest = parse_manifest(data, descriptor.media_type, limits=self.limits)
            if isinstance(manifest, Manifest):
                pin.add([descriptor.digest])
                return _Target(descriptor.digest, top, data, manifest)
            chosen = manifest.select(self.platform or Platform.host(), of=str(self.reference))
            # Put here by an earlier pull, under this or another name, or fetched now.
            pin.add([chosen.digest])
            kept = self._kept(chosen.digest, self.limits.manifest)
            data, descriptor = self.source.manifest(chosen) if kept is None else (kept, chosen)
            _check_size(chosen, len(data))
        raise InvalidSpec(f"an index within an index, {_INDEX_DEPTH} deep, is not followed")

    def _known_source(self) -> Digest | None:
        """Return what the name means now, asking the registry only if the name is here already."""
        if self.reference.digest is not None:
            return self.reference.digest
        if records.find_name(self.catalog, str(self.reference)) is None:
            return None
        return self.source.resolve().digest

    def _fits(self, image: Digest, wanted: Platform) -> bool:
        found = records.load(self.catalog, [image])
        return bool(found) and wanted.matches(Platform.parse(found[0].platform))

    def _kept(self, digest: Digest, limit: int) -> bytes | None:
        """Return a small blob that is here; None when it is not, or the disk changed it."""
        try:
            return self.content.read(digest, limit)
        except BlobNotFound:
            return None
        except CorruptContent:
            self.content.remove(digest)
            return None

    # ---- the config

    def _config(self, descriptor: Descriptor, pin: Pin) -> ImageConfig:
        pin.add([descriptor.digest])
        data = self._kept(descriptor.digest, self.limits.config)
        if data is None:
            data = self._fetch_config(descriptor)
        _check_size(descriptor, len(data))
        return ImageConfig.parse(data, limit=self.limits.config, layers=self.limits.layers)

    def _fetch_config(self, descriptor: Descriptor) -> bytes:
        with self.content.ingest(descriptor, cancelled=self.cancelled) as ingest:
            if ingest.complete and not ingest.done:
                with contextlib.suppress(CorruptContent):
                    ingest.commit()  # all of it came before the last pull was killed
            if not ingest.done:
                fetch_into(ingest, self.source, descriptor)
        return self.content.read(descriptor.digest, self.limits.config)

    def _image(self, target: _Target, config: ImageConfig) -> ImageRecord:
        layers = target.manifest.layers
        if len(layers) != len(config.diff_ids):
            raise InvalidSpec(
                f"the manifest has {len(layers)} layers, its config {len(config.diff_ids)}"
            )
        platform = Platform(config.os, config.architecture or "unknown", config.variant)
        if self.platform is not None and not self.platform.matches(platform):
            raise ImageNotFound(f"the image is for {platform}, not for {self.platform}")
        if config.os != "linux":
            raise ImageNotFound(
                f"the image is for {platform}: only images for Linux can run here",
                hint="platform= chooses another image, if the registry has one for Linux",
            )
        chain = chain_ids(config.diff_ids)
        return ImageRecord(
            target.digest,
            target.manifest.config.digest,
            target.manifest.media_type,
            str(platform),
            len(target.data) + target.manifest.size,
            tuple(
                LayerRecord(layer.digest, layer.media_type, layer.size, diff_id, chain_id)
                for layer, diff_id, chain_id in zip(layers, config.diff_ids, chain, strict=True)
            ),
        )

    # ---- the layers

    def _bring(self, image: ImageRecord) -> None:
        usable = self.snapshots.usable([layer.chain_id for layer in image.layers])
        wanted: list[LayerRecord] = []
        here: list[Digest] = []
        for layer in image.layers:
            if layer.chain_id in usable and self.content.contains(layer.digest):
                self._say("exists", layer)
                here.append(layer.chain_id)
            else:
                self._say("download", layer, current=0)
                wanted.append(layer)
        if not wanted:
            return
        from containerkit.layers.apply import Allowance  # with the codecs: not for what is here

        entries, size = records.unpacked(self.catalog, here)
        allowance = Allowance(self.limits, entries=entries, size=size)
        store = Store(self.content, self.snapshots, self.limits, allowance)

        def task(layer: LayerRecord) -> Callable[[Callable[[Progress], None]], None]:
            return lambda emit: bring_layer(
                layer,
                store,
                self.source,
                reference=str(self.reference),
                emit=emit,
                cancelled=self.cancelled,
            )

        run_tasks(
            [task(layer) for layer in sorted(wanted, key=lambda one: -one.size)],
            workers=_LAYERS_AT_A_TIME,
            cancelled=self.cancelled,
            deliver=self.deliver,
        )
        self.snapshots.settle_later()

    # ---- the record

    def _record(self, image: ImageRecord, source: Digest) -> None:
        """Record the image under its name, or beside the one of this host that has the name.

        A name means this host's image.  Those of other platforms of the same index are held under
        their own digests.
        """
        known = records.find_name(self.catalog, str(self.reference))
        moves = known is not None and known.image != image.digest
        name = self.reference
        if moves and self.platform is not None and known is not None:
            here = Platform.host().matches(Platform.parse(image.platform))
            if not here and self._fits(known.image, Platform.host()):
                name, moves = self._pinned(image.digest), False
        if records.find_name(self.catalog, str(name)) == records.Name(image.digest, source):
            return
        with self.catalog.transaction() as db:
            records.record(db, image, time.time())
            if moves and known is not None and known.source == source:  # one index: both stay
                with contextlib.suppress(ImageNotFound):  # removed meanwhile
                    records.name(db, self._pinned(known.image), *known)
            records.name(db, name, image.digest, source)
        self.catalog.tidy()

    def _pinned(self, image: Digest) -> Reference:
        return Reference(self.reference.registry, self.reference.repository, None, image)

    def _repository(self) -> str:
        return f"{self.reference.registry}/{self.reference.repository}"

    def _say(
        self,
        action: Action,
        layer: LayerRecord | None = None,
        *,
        current: int | None = None,
        detail: str = "",
    ) -> None:
        self.deliver(
            Progress(
                action,
                str(self.reference),
                None if layer is None else layer.digest,
                (0 if layer is None else layer.size) if current is None else current,
                None if layer is None else layer.size,
                detail,
            )
        )


def _check_size(descriptor: Descriptor, size: int) -> None:
    """Refuse content that was here already under another size than it is said to have."""
    if size != descriptor.size:
        raise SizeMismatch(
            f"{descriptor.digest} has {size} bytes, not the {descriptor.size} that it is said to have",
            hint="who made the image, or the registry, has changed what refers to it",
            expected=descriptor.size,
            actual=size,
        )


@contextlib.contextmanager
def in_context(attempt: str) -> Iterator[None]:
    """Begin the messages of errors with what was attempted; the host's own become HostError."""
    import copy

    try:
        yield
    except ContainerKitError as e:
        if e.message.startswith("cannot pull"):
            raise  # the registry client has said it already
        told = copy.copy(e)
        told.message = f"{attempt}: {e.message}"
        told.args = (told.message,)
        try:
            raise told from e
        finally:
            del told  # it holds this frame, and its cause what was open
    except OSError as e:
        raise HostError(f"{attempt}: {e.strerror or e}", errno=e.errno) from e
