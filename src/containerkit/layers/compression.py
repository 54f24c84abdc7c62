"""Blob bytes to tar bytes: gzip, zstd, or as they are; and gzip the other way.

Owns: which media types are read and by which codec, and what is written.  Must not: hash, know files.  Every step makes at
most `CHUNK` bytes, whatever the compressed bytes claim, so that a bomb costs time, never memory.
Flow: `layers.apply` pulls tar bytes out of here, which pulls blob bytes from the network or store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import IO, Final, cast

from containerkit._native import BROKEN_HINT
from containerkit.errors import LIMIT_HINT, ArchiveError, UnsupportedMediaType
from containerkit.model.image_limits import ZSTD_WINDOW

CHUNK: Final = 1 << 20
"""Bytes made at a time: large enough that locks and calls cost nothing beside the work."""

_GZIP: Final = 31  # zlib's wbits for a gzip header

_LEVEL: Final = 0

_GZIP_MARK: Final = b"\x1f\x8b\x08"
_ZSTD_MARK: Final = b"\x28\xb5\x2f\xfd"
_TAR_MARK: Final = (257, 262)
"""Where a tar header says "ustar"."""

_FIRST: Final = 1 << 14
"""Bytes that a gzip member gets first, then twice as many each time: the codec copies what it did not
consume, so a stream of tiny members given whole would be copied once for each."""

_LAYER = "application/vnd.oci.image.layer."
_DOCKER = "application/vnd.docker.image.rootfs."

Decompressor = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Takes a blob in pieces, gives tar bytes in pieces of at most `CHUNK` bytes."""


def decompressor(media_type: str, *, window: int = ZSTD_WINDOW) -> Decompressor:
    """Choose how to read a layer of this media type; its first bytes win over what the type says.

    Args:
        media_type: of the blob.
        window: bytes of history that a zstd frame may ask for.

    Raises:
        UnsupportedMediaType: it is not a layer, or of a kind that is not read here.

    Spec: image-spec layer.md, media types; Docker's image manifest schema 2.
    """
    found = _BY_MEDIA_TYPE.get(media_type.partition(";")[0].strip().lower())
    if found is None:
        raise UnsupportedMediaType(
            f"cannot unpack a layer of media type {media_type[:200]!r}: not known",
            hint="layers are tar archives, plain or compressed with gzip or zstd",
            media_type=media_type,
        )
    return partial(_sniffed, said=found, window=window)


def _sniffed(chunks: Iterable[bytes], *, said: Decompressor, window: int) -> Iterator[bytes]:
    """Read by the codec of the first bytes; by the said one when they are nobody's."""
    source = iter(chunks)
    start = b""
    for chunk in source:
        start += chunk
        if len(start) >= _TAR_MARK[1]:
            break
    codec = said
    if start.startswith(_GZIP_MARK):
        codec = gunzip
    elif start[:4] == _ZSTD_MARK or (start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5):
        codec = unzstd  # or a frame to skip
    elif start[slice(*_TAR_MARK)] == b"ustar" or (start and not any(start[:512])):
        codec = plain
    whole = chain((start,) if start else (), source)
    yield from unzstd(whole, window=window) if codec is unzstd else codec(whole)


def plain(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give the bytes as they are, large pieces cut."""
    for chunk in chunks:
        if len(chunk) <= CHUNK:
            if chunk:
                yield chunk
        else:
            for start in range(0, len(chunk), CHUNK):
                yield chunk[start : start + CHUNK]


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate gzip members one after the other; zeros may pad the end.

    Raises:
        ArchiveError: not gzip, damaged (its CRC is checked), or ended inside a member.
    """
    from isal import isal_zlib

    broken = cast("type[Exception]", isal_zlib.IsalError)  # typed as an instance
    member = None  # the one being read
    members = 0
    step = _FIRST
    try:
        for chunk in plain(chunks):
            at, made = 0, b""
            while at < len(chunk) or len(made) == CHUNK:  # a full piece: the codec may hold more
                data = chunk[at : at + step]
                at += len(data)
                if member is None:
                    data = data.lstrip(b"\0") if members else data
                    if not data:
                        continue
                    member = isal_zlib.decompressobj(_GZIP)
                    members += 1
                made = member.decompress(data, CHUNK)
                if made:
                    yield made
                if member.eof:
                    at -= len(member.unused_data)
                    member, made, step = None, b"", _FIRST
                else:
                    at -= len(member.unconsumed_tail)
                    step = min(2 * step, CHUNK)
    except broken as error:
        raise ArchiveError(f"cannot inflate layer: {error}", hint=BROKEN_HINT) from error
    if member is not None or not members:
        raise ArchiveError("cannot inflate layer: the gzip stream ends too early", hint=BROKEN_HINT)


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Deflate tar bytes; the same pieces give the same bytes.

    At the codec's lowest level, which makes of nothing less than a hundredth: zeros, however many,
    are never what a limit of images would take for a bomb (`ImageLimits.ratio`).
    """
    from isal import isal_zlib

    codec = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if made := codec.compress(piece):
            yield made
    yield codec.flush()


def unzstd(chunks: Iterable[bytes], *, window: int = ZSTD_WINDOW) -> Iterator[bytes]:
    """Decompress zstd frames one after the other.

    A stream cut inside a frame just ends here: the tar reader, or the diff id, notices.

    Raises:
        ArchiveError: not zstd, damaged, or of a larger window.
    """
    import zstandard

    codec = zstandard.ZstdDecompressor(max_window_size=window)
    source = _Reader(chunks)
    file = cast("IO[bytes]", source)  # zstandard only ever reads
    reader = codec.stream_reader(file, read_across_frames=True, closefd=False)
    try:
        while made := reader.read(CHUNK):
            yield made
    except zstandard.ZstdError as error:
        hint = LIMIT_HINT if "too much memory" in str(error) else BROKEN_HINT
        raise ArchiveError(f"cannot decompress layer: {error}", hint=hint) from error
    if not source.used:
        raise ArchiveError("cannot decompress layer: the zstd stream is empty", hint=BROKEN_HINT)


class _Reader:
    """Chunks as the file that zstandard's reader wants: it takes reads shorter than asked."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self.used = False

    def read(self, size: int = -1) -> bytes:
        rest = self._rest
        while not rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            rest = chunk
        self.used = True
        if size < 0 or len(rest) <= size:
            self._rest = b""
            return rest
        self._rest = rest[size:]
        return rest[:size]


_BY_MEDIA_TYPE: Final[dict[str, Decompressor]] = {
    **{
        f"{_LAYER}{kind}v1.tar{suffix}": codec
        for kind in ("", "nondistributable.")
        for suffix, codec in (("", plain), ("+gzip", gunzip), ("+zstd", unzstd))
    },
    **{
        f"{_DOCKER}{kind}tar{suffix}": codec
        for kind in ("diff.", "foreign.diff.")
        for suffix, codec in (("", plain), (".gzip", gunzip), (".zstd", unzstd))
    },
}
