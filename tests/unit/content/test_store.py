"""Blobs are named when they are right, resumed when they were cut, removed when they are wrong."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from containerkit.content.store import ContentStore
from containerkit.errors import BlobNotFound, DigestMismatch, SizeMismatch, Timeout
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest

DATA = bytes(range(256)) * 4000
DIGEST = Digest.of(DATA)
BLOB = Descriptor("application/octet-stream", DIGEST, len(DATA))


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "ingest").mkdir()
    return ContentStore(tmp_path)


def partial(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "ingest")


def cut(store: ContentStore, length: int, *, data: bytes = DATA) -> None:
    """Leave what a pull killed after *length* bytes leaves."""
    with store.ingest(BLOB) as ingest:
        ingest.write(data[:length])


def test_what_is_put_is_read_back(store: ContentStore, tmp_path: Path) -> None:
    store.put(DATA, DIGEST)
    store.put(DATA, DIGEST)
    assert store.read(DIGEST, len(DATA)) == DATA
    assert b"".join(store.chunks(DIGEST)) == DATA
    assert store.list() == (DIGEST,)
    assert (store.contains(DIGEST), store.size(DIGEST)) == (True, len(DATA))
    assert (tmp_path / "blobs/sha256" / DIGEST.encoded).stat().st_mode & 0o777 == 0o600


def test_other_bytes_than_the_name_says_are_not_put(store: ContentStore) -> None:
    with pytest.raises(DigestMismatch) as caught:
        store.put(b"other", DIGEST)
    assert caught.value.expected == str(DIGEST)
    assert store.list() == ()


def test_sha512_blobs_live_beside(store: ContentStore) -> None:
    hasher = Digest("sha512", "0" * 128).hasher()
    hasher.update(DATA)
    digest = Digest("sha512", hasher.hexdigest())
    store.put(DATA, digest)
    assert store.list() == (digest,)
    assert store.read(digest, len(DATA)) == DATA


def test_missing_blobs_are_named(store: ContentStore) -> None:
    for attempt in (store.open, store.size, store.remove):
        with pytest.raises(BlobNotFound, match=DIGEST.encoded):
            attempt(DIGEST)


def test_a_blob_longer_than_the_limit_is_not_read(store: ContentStore) -> None:
    store.put(DATA, DIGEST)
    with pytest.raises(SizeMismatch):
        store.read(DIGEST, 10)


def test_bits_lost_on_disk_are_noticed(store: ContentStore) -> None:
    store.put(DATA, DIGEST)
    with open(store.path(DIGEST), "r+b") as file:
        file.write(b"\xff")
    with pytest.raises(DigestMismatch):
        store.read(DIGEST, len(DATA))
    with pytest.raises(DigestMismatch):
        list(store.chunks(DIGEST))


def test_an_ingest_gives_the_name_at_the_end(store: ContentStore, tmp_path: Path) -> None:
    with store.ingest(BLOB) as ingest:
        for start in range(0, len(DATA), 100_000):
            ingest.write(DATA[start : start + 100_000])
            assert store.list() == ()
        ingest.commit()
        assert ingest.done
    assert store.read(DIGEST, len(DATA)) == DATA
    assert partial(tmp_path) == []


def test_a_cut_ingest_goes_on_where_it_stopped(store: ContentStore, tmp_path: Path) -> None:
    cut(store, 300_000)
    assert partial(tmp_path) == [f"sha256-{DIGEST.encoded}"]
    with store.ingest(BLOB) as ingest:
        assert ingest.offset == 300_000
        assert b"".join(ingest.existing()) == DATA[:300_000]
        ingest.write(DATA[300_000:])
        ingest.commit()
    assert store.read(DIGEST, len(DATA)) == DATA


def test_resumed_bytes_are_hashed_even_when_nobody_reads_them(store: ContentStore) -> None:
    cut(store, 300_000)
    with store.ingest(BLOB) as ingest:
        ingest.write(DATA[300_000:])
        ingest.commit()
    cut_and_rotten = bytes(300_000)
    store.remove(DIGEST)
    cut(store, 300_000, data=cut_and_rotten)
    with store.ingest(BLOB) as ingest:
        ingest.write(DATA[300_000:])
        with pytest.raises(DigestMismatch):
            ingest.commit()
        assert ingest.offset == 0
        ingest.write(DATA)
        ingest.commit()
    assert store.read(DIGEST, len(DATA)) == DATA


def test_wrong_bytes_leave_nothing(store: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch), store.ingest(BLOB) as ingest:
        ingest.write(bytes(len(DATA)))
        ingest.commit()
    assert (partial(tmp_path), store.list()) == ([], ())


def test_too_many_bytes_leave_nothing(store: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(SizeMismatch), store.ingest(BLOB) as ingest:
        ingest.write(DATA)
        ingest.write(b"!")
    assert (partial(tmp_path), store.list()) == ([], ())


def test_too_few_bytes_are_not_a_blob_but_can_become_one(
    store: ContentStore, tmp_path: Path
) -> None:
    with pytest.raises(SizeMismatch) as caught, store.ingest(BLOB) as ingest:
        ingest.write(DATA[:10])
        ingest.commit()
    assert (caught.value.expected, caught.value.actual) == (len(DATA), 10)
    assert partial(tmp_path) == [f"sha256-{DIGEST.encoded}"]
    assert store.list() == ()


def test_a_partial_file_longer_than_the_blob_is_thrown_away(
    store: ContentStore, tmp_path: Path
) -> None:
    (tmp_path / f"ingest/sha256-{DIGEST.encoded}").write_bytes(DATA + b"!")
    with store.ingest(BLOB) as ingest:
        assert ingest.offset == 0


def test_the_second_ingest_waits_and_finds_it_done(store: ContentStore, tmp_path: Path) -> None:
    entered = threading.Event()
    seen: list[bool] = []

    def second() -> None:
        entered.set()
        with store.ingest(BLOB) as ingest:
            seen.append(ingest.done)

    thread = threading.Thread(target=second)
    with store.ingest(BLOB) as ingest:
        thread.start()
        assert entered.wait(120)
        with pytest.raises(Timeout), store.ingest(BLOB, deadline=time.monotonic()):
            pass
        ingest.write(DATA)
        ingest.commit()
    thread.join()
    assert seen == [True]
    assert partial(tmp_path) == []


def test_debris_goes_and_what_is_held_stays(store: ContentStore, tmp_path: Path) -> None:
    cut(store, 1000)
    other = Descriptor("x", Digest.of(b"other"), 5)
    with store.ingest(other) as ingest:
        ingest.write(b"oth")
        assert store.remove_debris() == 1000
        assert partial(tmp_path) == [f"sha256-{other.digest.encoded}"]


def test_an_empty_blob_is_a_blob(store: ContentStore, tmp_path: Path) -> None:
    empty = Descriptor("x", Digest.of(b""), 0)
    with store.ingest(empty) as ingest:
        ingest.commit()
    assert store.read(empty.digest, 0) == b""
    assert partial(tmp_path) == []


@pytest.fixture(params=["nameless", "named"])
def drafting(
    request: pytest.FixtureRequest, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> ContentStore:
    """A store that drafts blobs without names, and as on a file system that can not."""
    if request.param == "named":
        real = os.open

        def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *rest, **more)

        monkeypatch.setattr("containerkit.content.draft.os.open", refuse)
    return store


def test_a_draft_gets_the_name_of_what_was_written(drafting: ContentStore, tmp_path: Path) -> None:
    for _ in range(2):  # the second finds it there
        with drafting.draft() as draft:
            for start in range(0, len(DATA), 100_000):
                draft.write(DATA[start : start + 100_000])
            assert (draft.digest, draft.size) == (DIGEST, len(DATA))
            draft.publish()
        assert drafting.read(DIGEST, len(DATA)) == DATA
        assert partial(tmp_path) == []


def test_a_draft_that_is_not_published_is_gone(drafting: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(KeyError), drafting.draft() as draft:
        draft.write(DATA)
        assert drafting.remove_debris() == 0  # it is in use
        raise KeyError
    assert partial(tmp_path) == []
    assert drafting.list() == ()
