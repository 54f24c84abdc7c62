"""What a return promises a power cut: bytes are on the disk before they are named, then their name is.

The order of the calls is what counts (fdatasync(2), rename(2), fsync(2) of the directory): each is
made, and written down with the file that it was made on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from containerkit.content.store import ContentStore
from containerkit.model.descriptor import Descriptor
from containerkit.model.digest import Digest
from containerkit.state.atomic import publish_file

DATA = b"bytes"
DIGEST = Digest.of(DATA)
BLOB = Descriptor("application/octet-stream", DIGEST, len(DATA))

Called = list[tuple[str, int]]
"""Names of calls, each with the inode of its file or directory."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """Every call that syncs or names, as it is made."""
    calls: Called = []

    def spy(name: str) -> None:
        call: Callable[..., Any] = getattr(os, name)

        def noting(first: Any, *more: Any, **named: Any) -> Any:
            calls.append((name, os.stat(first).st_ino))
            return call(first, *more, **named)

        monkeypatch.setattr(os, name, noting)

    for name in ("fdatasync", "fsync", "rename", "link"):
        spy(name)
    return calls


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "ingest").mkdir()
    return ContentStore(tmp_path)


def expected(path: Path, naming: str = "rename") -> Called:
    file, directory = os.stat(path).st_ino, os.stat(path.parent).st_ino
    return [("fdatasync", file), (naming, file), ("fsync", directory)]


def test_a_blob_is_on_disk_before_it_is_named(
    store: ContentStore, tmp_path: Path, called: Called
) -> None:
    with store.ingest(BLOB) as ingest:
        ingest.write(DATA)
        ingest.commit()
    assert called == expected(tmp_path / "blobs/sha256" / DIGEST.encoded)


def test_a_draft_is_on_disk_before_it_is_named(
    store: ContentStore, tmp_path: Path, called: Called
) -> None:
    with store.draft() as draft:
        draft.write(DATA)
        draft.publish()
    path = tmp_path / "blobs/sha256" / DIGEST.encoded
    assert called in (expected(path), expected(path, "link"))


def test_a_file_is_on_disk_before_it_replaces_another(tmp_path: Path, called: Called) -> None:
    publish_file(tmp_path, "file", DATA)
    assert called == expected(tmp_path / "file")


def test_what_need_not_last_waits_for_no_disk(tmp_path: Path, called: Called) -> None:
    """The control: what is written down is what was called."""
    publish_file(tmp_path, "file", DATA, durable=False)
    assert called == [("rename", os.stat(tmp_path / "file").st_ino)]
