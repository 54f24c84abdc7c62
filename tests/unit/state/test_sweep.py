"""A collection decides and removes while nobody pins: a pull that found a blob keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerkit.errors import Timeout
from containerkit.model.digest import Digest
from containerkit.snapshots import gc
from tests.support.store import opened


def test_a_collection_waits_for_who_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "_SWEEP_SECONDS", 0.0)
    with opened(tmp_path / "root") as store:
        parts = (store.root, store.catalog, store.content, store.snapshots)
        digest = Digest.of(b"data")
        store.content.put(b"data", digest)
        with store.root.sweep_lock(shared=True).acquire(), pytest.raises(Timeout):
            gc.collect(*parts)
        assert store.content.contains(digest)
        assert gc.collect(*parts).blobs == 1
        assert not store.content.contains(digest)
