"""Blob bytes to tar bytes: what is read, and what is refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable

import pytest
import zstandard
from isal import isal_zlib

from containerkit.errors import ArchiveError, UnsupportedMediaType
from containerkit.layers.compression import (
    CHUNK,
    Decompressor,
    decompressor,
    gunzip,
    gzipped,
    plain,
    unzstd,
)
from containerkit.model.image_limits import ImageLimits
from tests.support.tars import END, entry, pieces

MIXED = os.urandom(200_000) + bytes(3 * CHUNK) + b"layer " * 100_000
SKIPPABLE = b"\x50\x2a\x4d\x18\x08\x00\x00\x00whatever"
"""A zstd frame that holds no data: zstd:chunked layers end with one."""


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


CODECS: list[tuple[Decompressor, Callable[[bytes], bytes]]] = [
    (plain, bytes),
    (gunzip, gzip.compress),
    (unzstd, zstd),
]


@pytest.mark.parametrize(
    ("media_type", "codec"),
    [
        ("application/vnd.oci.image.layer.v1.tar", plain),
        ("application/vnd.oci.image.layer.v1.tar+gzip", gunzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", unzstd),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", gunzip),
        ("application/vnd.docker.image.rootfs.diff.tar", plain),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gunzip),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", unzstd),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gunzip),
        ("Application/vnd.OCI.image.layer.v1.tar+gzip; charset=x", gunzip),
    ],
)
def test_the_media_type_decides_where_the_bytes_say_nothing(
    media_type: str, codec: Decompressor
) -> None:
    blob = b"no mark of any kind" * 30

    def outcome(read: Decompressor) -> bytes | type[Exception]:
        try:
            return b"".join(read(pieces(blob, 100)))
        except ArchiveError as error:
            return type(error)

    assert outcome(decompressor(media_type)) == outcome(codec)


ARCHIVE = entry(b"f", data=b"x" * 700) + END
WRITTEN = {
    "tar": ARCHIVE,
    "tar of nothing": END,
    "gzip": gzip.compress(ARCHIVE),
    "zstd": zstd(ARCHIVE),
    "zstd after a frame to skip": SKIPPABLE + zstd(ARCHIVE),
}


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_the_first_bytes_win_over_the_media_type(kind: str, suffix: str, size: int) -> None:
    read = decompressor(f"application/vnd.oci.image.layer.v1.tar{suffix}")
    wanted = END if kind == "tar of nothing" else ARCHIVE
    assert b"".join(read(pieces(WRITTEN[kind], size))) == wanted


def test_what_has_no_mark_is_read_as_it_is_said_to_be() -> None:
    """v7's tar: nothing tells it from noise."""
    old = entry(b"f", data=b"x" * 700, magic=b"") + END
    assert b"".join(decompressor("application/vnd.oci.image.layer.v1.tar")([old])) == old
    with pytest.raises(ArchiveError):
        list(decompressor("application/vnd.oci.image.layer.v1.tar+gzip")([old]))


@pytest.mark.parametrize("media_type", ["", "application/json", "x" * 10_000, "a.tar+gzip\n"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType) as raised:
        decompressor(media_type)
    assert raised.value.media_type == media_type
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(("codec", "compress"), CODECS, ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("size", [97, 4096, 1 << 18, 1 << 25])
def test_round_trip(codec: Decompressor, compress: Callable[[bytes], bytes], size: int) -> None:
    made = list(codec(pieces(compress(MIXED), size)))
    assert b"".join(made) == MIXED
    assert max(map(len, made)) <= CHUNK
    assert all(made)


@pytest.mark.parametrize(
    ("codec", "compress"), [(gunzip, gzip.compress), (unzstd, zstd)], ids=["gzip", "zstd"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 50, 10_000])
def test_several_streams_in_a_row(
    codec: Decompressor, compress: Callable[[bytes], bytes], size: int
) -> None:
    blob = compress(b"one") + compress(b"") + compress(b"two" * 1000)
    assert b"".join(codec(pieces(blob, size))) == b"one" + b"two" * 1000


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_padding_after_gzip_and_skippable_zstd_frames(size: int) -> None:
    assert b"".join(gunzip(pieces(gzip.compress(b"x") + bytes(700), size))) == b"x"
    assert b"".join(unzstd(pieces(zstd(b"x") + SKIPPABLE, size))) == b"x"


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 15, -9, -8, -1])
def test_cut_gzip(cut: int) -> None:
    with pytest.raises(ArchiveError, match="ends too early"):
        list(gunzip([gzip.compress(b"some data")[:cut]]))


def test_damaged_gzip_is_noticed_by_its_checksum() -> None:
    blob = bytearray(gzip.compress(b"some data"))
    blob[-6] ^= 1
    with pytest.raises(ArchiveError, match="cannot inflate layer"):
        list(gunzip([bytes(blob)]))


@pytest.mark.parametrize("codec", [gunzip, unzstd])
def test_something_else_is_refused(codec: Decompressor) -> None:
    for blob in (b"", b"this is not compressed at all", bytes(1000)):
        with pytest.raises(ArchiveError):
            list(codec([blob]))


def test_garbage_after_the_stream_is_refused() -> None:
    for codec, compress in ((gunzip, gzip.compress), (unzstd, zstd)):
        with pytest.raises(ArchiveError):
            list(codec([compress(b"x") + b"then something else"]))


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    """A frame can ask for 4 GiB of memory in six bytes."""
    for log, fits in ((27, True), (28, False)):
        parameters = zstandard.ZstdCompressionParameters(window_log=log, compression_level=1)
        codec = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        blob = codec.compress(b"x" * 1000) + codec.flush()
        if fits:
            assert b"".join(unzstd([blob])) == b"x" * 1000
        else:
            with pytest.raises(ArchiveError, match="too much memory"):
                list(unzstd([blob]))


@pytest.mark.parametrize(
    ("codec", "compress"), [(gunzip, gzip.compress), (unzstd, zstd)], ids=["gzip", "zstd"]
)
def test_a_bomb_comes_a_chunk_at_a_time(
    codec: Decompressor, compress: Callable[[bytes], bytes]
) -> None:
    """However much one piece claims to hold, no more than a chunk of it exists at once."""
    blob = compress(bytes(1 << 28))
    made = codec([blob])
    assert {len(next(made)) for _ in range(20)} == {CHUNK}


def test_tiny_gzip_members_are_not_copied_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec copies what follows a member: that is little, even behind a large member."""
    given: list[int] = []
    make = isal_zlib.decompressobj

    class Counted:
        def __init__(self, wbits: int) -> None:
            self._codec = make(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self._codec.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._codec, name)

    monkeypatch.setattr(isal_zlib, "decompressobj", Counted)
    large = os.urandom(2 * CHUNK)
    tiny = gzip.compress(b"") * 20_000
    blob = gzip.compress(large) + tiny + b"\0".join([gzip.compress(b"x")] * 20_000)
    assert b"".join(gunzip([blob])) == large + b"x" * 20_000
    assert sum(given) < 40_000 * (20 << 10)
    assert max(given) == CHUNK


def test_what_is_written_is_read_back_and_never_looks_like_a_bomb() -> None:
    made = b"".join(gzipped(pieces(MIXED, 70_000)))
    assert b"".join(gunzip([made])) == MIXED
    assert b"".join(gzipped(pieces(MIXED, 70_000))) == made
    zeros = sum(map(len, gzipped([bytes(CHUNK)] * 16)))
    assert ImageLimits().ratio * zeros > 16 * CHUNK
