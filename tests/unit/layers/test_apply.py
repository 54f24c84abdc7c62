"""The pipeline: what comes out, and that it always ends."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from containerkit.errors import (
    ArchiveError,
    DigestMismatch,
    HostError,
    UnsafePath,
    UnsupportedMediaType,
)
from containerkit.layers.apply import AppliedLayer, apply_layer
from containerkit.model.digest import Digest
from containerkit.model.image_limits import ImageLimits
from tests.support.tars import END, TAR, entry, pieces

GZIP = f"{TAR}+gzip"
LAYER = b"".join(entry(b"d/f%d" % n, data=b"x" * 1000, mtime=n) for n in range(100)) + END
LARGE = b"".join(entry(b"l%d" % n, data=bytes(1 << 20)) for n in range(40)) + END
"""Longer than all queues together."""


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def apply(data: bytes, destination: Path, *, limits: ImageLimits | None = None) -> AppliedLayer:
    return apply_layer(
        pieces(data, 1 << 18),
        media_type=TAR,
        diff_id=Digest.of(data),
        destination=destination,
        limits=limits or ImageLimits(),
    )


def test_a_layer_is_unpacked(tmp_path: Path) -> None:
    blob = gzip.compress(LAYER)
    counted: list[int] = []
    applied = apply_layer(
        pieces(blob, 100),
        media_type=GZIP,
        diff_id=Digest.of(LAYER),
        destination=tmp_path,
        progress=counted.append,
    )
    assert applied == AppliedLayer(entries=100, size=100_000)
    assert sum(counted) == len(blob)
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == sorted(f"f{n}" for n in range(100))
    assert (tmp_path / "d/f7").read_bytes() == b"x" * 1000
    assert (tmp_path / "d/f7").stat().st_mtime == 7


def test_an_empty_layer(tmp_path: Path) -> None:
    assert apply(END, tmp_path) == AppliedLayer(0, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_root_is_open_to_all_whatever_it_was(tmp_path: Path) -> None:
    """The store keeps its directories closed; the root of a container must not be."""
    tmp_path.chmod(0o2700)
    apply(END, tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o755


def test_another_diff_id(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch) as raised:
        apply_layer([LAYER], media_type=TAR, diff_id=Digest.of(b""), destination=tmp_path)
    assert raised.value.expected == str(Digest.of(b""))
    assert raised.value.actual == str(Digest.of(LAYER))


def test_sha512(tmp_path: Path) -> None:
    import hashlib

    diff_id = Digest("sha512", hashlib.sha512(LAYER).hexdigest())
    apply_layer([LAYER], media_type=TAR, diff_id=diff_id, destination=tmp_path)


def test_an_unknown_media_type_touches_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(UnsupportedMediaType):
        apply_layer([], media_type="text/plain", diff_id=Digest.of(b""), destination=tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o700


def test_no_destination(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(HostError, match=f"cannot unpack layer sha256:.* into .*{name}"):
            apply(LAYER, tmp_path / name)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (entry(b"../f") + LARGE, UnsafePath),
        (entry(b"f", b"Z") + LARGE, ArchiveError),
        (LARGE[:-1024] + entry(b"f", b"Z") + END, ArchiveError),
        (LARGE[: 5 << 20], ArchiveError),
    ],
    ids=["at the start, unsafe", "at the start", "at the end", "cut"],
)
def test_a_failure_of_the_applier_comes_out(
    data: bytes, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        apply(data, tmp_path)


def test_the_source_is_not_read_on_after_a_failure(tmp_path: Path) -> None:
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for piece in pieces(entry(b"f", b"Z") + LARGE, 1 << 20):
            taken += 1
            yield piece

    with pytest.raises(ArchiveError):
        apply_layer(source(), media_type=TAR, diff_id=Digest.of(b""), destination=tmp_path)
    assert taken <= 12


@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_failure_of_the_source_comes_out_unchanged(after: int, tmp_path: Path) -> None:
    failure = ConnectionResetError("reset")

    def source() -> Iterator[bytes]:
        for number, piece in enumerate(pieces(LARGE, 1 << 20)):
            if number == after:
                raise failure
            yield piece

    with pytest.raises(ConnectionResetError) as raised:
        apply_layer(source(), media_type=TAR, diff_id=Digest.of(LARGE), destination=tmp_path)
    assert raised.value is failure


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        yield LARGE[: 3 << 20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_layer(source(), media_type=TAR, diff_id=Digest.of(LARGE), destination=tmp_path)


def test_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()

    def source() -> Iterator[bytes]:
        for number, piece in enumerate(pieces(LARGE, 1 << 20)):
            if number == 3:
                cancelled.set()
            assert number < 4, "read on after it was cancelled"
            yield piece

    with pytest.raises(CancelledError):
        apply_layer(
            source(),
            media_type=TAR,
            diff_id=Digest.of(LARGE),
            destination=tmp_path,
            cancelled=cancelled,
        )
    assert not (tmp_path / "l5").exists()


def test_a_failure_of_progress_comes_out(tmp_path: Path) -> None:
    def progress(count: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        apply_layer(
            [LAYER],
            media_type=TAR,
            diff_id=Digest.of(LAYER),
            destination=tmp_path,
            progress=progress,
        )


def test_limits_reach_the_applier(tmp_path: Path) -> None:
    apply(LAYER, tmp_path, limits=ImageLimits(entries=101, size=100_000, depth=2))  # with d itself
    for number, tight in enumerate(
        (ImageLimits(entries=100), ImageLimits(size=99_999), ImageLimits(depth=1))
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ArchiveError):
            apply(LAYER, tmp_path / str(number), limits=tight)


def test_the_caller_keeps_its_umask_and_working_directory(tmp_path: Path) -> None:
    """The applier's thread takes a umask of its own; nobody else may see that."""
    before = os.umask(0o027)
    try:
        apply(entry(b"open", mode=0o666) + entry(b"d", b"5", mode=0o777) + END, tmp_path)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    here = Path.cwd()
    try:
        other = threading.Thread(target=os.chdir, args=(tmp_path,))
        other.start()
        other.join()
        assert Path.cwd() == tmp_path.resolve()  # this thread still shares it
    finally:
        os.chdir(here)
    assert (tmp_path / "open").stat().st_mode & 0o7777 == 0o666
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o777
