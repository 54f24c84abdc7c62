"""Trees are made by one, used by many, and survive nothing that might have damaged them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import ImageNotFound
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest, chain_ids
from containerkit.model.rootfs import Overlay
from tests.support.store import Store, opened

LOW, HIGH = Digest.of(b"low"), Digest.of(b"high")
CHAIN = chain_ids([LOW, HIGH])


@pytest.fixture
def store(engine_root: Path) -> Iterator[Store]:
    with opened(engine_root) as store:
        yield store


def make(store: Store, chain_id: Digest, text: str = "x") -> None:
    with store.snapshots.unpack(chain_id) as unpacking:
        assert not unpacking.done
        (unpacking.destination / "file").write_text(text)
        unpacking.publish(
            diff_id=LOW, blob=Descriptor("layer", Digest.of(b"blob"), 4), size=1, entries=1
        )


def reboot(store: Store) -> None:
    """Let the catalog say what it says after the host started again."""
    with store.catalog.transaction() as db:
        db.execute("UPDATE layers SET boot = 'another'")


def test_a_published_tree_is_usable_and_described_as_a_mount(store: Store) -> None:
    assert store.snapshots.usable(CHAIN) == frozenset()
    for chain_id in CHAIN:
        make(store, chain_id)
    assert store.snapshots.usable(CHAIN) == frozenset(CHAIN)
    lowers = tuple(f"layers/{chain_id.encoded}" for chain_id in reversed(CHAIN))
    assert store.snapshots.rootfs(CHAIN).mounts == (Overlay("/", lowers),)
    assert store.debris() == []


@pytest.mark.parametrize("mark", ["trusted", "user"])
def test_a_layer_that_hides_all_below_it(store: Store, mark: str) -> None:
    """Which overlayfs asks of directories in it only, not of itself."""
    if mark == "trusted" and os.geteuid():
        pytest.skip("needs CAP_SYS_ADMIN to mark it as root does")
    for chain_id in CHAIN:
        make(store, chain_id)
    os.setxattr(store.snapshots.path(CHAIN[-1]), f"{mark}.overlay.opaque", b"y")
    lowers = (f"layers/{CHAIN[-1].encoded}",)
    assert store.snapshots.rootfs(CHAIN).mounts == (Overlay("/", lowers),)


def test_an_image_without_layers_has_an_empty_lower_directory(store: Store) -> None:
    (overlay,) = store.snapshots.rootfs(()).mounts
    assert isinstance(overlay, Overlay)
    assert os.listdir(store.root.path / overlay.lowers[0]) == []
    store.snapshots.lease(()).release()


def test_a_failed_unpacking_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.snapshots.unpack(CHAIN[0]) as unpacking:
        (unpacking.destination / "file").touch()
        raise ZeroDivisionError
    assert (store.trees(), store.debris()) == (set(), [])


def test_a_second_unpacking_waits_and_finds_it_done(store: Store) -> None:
    seen: list[bool] = []

    def second() -> None:
        with store.snapshots.unpack(CHAIN[0]) as unpacking:
            seen.append(unpacking.done)

    thread = threading.Thread(target=second)
    with store.snapshots.unpack(CHAIN[0]) as unpacking:
        thread.start()
        unpacking.publish(
            diff_id=LOW, blob=Descriptor("layer", Digest.of(b"blob"), 4), size=1, entries=1
        )
    thread.join()
    assert seen == [True]


def test_a_tree_without_a_row_is_made_again(store: Store) -> None:
    assert store.snapshots.usable(CHAIN) == frozenset()
    path = store.snapshots.path(CHAIN[0])
    path.mkdir()
    (path / "half").touch()
    assert store.snapshots.usable(CHAIN) == frozenset()
    make(store, CHAIN[0])
    assert os.listdir(path) == ["file"]


def test_a_tree_of_an_earlier_boot_counts_only_when_it_was_synced(store: Store) -> None:
    make(store, CHAIN[0])
    store.snapshots.settle()
    make(store, CHAIN[1])
    reboot(store)
    assert store.snapshots.usable(CHAIN) == {CHAIN[0]}
    make(store, CHAIN[1], "again")
    assert (store.snapshots.path(CHAIN[1]) / "file").read_text() == "again"
    assert store.snapshots.usable(CHAIN) == frozenset(CHAIN)


def test_a_syncfs_marks_only_what_it_covered(store: Store) -> None:
    make(store, CHAIN[0])
    store.snapshots.settle()
    make(store, CHAIN[1])
    assert store.catalog.rows("SELECT chain_id FROM layers WHERE durable") == [(str(CHAIN[0]),)]


def test_closing_does_not_wait_for_a_later_syncfs(store: Store) -> None:
    make(store, CHAIN[0])
    running = threading.active_count()
    store.snapshots.settle_later()
    store.snapshots.close()
    assert threading.active_count() == running
    assert store.catalog.rows("SELECT durable FROM layers") == [(0,)]


def test_a_leased_layer_is_not_collected_and_an_idle_one_is(store: Store) -> None:
    for chain_id in CHAIN:
        make(store, chain_id)
    lease = store.snapshots.lease(CHAIN)
    also = store.snapshots.lease([CHAIN[0]])
    lease.release()
    assert store.images.gc().layers == 1
    assert store.trees() == {CHAIN[0].encoded}
    also.release()
    also.release()
    assert store.images.gc().layers == 1
    assert store.catalog.rows("SELECT * FROM layers") == []


def test_another_engine_keeps_the_layers_it_uses(store: Store) -> None:
    make(store, CHAIN[0])
    with opened(store.root.path) as other, other.snapshots.lease([CHAIN[0]]):
        assert store.images.gc().layers == 0
        assert (store.snapshots.path(CHAIN[0]) / "file").exists()
    assert store.images.gc().layers == 1


def test_a_layer_that_is_gone_can_not_be_leased(store: Store) -> None:
    make(store, CHAIN[0])
    with pytest.raises(ImageNotFound, match=CHAIN[1].encoded):
        store.snapshots.lease(CHAIN)
    assert store.images.gc().layers == 1, "the failed lease still holds the first layer"


def test_a_forked_child_owns_no_lease(store: Store) -> None:
    make(store, CHAIN[0])
    store.snapshots.lease([CHAIN[0]])
    told, telling = os.pipe()
    release, releasing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(telling, b"x")
        os.read(release, 1)
        os._exit(0)
    try:
        os.read(told, 1)
        store.snapshots.close()
        assert store.images.gc().layers == 1
    finally:
        os.write(releasing, b"x")
        os.waitpid(child, 0)
        for fd in (told, telling, release, releasing):
            os.close(fd)


def test_the_debris_of_killed_processes_is_collected(store: Store) -> None:
    name = CHAIN[0].encoded
    for path in (f".ingest-{name}", ".trash-1234"):
        (store.root.layers / path / "deep").mkdir(parents=True)
    (store.root.layers / f".lock-{name}").touch()
    (store.root.ingest / "lease-dead").touch()
    (store.root.ingest / f"sha256-{name}").write_bytes(b"half")
    with store.catalog.transaction() as db:
        db.execute("INSERT INTO leases VALUES ('dead', ?)", (str(LOW),))
    assert store.images.gc(debris=False).size == 0
    assert store.debris() == [f"ingest/sha256-{name}"]
    assert store.images.gc().size == 4
    assert store.debris() == []


def test_what_an_unpacking_holds_is_no_debris(store: Store) -> None:
    with store.snapshots.unpack(CHAIN[0]) as unpacking:
        (unpacking.destination / "file").touch()
        store.images.gc()
        assert (unpacking.destination / "file").exists()
