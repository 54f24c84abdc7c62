"""A directory that a later entry replaces goes with all below it, and with nothing beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from containerkit.errors import ArchiveError, HostError
from tests.support.tars import END, Place, entry, unpack

TREE = [
    entry(b"d/", b"5", mode=0o755),
    entry(b"d/l", b"2", link=b"../../../victim"),
    entry(b"d/\xff\n/" + b"deep/" * 15 + b"f", data=b"x"),
    entry(b"d/closed/", b"5", mode=0),
    entry(b"beside", data=b"y"),
]


@pytest.mark.parametrize(
    "other",
    [entry(b"d", data=b"z"), entry(b"d", b"2", link=b"beside"), entry(b"d", b"1", link=b"beside")],
)
@pytest.mark.parametrize("openat2", [True, False])
def test_by_anything_else(tmp_path: Path, other: bytes, openat2: bool) -> None:
    place = Place(tmp_path)
    unpack(b"".join(TREE) + other + entry(b"after") + END, place.destination, openat2=openat2)
    assert sorted(path.name for path in place.destination.iterdir()) == ["after", "beside", "d"]
    assert (place.destination / "d").read_bytes() in {b"z", b"y"}
    assert not place.touched


def test_not_by_what_lies_in_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    again = entry(b"d", data=b"z") + entry(b"d/x")
    with pytest.raises(ArchiveError):
        unpack(b"".join(TREE) + again + END, place.destination)
    assert not place.touched


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "no"), OSError("no")])
def test_a_refusal_is_the_hosts(
    tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: bytes, *, dir_fd: int) -> Any:
        raise error

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(HostError) as caught:
        unpack(b"".join(TREE) + entry(b"d", data=b"z") + END, tmp_path)
    assert caught.value.errno == (error.errno or errno.EIO)


# ---- directories, and whiteouts, that take the place of something


MARK = f"{'user' if os.geteuid() else 'trusted'}.overlay.opaque"


@pytest.mark.parametrize(
    ("before", "opaque"),
    [
        ([], False),
        ([entry(b"d/", b"5")], False),
        ([entry(b"d")], True),
        ([entry(b"d", b"2", link=b"e")], True),
        ([entry(b".wh.d")], True),
        ([entry(b"d"), entry(b"d/", b"5"), entry(b"d", data=b"x")], True),
    ],
)
def test_a_directory_hides_what_its_layer_hid(
    tmp_path: Path, before: list[bytes], opaque: bool
) -> None:
    """As if the layer were unpacked over the lower one: what it replaced there does not come back."""
    unpack(b"".join(before) + entry(b"d/", b"5") + END, tmp_path)
    assert (MARK in os.listxattr(tmp_path / "d")) is opaque


def test_a_whiteout_is_no_file_to_link_to(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        unpack(entry(b".wh.f") + entry(b"g", b"1", link=b"f") + END, tmp_path)
    assert caught.value.entry == "g"
    assert not (tmp_path / "g").exists()
