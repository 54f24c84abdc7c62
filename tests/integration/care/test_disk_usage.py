"""`disk_usage` says where the bytes are."""

from __future__ import annotations

import os

from containerkit.care.disk_usage import disk_usage
from containerkit.model.usage import Space
from tests.support import ocibuild
from tests.support.registry import RegistryServer
from tests.support.store import Store


def test_blobs_and_trees(store: Store, registry: RegistryServer) -> None:
    assert disk_usage(store.root.path).images == Space(0, 0)
    data = os.urandom(1 << 20)
    image = ocibuild.image([{"a": data, "b": ocibuild.hardlink("a")}, {"c": "c"}])
    store.images.pull(registry.push("usage/a", image))
    usage = disk_usage(store.root.path)
    assert usage.images.count == 4
    assert usage.layers.count == 2
    assert 1 << 20 <= usage.images.size < 2 << 20
    assert 1 << 20 <= usage.layers.size < 2 << 20, "a file with two names counts once"
    assert usage.containers == Space(0, 0)
    assert usage.total >= 2 << 20
    assert str(usage).splitlines()[0].startswith("images")


def test_what_is_on_its_way_is_cache(store: Store) -> None:
    before = disk_usage(store.root.path).cache
    (store.root.ingest / "sha256-ab").write_bytes(b"x" * 100_000)
    (store.root.layers / ".ingest-ab").mkdir()
    (store.root.layers / ".ingest-ab" / "file").write_bytes(b"x" * 100_000)
    after = disk_usage(store.root.path).cache
    assert after.count == before.count + 2
    assert after.size >= before.size + 200_000


def test_a_sparse_file_takes_what_it_takes(store: Store) -> None:
    directory = store.root.path / "containers" / ("cd" * 32) / "upper"
    directory.mkdir(parents=True)
    with (directory / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    usage = disk_usage(store.root.path)
    assert usage.containers.count == 1
    assert usage.containers.size < 1 << 20
