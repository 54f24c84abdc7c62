"""One layer: from the network, through digest check and unpacking, to a published tree.

Owns: the order of these steps, and what is kept when one fails.  Must not: choose layers.
Neighbours: `images.source` gives bytes, `content` keeps them, `layers` unpacks them, `snapshots`
publishes the tree; `images.pull` runs two of these at a time.

Each byte is read once: a chunk from the network is hashed and written to the ingest file, and the
same chunk goes on to the decompressor.  Only when the blob's digest and the tar's held does either
get its name.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from containerkit.errors import LIMIT_HINT, BlobNotFound, CorruptContent, UnsafePath
from containerkit.model.progress import Action, Progress
from containerkit.state import userns

if TYPE_CHECKING:
    from containerkit.content.ingest import Ingest
    from containerkit.content.store import ContentStore
    from containerkit.images.records import LayerRecord
    from containerkit.images.snapshotter import Snapshotter, Unpacking
    from containerkit.layers.apply import Allowance, AppliedLayer
    from containerkit.model.descriptor import Descriptor
    from containerkit.model.image_limits import ImageLimits

Emit = Callable[[Progress], object]

# An event for every chunk would be hundreds a second: one for each of these many bytes is enough
# for a smooth bar.
_STEP = 1 << 20

_TWICE = "it was fetched twice: the registry, or what stands before it, sends other bytes"


class BlobSource(Protocol):
    """Where bytes come from: a registry."""

    def chunks(
        self, descriptor: Descriptor, offset: int, *, again: bool = False
    ) -> Iterator[bytes]:
        """Yield the blob's bytes from *offset* on; *again*: what came before was wrong."""
        ...


class Store(NamedTuple):
    """The places a layer goes to, and what it may be.

    ``limits`` None: whatever it was once, when it came here and was within some.
    """

    content: ContentStore
    snapshots: Snapshotter
    limits: ImageLimits | None = None
    allowance: Allowance | None = None


class _Meter:
    """Turns byte counts into progress events, not too many."""

    __slots__ = ("_action", "_current", "_emit", "_event", "_said")

    def __init__(self, emit: Emit, event: Progress, action: Action) -> None:
        self._emit = emit
        self._event = event
        self._action = action
        self._current = 0
        self._said = 0

    def add(self, count: int) -> None:
        self._current += count
        if self._current - self._said >= _STEP:
            self.say()

    def say(self) -> None:
        if self._said == self._current:
            return
        self._said = self._current
        event = self._event
        self._emit(
            Progress(self._action, event.reference, event.digest, self._current, event.total)
        )


def bring_layer(
    layer: LayerRecord,
    store: Store,
    source: BlobSource | None,
    *,
    reference: str,
    emit: Emit,
    cancelled: threading.Event,
) -> None:
    """Make sure that the layer's tree is here, fetching its blob only if it has to be.

    Args:
        layer: what to bring.
        store: where it goes.
        source: None: only from the blob that is here.
        reference: for the events.
        emit: takes the events.
        cancelled: set it to end early; the bytes so far stay for the next try.

    Raises:
        CorruptContent: blob or tar are not what the image says; nothing is kept.
        BlobNotFound: there is no blob here, and no source.
        RegistryError: the transfer failed; the bytes so far stay.
    """
    event = Progress("done", reference, layer.digest, layer.size, layer.size)
    with store.snapshots.unpack(layer.chain_id, cancelled=cancelled) as unpacking:
        if unpacking.done:
            if source is not None and not store.content.contains(layer.digest):
                _fetch_blob(layer, store, source, event, emit, cancelled)
            emit(Progress("exists", reference, layer.digest, layer.size, layer.size))
            return
        bringing = _Bringing(layer, store, unpacking, event, emit, cancelled)
        applied = bringing.from_store()
        if applied is None:
            if source is None:
                raise BlobNotFound(
                    f"cannot unpack layer {layer.digest}: its blob is not in the store",
                    hint="pull the image again",
                )
            applied = bringing.from_source(source)
        emit(Progress("verify", reference, layer.digest, layer.size, layer.size))
        unpacking.publish(
            diff_id=layer.diff_id,
            blob=layer.descriptor,
            size=applied.size,
            entries=applied.entries,
        )
    emit(event)


def restore_layer(layer: LayerRecord, store: Store) -> None:
    """Unpack a layer again from the blob that is here.

    Raises:
        BlobNotFound: it is not, or the disk changed it.
    """
    bring_layer(
        layer,
        store,
        None,
        reference=str(layer.digest),
        emit=lambda _: None,
        cancelled=threading.Event(),
    )


def apply_again(layer: LayerRecord, store: Store, unpacking: Unpacking) -> AppliedLayer:
    """Unpack a layer's blob into a directory, whatever its tree is like; publish nothing.

    Raises:
        BlobNotFound, CorruptContent: there is no blob here, or not that of this layer.
    """
    event = Progress("done", str(layer.digest), layer.digest, layer.size, layer.size)
    bringing = _Bringing(layer, store, unpacking, event, lambda _: None, threading.Event())
    return bringing._apply(store.content.chunks(layer.digest))


def _fetch_blob(
    layer: LayerRecord,
    store: Store,
    source: BlobSource,
    event: Progress,
    emit: Emit,
    cancelled: threading.Event,
) -> None:
    """Bring the blob of a layer whose tree is here: a check found it changed, and removed it."""
    meter = _Meter(emit, event, "download")
    with store.content.ingest(layer.descriptor, cancelled=cancelled) as ingest:
        if ingest.done:
            return
        fetch_into(ingest, source, layer.descriptor, meter.add)
    meter.say()


def fetch_into(
    ingest: Ingest,
    source: BlobSource,
    descriptor: Descriptor,
    add: Callable[[int], object] = lambda _: None,
) -> None:
    """Bring a whole blob; once more when what came is not what its descriptor says.

    Args:
        ingest: takes the bytes; what it has is thrown away, and nothing is left in it by an error.
        source: gives them.
        descriptor: of the blob.
        add: called with the length of each chunk.

    Raises:
        DigestMismatch, SizeMismatch: the second time, too.
        RegistryError, BlobNotFound, HostError: as it came.
    """
    for again in (False, True):
        ingest.restart()
        try:
            for chunk in source.chunks(descriptor, 0, again=again):
                ingest.write(chunk)
                add(len(chunk))
            ingest.commit()
            return
        except CorruptContent as error:
            ingest.restart()
            if again:
                error.hint = error.hint or _TWICE
                raise
        except BaseException:
            ingest.restart()
            raise


def _is_no_accident(error: CorruptContent) -> bool:
    """Whether an image is as it was meant to be, and not changed on the way."""
    return error.hint == LIMIT_HINT or isinstance(error, UnsafePath)


class _Bringing:
    """The two ways of one layer into one directory."""

    def __init__(
        self,
        layer: LayerRecord,
        store: Store,
        unpacking: Unpacking,
        event: Progress,
        emit: Emit,
        cancelled: threading.Event,
    ) -> None:
        self._layer = layer
        self._store = store
        self._content = store.content
        self._unpacking = unpacking
        self._event = event
        self._emit = emit
        self._cancelled = cancelled

    def from_store(self) -> AppliedLayer | None:
        """Unpack the blob that is here; None when there is none, or the disk changed it."""
        digest = self._layer.digest
        if not self._content.contains(digest):
            return None
        try:
            return self._apply(self._content.chunks(digest))
        except CorruptContent:
            if self._is_intact():
                raise
            self._content.remove(digest)
            self._unpacking.clear()
            return None

    def from_source(self, source: BlobSource) -> AppliedLayer:
        """Fetch, check and unpack at once, beginning with what an earlier try left.

        What comes broken is fetched once more, unless its digest holds: then the image is wrong.
        """
        with self._content.ingest(self._layer.descriptor, cancelled=self._cancelled) as ingest:
            if ingest.done:
                return self._apply(self._content.chunks(self._layer.digest))
            # What an earlier try left may be what is wrong (a power cut leaves holes).
            tries = [False, False, True] if ingest.offset > 0 else [False, True]
            while True:
                again = tries.pop(0)
                try:
                    return self._fetch(source, ingest, again=again)
                except CorruptContent as error:
                    right, complete = ingest.is_right, ingest.complete
                    ingest.restart()
                    if right or _is_no_accident(error):
                        raise
                    if not tries:
                        if complete or not error.hint:  # an archive cut short may be no archive
                            error.hint = _TWICE
                        raise
                self._unpacking.clear()

    def _fetch(self, source: BlobSource, ingest: Ingest, *, again: bool) -> AppliedLayer:
        applied = self._apply(self._download(source, ingest, again=again))
        ingest.commit()
        return applied

    def _download(self, source: BlobSource, ingest: Ingest, *, again: bool) -> Generator[bytes]:
        meter = _Meter(self._emit, self._event, "download")
        for chunk in ingest.existing():
            meter.add(len(chunk))
            yield chunk
        if not ingest.complete:
            for chunk in source.chunks(self._layer.descriptor, ingest.offset, again=again):
                ingest.write(chunk)
                meter.add(len(chunk))
                yield chunk
        meter.say()

    def _apply(self, chunks: Generator[bytes]) -> AppliedLayer:
        # Lazily: a process that only runs what is here never loads the codecs.
        from containerkit.layers.apply import apply_layer
        from containerkit.model.image_limits import widest

        meter = _Meter(self._emit, self._event, "extract")
        with contextlib.closing(chunks):
            applied = apply_layer(
                chunks,
                media_type=self._layer.media_type,
                diff_id=self._layer.diff_id,
                destination=self._unpacking.destination,
                limits=self._store.limits or widest(),
                allowance=self._store.allowance,
                whiteout_format="overlay-trusted"
                if userns.marks() == "trusted"
                else "overlay-user",
                namespace_of=self._unpacking.root if userns.is_needed() else None,
                progress=meter.add,
                cancelled=self._cancelled,
            )
            # The blob may go on after the end of the archive, and its digest covers all of it.
            for chunk in chunks:
                meter.add(len(chunk))
        meter.say()
        return applied

    def _is_intact(self) -> bool:
        try:
            for _ in self._content.chunks(self._layer.digest):
                pass
        except CorruptContent:
            return False
        return True
