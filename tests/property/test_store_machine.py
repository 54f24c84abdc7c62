"""A store under any sequence of puts, names, removals, collections and reopenings is as a dict."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from containerkit.errors import ImageNotFound, InUse
from containerkit.images import records
from containerkit.images.records import ImageRecord, LayerRecord
from containerkit.model.descriptor import OCI_LAYER, OCI_MANIFEST, Descriptor
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.reference import Reference
from containerkit.state.pin import Pin
from tests.support.store import Store, opened

NAMES = [f"docker.io/library/name:{number}" for number in range(4)]


def manifest_of(layers: tuple[int, ...]) -> bytes:
    return b"manifest of " + bytes(layers)


class StoreMachine(RuleBasedStateMachine):
    """The model: images by digest, each with the blobs and trees it needs; names; leases."""

    images = Bundle("images")

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ck-machine-"))
        self.stack = ExitStack()
        self.needs: dict[str, tuple[set[str], set[str]]] = {}
        self.names: dict[str, str] = {}
        self.open()

    def open(self) -> None:
        self.store: Store = self.stack.enter_context(opened(self.directory / "root"))

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.directory)

    # ---- what can happen

    @rule(
        target=images, layers=st.lists(st.integers(0, 3), max_size=3).map(tuple), cut=st.booleans()
    )
    def put(self, layers: tuple[int, ...], cut: bool) -> str:
        """Bring an image here as a pull does; a cut pull stops before the record."""
        image = self.record(layers)
        with Pin(self.store.root, self.store.catalog) as pin:
            pin.add([image.digest, image.id])
            pin.add(one for layer in image.layers for one in (layer.digest, layer.chain_id))
            self.store.content.put(b"config" + bytes(layers), image.id)
            self.store.content.put(manifest_of(layers), image.digest)
            for layer, number in zip(image.layers, layers, strict=True):
                self.bring(layer, number)
            self.store.images.gc()
            if not cut:
                with self.store.catalog.transaction() as db:
                    records.record(db, image, 0.0)
                trees = {layer.chain_id.encoded for layer in image.layers}
                blobs = {layer.digest.encoded for layer in image.layers}
                blobs |= {image.digest.encoded, image.id.encoded}
                self.needs[str(image.digest)] = blobs, trees
        return str(image.digest)

    @rule(image=images, name=st.sampled_from(NAMES))
    def tag(self, image: str, name: str) -> None:
        if image in self.needs:
            self.store.images.get(image).tag(name)
            self.names[name] = image
        else:
            with pytest.raises(ImageNotFound):
                self.store.images.get(image)

    @rule(name=st.sampled_from(NAMES))
    def untag(self, name: str) -> None:
        if name in self.names:
            self.store.images.get(name).untag(name)
            del self.names[name]

    @rule(name=st.sampled_from(NAMES))
    def remove_name(self, name: str) -> None:
        if name not in self.names:
            with pytest.raises(ImageNotFound):
                self.store.images.remove(name)
            return
        self.store.images.remove(name)
        image = self.names.pop(name)
        if image not in self.names.values():
            del self.needs[image]

    @rule(image=images, force=st.booleans())
    def remove_image(self, image: str, force: bool) -> None:
        mine = [name for name, named in self.names.items() if named == image]
        if image not in self.needs:
            with pytest.raises(ImageNotFound):
                self.store.images.remove(image, force=force)
        elif len(mine) > 1 and not force:
            with pytest.raises(InUse):
                self.store.images.remove(image)
        else:
            self.store.images.remove(image, force=force)
            del self.needs[image]
            for name in mine:
                del self.names[name]

    @rule()
    def prune(self) -> None:
        nameless = set(self.needs) - set(self.names.values())
        assert set(self.store.images.prune()) == nameless
        for image in nameless:
            del self.needs[image]

    @rule(data=st.binary(min_size=1, max_size=8))
    def half_a_blob(self, data: bytes) -> None:
        descriptor = Descriptor(OCI_LAYER, Digest.of(data + b"!"), len(data) + 1)
        with self.store.content.ingest(descriptor) as ingest:
            if not ingest.done:
                ingest.restart()
                ingest.write(data)

    @rule()
    def collect(self) -> None:
        self.store.images.gc()
        assert self.store.blobs() == set().union(*(need[0] for need in self.needs.values()))
        assert self.store.trees() == set().union(*(need[1] for need in self.needs.values()))
        assert self.store.debris() == []

    @rule()
    def reopen(self) -> None:
        self.stack.close()
        self.open()

    @rule(image=images)
    def use(self, image: str) -> None:
        """A leased image is whole through a collection, removed or not."""
        if image in self.needs:
            found = self.store.images.get(image)
            with self.store.images._lease(found):
                self.store.images.gc()
                assert all(self.store.snapshots.path(one).is_dir() for one in found._chain_ids)

    # ---- what always holds

    @invariant()
    def it_says_what_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        listed = {image.digest: set(image.references) for image in self.store.images.list()}
        assert set(listed) == set(self.needs)
        for name in NAMES:
            if name in self.names:
                assert self.store.images.get(name).digest == self.names[name]
                assert name in listed[self.names[name]]
            else:
                with pytest.raises(ImageNotFound):
                    self.store.images.get(name)
        assert sum(map(len, listed.values())) == len(self.names)
        blobs, trees = self.store.blobs(), self.store.trees()
        for needed_blobs, needed_trees in self.needs.values():
            assert needed_blobs <= blobs
            assert needed_trees <= trees

    # ---- how

    def record(self, layers: tuple[int, ...]) -> ImageRecord:
        diff_ids = [Digest.of(b"tar" + bytes([number])) for number in layers]
        blobs = [Digest.of(b"blob" + bytes([number])) for number in layers]
        described = tuple(
            LayerRecord(blob, OCI_LAYER, 5, diff_id, chain_id)
            for blob, diff_id, chain_id in zip(blobs, diff_ids, chain_ids(diff_ids), strict=True)
        )
        manifest, config = Digest.of(manifest_of(layers)), Digest.of(b"config" + bytes(layers))
        return ImageRecord(manifest, config, OCI_MANIFEST, "linux/amd64", 1, described)

    def bring(self, layer: LayerRecord, number: int) -> None:
        self.store.content.put(b"blob" + bytes([number]), layer.digest)
        with self.store.snapshots.unpack(layer.chain_id) as unpacking:
            if not unpacking.done:
                (unpacking.destination / "file").write_bytes(bytes([number]))
                unpacking.publish(
                    diff_id=layer.diff_id,
                    blob=Descriptor(OCI_LAYER, layer.digest, 5),
                    size=1,
                    entries=1,
                )


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_names_are_canonical() -> None:
    assert [str(Reference.parse(name)) for name in NAMES] == NAMES
